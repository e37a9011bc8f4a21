"""The tokenizer of a model's folder without transformers: rendered rows become token ids and the places of the loss."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from playground import prompts
from playground.errors import VariantError
from playground.typed.control import Control, Reserved
from playground.typed.twin import Twin, reserved_in
from playground.typed.written import Written
from training.data.as_loaded import Loaded, loaded, stands_as_written

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

IGNORED = -100
"""The label of a token that carries no loss, as PyTorch and TRL spell it."""


@dataclass(frozen=True)
class Tokens:
    """Token ids with their labels: the id itself where there is loss, IGNORED elsewhere. Both [tokens]."""

    ids: list[int]
    labels: list[int]

    @property
    def answers(self) -> int:
        """Return how many tokens carry loss."""
        return sum(label != IGNORED for label in self.labels)

    def cut(self, length: int) -> "Tokens":
        """Return the first `length` tokens."""
        return Tokens(self.ids[:length], self.labels[:length])


class Pair(NamedTuple):
    """A preference as token ids: the prompt, and each answer after it."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


@dataclass(frozen=True)
class Text:
    """A rendered row: the text, and the [start, end) of each part that is learnt, in characters."""

    text: str
    learnt: tuple[tuple[int, int], ...]
    typed: tuple[tuple[int, int], ...] = ()
    """Where a message types a control token, which is text: [start, end) in characters."""

    def part(self, begin: int, end: int) -> "Text":
        """Return the text from one place to another, of which nothing is learnt."""
        typed = tuple((start - begin, stop - begin) for start, stop in self.typed if begin <= start < end)
        return Text(self.text[begin:end], (), typed)


COUNTED_AT_ONCE = 512
NOWHERE = -1
Placed = tuple[int, int, int]
"""A token id with its [start, end) in the text; NOWHERE for one that the tokenizer added."""


class FolderTokenizer:
    """What a model's folder holds as tokenizer, as the package `tokenizers` reads it."""

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder = folder
        self.name = name or folder.name
        self._config = _json(folder / "tokenizer_config.json")

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """Return the model's own tokenizer, the one that transformers loads, as the package `tokenizers` has it."""
        from tokenizers import Tokenizer

        file = self.folder / "tokenizer.json"
        made = Tokenizer.from_file(str(file)) if self._loaded is None else Tokenizer.from_str(self._loaded.tokenizer)
        made.no_truncation()
        made.no_padding()
        return made

    @cached_property
    def tokens(self) -> dict[str, str]:
        """Return the special tokens by the names that a template is given them under."""
        return prompts.special_tokens(self.folder, self._config) if self._loaded is None else self._loaded.tokens

    @cached_property
    def _loaded(self) -> Loaded | None:
        """Return what transformers makes of the files; None where that is what tokenizer.json says."""
        config = self.folder / "config.json"
        written = stands_as_written(self._config, _json(config) if config.exists() else {})
        return None if written and (self.folder / "tokenizer.json").is_file() else loaded(self.folder)

    @cached_property
    def bos(self) -> str:
        """Return the token that begins a text; empty where there is none."""
        return self.tokens.get("bos_token", "")

    @cached_property
    def eos(self) -> str:
        """Return the token that ends a text. A model without it never learns to stop: VariantError."""
        eos = self.tokens.get("eos_token", "")
        if not eos:
            raise VariantError(
                f"The tokenizer of {self.name} names no EOS token.",
                f"Add eos_token to {self.folder / 'tokenizer_config.json'}.",
            )
        return eos

    def encode(self, rows: Sequence[Text], bos: bool = True) -> list[Tokens]:
        """Return ids and labels of rendered rows; control tokens are read as such, but those that somebody typed.

        BOS comes once or never; `bos` False: these are no beginnings of texts.
        """
        encoded: list[Tokens | None] = [self._in_parts(row, bos) if row.typed else None for row in rows]
        for special in (True, False):
            places = [
                at
                for at, row in enumerate(rows)
                if not row.typed and (bos and self._wants_special(row.text)) == special
            ]
            batch = self.tokenizer.encode_batch([rows[place].text for place in places], add_special_tokens=special)
            for place, encoding in zip(places, batch, strict=True):
                encoded[place] = _labelled(_placed(encoding), rows[place])
        return [tokens for tokens in encoded if tokens is not None]

    def _in_parts(self, row: Text, bos: bool) -> Tokens:
        """Encode a row in which somebody typed control tokens: these are text."""

        def usual(begin: int, end: int) -> list[Placed]:
            return _placed(self.tokenizer.encode(row.text[begin:end], add_special_tokens=False), begin)

        def plain(begin: int, end: int) -> list[Placed]:
            ids, places = self._twin.encoding(row.text[begin:end], first=begin == 0)
            return [(number, begin + start, begin + stop) for number, (start, stop) in zip(ids, places, strict=True)]

        before, after = self._added_around if bos and self._wants_special(row.text) else ([], [])
        return _labelled([*before, *Written(row.text, row.typed, self.control).encoded(usual, plain), *after], row)

    @cached_property
    def control(self) -> Control:
        """Return the tokens that are text where somebody typed them."""
        return Control(self.reserved.special)

    @cached_property
    def reserved(self) -> Reserved:
        """Return what is one token wherever it stands."""
        more = self._config.get("extra_special_tokens") or self._config.get("additional_special_tokens") or []
        named = map(prompts.token_text, more if isinstance(more, list) else [])
        return reserved_in(self.tokenizer, {*self.tokens.values(), *named})

    @cached_property
    def _twin(self) -> Twin:
        return Twin(self.tokenizer, self.control.edges)

    @cached_property
    def _added_around(self) -> tuple[list[Placed], list[Placed]]:
        """Return what the tokenizer adds before a text and after it; it has no place in the text."""
        whole = self.tokenizer.encode("a")
        own = [at for at, added in enumerate(whole.special_tokens_mask) if not added]
        added = [(number, NOWHERE, NOWHERE) for number in whole.ids]
        return added[: own[0]], added[own[-1] + 1 :]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, BOS included where the tokenizer adds it; on every core."""
        counted: list[int] = []
        for start in range(0, len(texts), COUNTED_AT_ONCE):
            part = texts[start : start + COUNTED_AT_ONCE]
            batch = self.tokenizer.encode_batch_fast(part, add_special_tokens=False)
            counted += [len(e.ids) + self.added(text) for e, text in zip(batch, part, strict=True)]
        return counted

    def added(self, text: str) -> int:
        """Return how many tokens the tokenizer adds to this text: none where the template wrote BOS already."""
        return self._most_added if self._wants_special(text) else 0

    @cached_property
    def _most_added(self) -> int:
        return int(self.tokenizer.num_special_tokens_to_add(False))

    def _wants_special(self, text: str) -> bool:
        return not (self.bos and text.startswith(self.bos))


def _placed(encoding: "Encoding", shift: int = 0) -> list[Placed]:
    """Return the tokens of an encoding with their places, later by `shift`; what was added has none."""
    rows = zip(encoding.ids, encoding.offsets, encoding.special_tokens_mask, strict=True)
    return [
        (number, NOWHERE, NOWHERE) if added and start == end else (number, start + shift, end + shift)
        for number, (start, end), added in rows
    ]


def _labelled(tokens: Sequence[Placed], row: Text) -> Tokens:
    """Give the loss to tokens that begin in a learnt part, or in the space before it: ` Hello` is one token."""
    labels = [IGNORED] * len(tokens)
    spans = iter(row.learnt)
    span = next(spans, None)
    for index, (number, start, end) in enumerate(tokens):
        if start == NOWHERE:
            continue
        while span is not None and start >= span[1]:
            span = next(spans, None)
        if span is None:
            break
        if start >= span[0] or row.text[span[0] : end].strip():
            labels[index] = number
    return Tokens([number for number, _, _ in tokens], labels)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise VariantError(
            f"{path.parent} has no tokenizer that can be read: {path.name}, {error.strerror}.",
            "Copy tokenizer.json and tokenizer_config.json beside the weights.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise VariantError(f"{path} is not valid JSON: {error}.", "Copy the file again.") from error
    return content if isinstance(content, dict) else {}
