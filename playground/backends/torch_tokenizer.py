"""The tokenizer of a transformers model or of an adapter: its words, their bytes, and which of them end an answer."""

import copy
import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from playground.allowance import LARGE, patiently
from playground.errors import VariantError
from playground.prompts import end_tokens
from playground.protocol import Tokenizer, Vocabulary
from playground.typed.control import Control, Edges, Reserved
from playground.typed.longest import longest_token
from playground.typed.twin import Twin, reserved_in
from playground.wording import worded

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TorchTokenizer(Tokenizer):
    """What a folder holds as tokenizer, for a model with `size` rows whose own config ends answers with `ends`."""

    def __init__(self, folder: Path, size: int, ends: frozenset[int]) -> None:
        self.size = size
        self._template: str | None = None
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self._pieces = Pieces(self._tokenizer)
        self._ends = ends | _ends(self._tokenizer)
        self._twin: tuple[Control, Twin] | None = None

    def with_template(self, template: str | None, size: int) -> "TorchTokenizer":
        """Return the same tokenizer for a model with `size` rows, with a template that stands above its own."""
        other = copy.copy(self)
        other._template, other.size = template, size
        return other

    def rowless(self, size: int) -> list[str]:
        """Return the tokens beyond `size` rows that may be asked for: all but those that only fill up a batch."""
        beyond = [word for word, token in self._tokenizer.get_vocab().items() if token >= size]
        template = str(self._tokenizer.chat_template)
        fillers = {self._tokenizer.pad_token, self._tokenizer.unk_token} - {self._tokenizer.eos_token}
        return [word for word in beyond if word not in fillers or word in template]

    @property
    def words(self) -> int:
        """Return how many tokens it can give."""
        return max(self._tokenizer.get_vocab().values(), default=-1) + 1

    def vocabulary(self) -> Vocabulary:
        tokenizer = self._tokenizer
        template = self._template or tokenizer.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return Vocabulary(
            bos=tokenizer.bos_token or "",
            eos=tokenizer.eos_token or "",
            prefix=prefix if prefix is not None else 0,
            eos_id=tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0,
            template=template,
            tokens=tokenizer.special_tokens_map,
        )

    def encode(self, text: str, add_special: bool | None = None) -> list[int]:
        bos = self._tokenizer.bos_token
        if add_special is None:
            add_special = not (bos and text.startswith(bos))
        ids = patiently(len(text), lambda: list(self._tokenizer.encode(text, add_special_tokens=add_special)))
        if max(ids, default=0) >= self.size:
            strange = self._tokenizer.convert_ids_to_tokens(max(ids))
            raise VariantError(worded("torch_tokenizer.text_holds_token", strange=strange))
        return ids

    def at_least(self, text: str) -> int:
        return self.reserved.kept(text) // self._longest if len(text) >= LARGE and self._longest else 0

    @cached_property
    def _longest(self) -> int:
        raw = getattr(self._tokenizer, "backend_tokenizer", None)
        return longest_token(raw) if raw is not None else 0

    @cached_property
    def reserved(self) -> Reserved:
        """Return what is one token wherever it stands, as the tokenizer's own files say."""
        raw = getattr(self._tokenizer, "backend_tokenizer", None)
        named = self._tokenizer.all_special_tokens
        return reserved_in(raw, named) if raw is not None else Reserved(dict.fromkeys(named, Edges()), {})

    def plain(self, piece: str, control: Control, first: bool) -> list[int]:
        if self._twin is None or self._twin[0] is not control:
            raw = getattr(self._tokenizer, "backend_tokenizer", None)
            if raw is None:
                raise VariantError(
                    worded("torch_tokenizer.message_holds_control"),
                )
            self._twin = control, Twin(raw, control.edges)
        twin = self._twin[1]
        return patiently(len(piece), lambda: twin.ids(piece, first))

    def is_end(self, token: int) -> bool:
        return token in self._ends

    def piece(self, token: int) -> bytes:
        return self._pieces.spelled(token)

    def answer_bytes(self, token: int) -> bytes:
        return self._pieces.answer_bytes(token)


def _ends(tokenizer: Any) -> frozenset[int]:
    """Return every token that ends an answer: the tokenizer's own, and those that llama.cpp counts."""
    words = tokenizer.get_vocab()
    ends = {words[token] for token in end_tokens(words)} | {tokenizer.eos_token_id}
    return frozenset(ends - {None})


class Pieces:
    """The bytes of every token of a tokenizer, found out when they are first asked for.

    The tokenizers library decodes whole texts. Its stream of single tokens raises where a run of byte tokens (`<0xED>`)
    turns out to be no character, and takes the space off an answer's first word; bytes can simply be joined.
    """

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
        """Return the bytes of a token; a control token gives its name, an id that no word has gives nothing."""
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = self._find(token)
        return found

    def answer_bytes(self, token: int) -> bytes:
        """Return the bytes that a token adds to an answer: none where it is a control token."""
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
        """Read a byte-level vocabulary, which writes every byte as a letter; other words stand for themselves."""
        if all(char in self._alphabet for char in word):
            return bytes(self._alphabet[char] for char in word)
        return word.encode()

    def _beside_another(self, token: int) -> str:
        """Return what a token adds to a word before it: alone, or first, it would lose its space."""
        before, both = self._decoded(self._before), self._decoded([*self._before, token])
        return both[len(before) :] if both.startswith(before) else self._decoded([token])

    def _decoded(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def _steps(tokenizer: Any) -> Iterator[str]:
    """Yield the kinds of steps in a tokenizer's decoder; none where it is not of the tokenizers library."""
    raw = getattr(tokenizer, "backend_tokenizer", None)
    waiting = [json.loads(raw.to_str())["decoder"]] if raw is not None else []
    while waiting:
        step = waiting.pop()
        if step is not None:
            yield step["type"]
            waiting += step.get("decoders", [])
