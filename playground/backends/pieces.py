"""A transformers vocabulary as bytes: what each token spells by itself, as llama.cpp tells it of its own.

The tokenizers library decodes whole texts. Its stream of single tokens raises where a run of byte tokens (`<0xED>`)
turns out to be no character, and takes the space off an answer's first word; bytes can be joined and read by anyone.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Pieces:
    """The bytes of every token of a tokenizer, found out when they are first asked for."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = tokenizer.added_tokens_decoder
        self._control = {number for number, token in self._added.items() if token.special}
        self._control |= set(tokenizer.all_special_ids)
        steps = set(_steps(tokenizer))
        self._alphabet = {char: byte for byte, char in bytes_to_unicode().items()} if "ByteLevel" in steps else {}
        self._falls_back = "ByteFallback" in steps
        self._before = tokenizer.encode("a", add_special_tokens=False)[-1:]
        self._known: dict[int, bytes] = {}

    def spelled(self, token: int) -> bytes:
        """The bytes of a token; a control token gives its name, an id that no word has gives nothing."""
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = self._find(token)
        return found

    def said(self, token: int) -> bytes:
        """The bytes that a token adds to an answer: none where it is a control token."""
        return b"" if token in self._control else self.spelled(token)

    def _find(self, token: int) -> bytes:
        if token in self._added:
            return str(self._added[token]).encode()
        word = self._tokenizer.convert_ids_to_tokens(token)
        if not isinstance(word, str):
            return b""
        if token in self._control:
            return word.encode()
        if self._alphabet:
            return self._from_letters(word)
        if self._falls_back and (byte := BYTE.fullmatch(word)):
            return bytes([int(byte[1], 16)])
        return self._beside_another(token).encode()

    def _from_letters(self, word: str) -> bytes:
        """Byte-level vocabularies write every byte as a letter; a word with other letters stands for itself."""
        if all(char in self._alphabet for char in word):
            return bytes(self._alphabet[char] for char in word)
        return word.encode()

    def _beside_another(self, token: int) -> str:
        """What a token adds to a word before it: alone, or first, it would lose its space."""
        before, both = self._decoded(self._before), self._decoded([*self._before, token])
        return both[len(before) :] if both.startswith(before) else self._decoded([token])

    def _decoded(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def _steps(tokenizer: Any) -> Iterator[str]:
    """The kinds of the steps by which a tokenizer's decoder works; none where it is not of the tokenizers library."""
    raw = getattr(tokenizer, "backend_tokenizer", None)
    waiting = [json.loads(raw.to_str())["decoder"]] if raw is not None else []
    while waiting:
        step = waiting.pop()
        if step is not None:
            yield step["type"]
            waiting += step.get("decoders", [])
