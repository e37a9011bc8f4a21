"""A prompt's text with the places where somebody typed a control token, and how it is encoded in parts."""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from playground.allowance import current
from playground.typed.control import Control, Edges

T = TypeVar("T")
Part = Callable[[int, int], list[T]]
"""Encodes the text from one place to another."""
HIDDEN = "\ufffd"


class Written(NamedTuple):
    """A text, and the [start, end) of what was typed into it: text, whatever it spells."""

    text: str
    typed: tuple[tuple[int, int], ...] = ()
    control: Control = Control({})

    @classmethod
    def with_signs(cls, text: str, begin: str, end: str, control: Control) -> "Written":
        """Take the signs out of a text and remember where they stood."""
        parts: list[str] = []
        typed, start, at = [], 0, 0
        for part in re.split(f"([{begin}{end}])", text):
            if part == begin:
                start = at
            elif part == end:
                typed += [(start, at)] * (start < at)
            else:
                parts.append(part)
                at += len(part)
        return cls("".join(parts), tuple(typed), control)

    def with_answer(self, said: str) -> "Written":
        """Return it with an answer behind it, in which control tokens are typed ones."""
        found = self.control.places(said, "assistant")
        at = len(self.text)
        return self._replace(text=self.text + said, typed=(*self.typed, *((at + b, at + e) for b, e in found)))

    def plus(self, more: str) -> "Written":
        """Return it with more text behind it, none of it typed."""
        return self._replace(text=self.text + more)

    def encoded(self, usual: "Part[T]", plain: "Part[T]") -> list[T]:
        """Encode in parts: `plain` what holds typed tokens, from one control token of the template to the next.

        The rest is `usual`. Where nothing was typed, the whole text is one part.
        """
        found: list[T] = []
        at = 0
        for begin, end, inner in self._pieces() if self.typed else ():
            current().look()
            found += usual(at, begin) if at < begin else []
            found += plain(*inner) if inner[0] < inner[1] else []
            at = end
        return found + (usual(at, len(self.text)) if at < len(self.text) or not self.typed else [])

    def _pieces(self) -> Iterator[tuple[int, int, tuple[int, int]]]:
        """Yield where the plain pieces begin and end, and the same without white space that their neighbours take."""
        hidden = list(self.text)
        for start, end in self.typed:
            hidden[start:end] = HIDDEN * (end - start)
        found = [(*place, self.control.edges[self.text[slice(*place)]]) for place in self.control.find("".join(hidden))]
        ends = [(0, Edges()), *((end, edges) for _, end, edges in found)]
        begins = [*((start, edges) for start, _, edges in found), (len(self.text), Edges())]
        starts = [start for start, _ in self.typed]  # in order, as they were found
        for (begin, left), (end, right) in zip(ends, begins, strict=True):
            if bisect_left(starts, begin) < bisect_left(starts, end):
                yield begin, end, self._inner(begin, end, left.right, right.left)

    def _inner(self, begin: int, end: int, left: bool, right: bool) -> tuple[int, int]:
        piece = self.text[begin:end]
        cut = len(piece) - len(piece.lstrip()) if left else 0
        kept = len(piece.rstrip()) if right else len(piece)
        return begin + cut, begin + max(kept, cut)
