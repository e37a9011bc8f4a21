"""From the bytes of tokens to thought and text that may be shown, stop strings and tags taken out."""

from collections.abc import Sequence

from playground.answer_text import AnswerText
from playground.thinking.splitter import Said, Splitter
from playground.thinking.tags import Tags, marks


class AnswerStream:
    """Takes an answer's bytes, in whatever pieces, and gives its thought and its text.

    `ends` end it anywhere, `stops` in its text alone: what one looks for in an answer must not cut its thought short.
    A stop string that holds a tag looks at both. No `families`: all of it is text.
    """

    def __init__(
        self,
        stops: Sequence[str] = (),
        ends: Sequence[str] = (),
        families: Sequence[Tags] = (),
        opened: Tags | None = None,
    ) -> None:
        self._marks = marks([*families, *([opened] if opened else [])])
        everywhere = [stop for stop in stops if not self._marks or any(mark in stop for mark in self._marks)]
        self._raw = AnswerText((*ends, *everywhere))
        in_text = [stop for stop in stops if stop not in everywhere]
        self._text, self._has_stops = AnswerText(in_text), bool(in_text)
        self._splitter = Splitter(families, opened) if self._marks else None

    @property
    def stopped(self) -> bool:
        """Whether a stop string has come."""
        return self._raw.stopped or self._text.stopped

    @property
    def thinking(self) -> bool:
        """Whether a thought is open."""
        return self._splitter is not None and self._splitter.thinking

    @property
    def begun(self) -> bool:
        """Whether any of its text has come."""
        return self._splitter is None or self._splitter.begun

    @property
    def settled(self) -> bool:
        """Whether all that comes now is text."""
        return self._splitter is None or self._splitter.settled

    def reads(self, name: bytes) -> bool:
        """Return whether a control token by this name may be part of a tag that counts here."""
        if self.settled or len(name) < 3:
            return False
        spelled = name.decode(errors="replace")
        return any(spelled in mark for mark in self._marks)

    def feed(self, piece: bytes) -> Said:
        """Return what may be shown now."""
        shown = self._raw.feed(piece)
        if self._splitter is None or (self._splitter.settled and not self._has_stops):
            return Said(text=shown)
        said = self._splitter.feed(shown)
        return Said(said.thought, self._text.feed(said.text.encode()))

    def flush(self) -> Said:
        """Return what was held back; call once, at the end."""
        held = self._raw.flush()
        if self._splitter is None:
            return Said(text=held)
        said = self._splitter.feed(held) + self._splitter.flush()
        return Said(said.thought, self._text.feed(said.text.encode()) + self._text.flush())

    def cut(self) -> None:
        """Forget a character that is only half there: a tag comes next, whatever the model was about to write."""
        self._raw.cut()
