"""Tells thought from answer while both come, whatever pieces they come in."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from playground.thinking.tags import Tags

BETWEEN = "\n\n"
"""What stands between two thoughts, or two parts of an answer, that a model writes apart."""
TRAILING = re.compile(r"\s*\Z")


class Said(NamedTuple):
    """What is new of an answer: of its thought and of its text."""

    thought: str = ""
    text: str = ""

    def __add__(self, other: object) -> "Said":
        """Join two in order."""
        assert isinstance(other, Said)
        return Said(self.thought + other.thought, self.text + other.text)


class _Found(NamedTuple):
    """A mark in a text: where it begins, and where what follows it does."""

    begin: int
    end: int
    mark: str


class Splitter:
    """Takes the text of an answer and gives thought and text apart, without the tags and the white space around them.

    A thought may only begin where the answer does, but for families whose marks count anywhere. What may turn into a
    tag waits. `opened`: the family of the thought that the prompt has opened already.
    """

    def __init__(self, families: Sequence[Tags], opened: Tags | None = None) -> None:
        self._families = tuple(families)
        self._tags = opened
        self.state: Literal["start", "thought", "answer"] = "thought" if opened else "start"
        self._fresh = opened is not None
        """Whether nothing but white space has come since the last mark, which is left out."""
        self._held, self._ended = "", False
        self._thoughts, self._texts = False, False
        """Whether any has been given yet."""

    @property
    def thinking(self) -> bool:
        """Whether a thought is open."""
        return self.state == "thought"

    @property
    def begun(self) -> bool:
        """Whether any text has been given."""
        return self._texts

    @property
    def settled(self) -> bool:
        """Whether the answer has begun, and no thought can come any more."""
        return self.state == "answer" and not (self._tags and self._tags.anywhere)

    def feed(self, text: str) -> Said:
        """Return what is sure now."""
        self._held += text
        said = Said()
        while True:
            before = (self.state, self._held)
            said += {"start": self._start, "thought": self._thought, "answer": self._answer}[self.state]()
            if before == (self.state, self._held) or not self._held:
                return said

    def flush(self) -> Said:
        """Return what was held back; call once, at the end."""
        self._ended = True
        said = self.feed("")
        held, self._held = self._held, ""
        return said + self._given("thought" if self.thinking else "answer", held.rstrip() if self.thinking else held)

    def _start(self) -> Said:
        """Look whether a thought begins here."""
        families = self._families
        openings = [mark for tags in families for mark in tags.thought]
        answers = [mark for tags in families if tags.anywhere for mark in tags.answer]
        rest = self._held.lstrip()
        found, may_come = self._at(rest, 0, (*openings, *answers))
        if may_come or not rest:
            return Said()
        if found is None:
            self.state = "answer"
            return Said()
        self._tags = next(tags for tags in families if found.mark in (*tags.thought, *tags.answer))
        self._enter("thought" if found.mark in openings else "answer", rest[found.end :])
        return Said()

    def _thought(self) -> Said:
        assert self._tags is not None
        if self._fresh and not self._begun(self._tags):
            return Said()
        marks = (*self._tags.answer, *(self._tags.thought if self._tags.anywhere else ()))
        found, sure = self._first(self._held, marks)
        if found is None:
            sure = min(sure, TRAILING.search(self._held[:sure]).start())  # type: ignore[union-attr]
            shown, self._held = self._held[:sure], self._held[sure:]
            return self._given("thought", shown)
        shown, rest = self._held[: found.begin].rstrip(), self._held[found.end :]
        said = self._given("thought", shown)
        self._enter("answer" if found.mark in self._tags.answer else "thought", rest)
        if self.state == "answer" and not self._tags.anywhere:
            self.state = "start"  # another thought may follow at once
        return said

    def _begun(self, tags: Tags) -> bool:
        """Leave out the white space a thought begins with, and marks written again; return whether more is left."""
        while True:
            self._held = self._held.lstrip()
            found, may_come = self._at(self._held, 0, tags.thought)
            if may_come or found is None:
                return bool(self._held) and not may_come
            self._held = self._held[found.end :]

    def _answer(self) -> Said:
        if self._tags is None or not self._tags.anywhere:
            shown, self._held = self._held, ""
            return self._given("answer", shown)
        found, sure = self._first(self._held, (*self._tags.answer, *self._tags.thought))
        if found is None:
            shown, self._held = self._held[:sure], self._held[sure:]
            return self._given("answer", shown)
        shown, rest = self._held[: found.begin], self._held[found.end :]
        said = self._given("answer", shown)
        self._enter("answer" if found.mark in self._tags.answer else "thought", rest)
        return said

    def _enter(self, state: Literal["thought", "answer"], rest: str) -> None:
        self.state, self._held, self._fresh = state, rest, True

    def _given(self, kind: str, text: str) -> Said:
        """Return text of one kind, apart from what came of it before where a mark stands between."""
        if self._fresh:
            text = text.lstrip()
        if not text:
            return Said()
        first = not (self._thoughts if kind == "thought" else self._texts)
        text = text if first or not self._fresh else BETWEEN + text
        self._fresh = False
        if kind == "thought":
            self._thoughts = True
            return Said(thought=text)
        self._texts = True
        return Said(text=text)

    def _at(self, text: str, place: int, marks: Sequence[str]) -> tuple[_Found | None, bool]:
        """Return the longest mark that stands at a place, and whether a longer one may yet turn out to."""
        found = max((mark for mark in marks if text.startswith(mark, place)), key=len, default=None)
        rest = "" if self._ended else text[place:]
        may_come = bool(rest) and any(len(mark) > len(rest) and mark.startswith(rest) for mark in marks)
        return (None if found is None else _Found(place, place + len(found), found)), may_come

    def _first(self, text: str, marks: Sequence[str]) -> tuple[_Found | None, int]:
        """Return the first mark in a text, and up to where none can begin any more."""
        begins = {mark[0] for mark in marks}
        for place, letter in enumerate(text):
            if letter in begins:
                found, may_come = self._at(text, place, marks)
                if may_come or found is not None:
                    return None if may_come else found, place
        return None, len(text)


def split(text: str, families: Sequence[Tags], opened: Tags | None = None) -> tuple[Said, bool]:
    """Return a whole answer's thought and text, and whether it never left its thought."""
    splitter = Splitter(families, opened)
    said = splitter.feed(text) + splitter.flush()
    return said, splitter.thinking
