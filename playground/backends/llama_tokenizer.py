"""The vocabulary of a GGUF file, as llama.cpp reads it."""

import ctypes
from functools import cached_property
from typing import Any

import llama_cpp.llama_cpp as lib

from playground.allowance import LARGE, current, patiently
from playground.backends.llama_parts import LEAST, Parts
from playground.protocol import Tokenizer, Vocabulary
from playground.typed.control import Control, Edges, Reserved

CONTROL = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN
USER_DEFINED = lib.LLAMA_TOKEN_ATTR_USER_DEFINED
LEFT, RIGHT = lib.LLAMA_TOKEN_ATTR_LSTRIP, lib.LLAMA_TOKEN_ATTR_RSTRIP
NAMED = {"unk": "unknown", "pad": "padding", "sep": "seperator", "cls": "cls", "mask": "mask"}
"""Special tokens beside BOS and EOS as templates call them -> as the metadata does, in its own spelling."""


class LlamaTokenizer(Tokenizer):
    """The words of a loaded model, and the chat template that its file brings."""

    def __init__(self, model: Any) -> None:
        self._vocab = lib.llama_model_get_vocab(model)
        self.size = int(lib.llama_vocab_n_tokens(self._vocab))
        self._template = (lib.llama_model_chat_template(model, None) or b"").decode(errors="replace")
        self._bos = self._special(lib.llama_vocab_bos(self._vocab))
        self._eos = self._special(lib.llama_vocab_eos(self._vocab))
        self._tokens = {f"{name}_token": self._named(model, key) for name, key in NAMED.items()}

    def vocabulary(self) -> Vocabulary:
        bos, eos = lib.llama_vocab_bos(self._vocab), lib.llama_vocab_eos(self._vocab)
        return Vocabulary(
            bos=self._bos,
            eos=self._eos,
            prefix=bos if bos >= 0 else eos,
            eos_id=eos,
            template=self._template or None,
            tokens={name: token for name, token in self._tokens.items() if token}
            | {"bos_token": self._bos, "eos_token": self._eos},
        )

    def encode(self, text: str, add_special: bool | None = None) -> list[int]:
        if add_special is None:
            add_special = not (self._bos and text.startswith(self._bos))
        return patiently(len(text), lambda: self._encode(text, add_special, parse_special=True))

    def _encode(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        """Encode in parts that give what the whole would, in a time that grows with the text alone."""
        if len(text) <= LEAST:
            return self._encode_part(text, add_special, parse_special)
        ids: list[int] = []
        for part in self._parts[parse_special].of(text):
            current().look()
            ids += self._encode_part(part, False, parse_special)
        before, after = self._ends if add_special else ([], [])
        return [*before, *ids, *after]

    def at_least(self, text: str) -> int:
        return self.reserved.kept(text) // self._longest if len(text) >= LARGE and self._longest else 0

    @cached_property
    def _longest(self) -> int:
        """Return the bytes of the longest token; 0 for vocabularies in which a text may lose some of its own."""
        pieces = [self.piece(token) for token in range(self.size)]
        kind = lib.llama_vocab_type(self._vocab)
        has_all = {bytes([byte]) for byte in range(256)} <= set(pieces)
        if kind != lib.LLAMA_VOCAB_TYPE_SPM and not (kind == lib.LLAMA_VOCAB_TYPE_BPE and has_all):
            return 0
        return max(len(lib.llama_vocab_get_text(self._vocab, token) or b"") for token in range(self.size))

    @cached_property
    def _parts(self) -> tuple[Parts, Parts]:
        """Return what cuts a text where control tokens are text, and where they are read."""
        return Parts(self.reserved.added), Parts({**self.reserved.added, **self.reserved.special})

    @cached_property
    def _ends(self) -> tuple[list[int], list[int]]:
        """Return the tokens that are added before a text and behind it."""
        bare, whole = (self._encode_part("a", special, parse_special=True) for special in (False, True))
        at = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
        return whole[:at], whole[at + len(bare) :]

    def _encode_part(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        raw = text.encode()
        room = len(raw) + 8
        ids = (lib.llama_token * room)()
        count = lib.llama_tokenize(self._vocab, raw, len(raw), ids, room, add_special, parse_special)
        return list(ids[:count])

    @cached_property
    def reserved(self) -> Reserved:
        """Return what llama.cpp reads as one token wherever it stands: control tokens, and words that users defined."""
        found: tuple[dict[str, Edges], dict[str, Edges]] = {}, {}
        for token in range(self.size):
            kind = lib.llama_vocab_get_attr(self._vocab, token)
            if kind & (CONTROL | USER_DEFINED):
                word = (lib.llama_vocab_get_text(self._vocab, token) or b"").decode(errors="replace")
                found[not kind & CONTROL][word] = Edges(bool(kind & LEFT), bool(kind & RIGHT))
        return Reserved(*({word: edges for word, edges in words.items() if word} for words in found))

    def plain(self, piece: str, control: Control, first: bool) -> list[int]:
        """Encode without control tokens; one that llama.cpp finds even so is cut within its name."""
        return patiently(len(piece), lambda: self._plain(piece, control))

    def _plain(self, piece: str, control: Control) -> list[int]:
        ids = self._encode(piece, False, parse_special=False)
        if not any(self._name(token) in control.edges for token in set(ids)):
            return ids
        start = self._encode_part("\n", False, parse_special=False)
        ids, at = [], 0
        for begin, _ in control.find(piece):
            current().look()
            ids += self._going_on(piece[at : begin + 1], start, at)
            at = begin + 1
        return ids + self._going_on(piece[at:], start, at)

    def _name(self, token: int) -> str:
        return (lib.llama_vocab_get_text(self._vocab, token) or b"").decode(errors="replace")

    def _going_on(self, text: str, start: list[int], at: int) -> list[int]:
        """Encode what goes on where `at` is not 0, and gets no space of its own then."""
        ids = self._encode("\n" * (at > 0) + text, False, parse_special=False)
        return ids[len(start) :] if at else ids

    def is_end(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    def piece(self, token: int) -> bytes:
        return self._piece(token, special=True)

    def answer_bytes(self, token: int) -> bytes:
        return self._piece(token, special=False)

    def _piece(self, token: int, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        size = lib.llama_token_to_piece(self._vocab, token, buffer, 64, 0, special)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = lib.llama_token_to_piece(self._vocab, token, buffer, -size, 0, special)
        return buffer.raw[: max(size, 0)]

    def _special(self, token: int) -> str:
        return self._piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    def _named(self, model: Any, key: str) -> str:
        """Return a token that the file's metadata names by its id; empty where it names none."""
        buffer = ctypes.create_string_buffer(32)
        size = lib.llama_model_meta_val_str(model, f"tokenizer.ggml.{key}_token_id".encode(), buffer, 32)
        return self._special(int(buffer.value)) if size > 0 else ""

    def is_control(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_control(self._vocab, token))
