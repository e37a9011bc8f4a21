"""A twin of a tokenizer (of the package `tokenizers`) that reads control tokens as plain text."""

import json
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from playground.errors import VariantError
from playground.typed.control import Edges, Reserved
from playground.wording import worded

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BORDER = "\U000ff0ad"
"""Stands for the token before a piece, so that a tokenizer does not take the piece for the beginning of a text."""
ELSEWHERE = "\U000ff0ae"
"""Begins the names that control tokens have in the twin, which no text spells."""


def reserved_in(tokenizer: "Tokenizer", named: Iterable[str] = ()) -> Reserved:
    """Return what a tokenizer reads as one token; `named`: special tokens that its other files name."""
    control = set(named)
    special: dict[str, Edges] = {}
    added: dict[str, Edges] = {}
    for token in tokenizer.get_added_tokens_decoder().values():
        rows = special if token.special or token.content in control else added
        rows[token.content] = Edges(token.lstrip, token.rstrip)
    return Reserved(special, added)


class Twin:
    """Encodes a piece that stands between two control tokens; those that are typed in it are text."""

    def __init__(self, tokenizer: "Tokenizer", control: Collection[str]) -> None:
        from tokenizers import AddedToken, Tokenizer

        self._tokenizer = Tokenizer.from_str(json.dumps(_renamed(json.loads(tokenizer.to_str()), frozenset(control))))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.add_tokens([AddedToken(BORDER, normalized=False)])

    def encoding(self, piece: str, first: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Return token ids of a piece and where they stand in it; `first`: it begins its text."""
        encoded, before = self._encoded(piece, first)
        places = [(start - before, end - before) for start, end in encoded.offsets[before:]]
        return list(encoded.ids[before:]), places

    def ids(self, piece: str, first: bool) -> list[int]:
        """Return token ids of a piece alone."""
        encoded, before = self._encoded(piece, first)
        return list(encoded.ids[before:])

    def _encoded(self, piece: str, first: bool) -> tuple[Any, int]:
        """Return a piece encoded, and how many tokens stand before it."""
        if BORDER in piece or ELSEWHERE in piece:
            raise VariantError(
                worded("twin.message_holds_control"),
            )
        before = 0 if first else 1
        return self._tokenizer.encode(BORDER * before + piece, add_special_tokens=False), before


def _renamed(rows: dict[str, Any], control: frozenset[str]) -> dict[str, Any]:
    """Return a tokenizer.json in which control tokens keep their ids and are spelled as nobody types."""

    def other(word: str) -> str:
        return ELSEWHERE + word if word in control else word

    model = rows["model"]
    for token in rows["added_tokens"]:
        token["content"] = other(token["content"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {other(word): number for word, number in model["vocab"].items()}
    else:
        model["vocab"] = [[other(word), score] for word, score in model["vocab"]]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = other(model["unk_token"])
    if "merges" in model:
        model["merges"] = [pair for pair in model["merges"] if not control & {*_pair(pair), "".join(_pair(pair))}]
    return rows


def _pair(merge: str | list[str]) -> list[str]:
    return merge.split(" ") if isinstance(merge, str) else merge
