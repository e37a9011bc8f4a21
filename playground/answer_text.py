"""From the bytes of tokens to text that may be shown: whole characters, and never a stop string or a part of one."""

import codecs
from collections.abc import Sequence


class AnswerText:
    """Takes an answer's bytes and gives its text, whatever pieces they come in.

    A Hangul syllable or an emoji split over tokens waits until it is complete; so does what may turn into a stop
    string. Bytes that can never become a character read as U+FFFD.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped = False

    def feed(self, piece: bytes) -> str:
        """Return the text that is safe to show now; what follows a stop string is never shown."""
        text = self._decoder.decode(piece)
        if self.stopped or not text:
            return ""
        self._held += text
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            _, first = min(found)  # the one that is complete first, whatever the pieces the text came in
            shown, self._held, self.stopped = self._held[:first], "", True
            return shown
        keep = self._longest_beginning()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def cut(self) -> None:
        """Forget a character that is only half there."""
        self._decoder.reset()

    def flush(self) -> str:
        """Return what was held back and turned out to be no stop string; call once, at the end."""
        shown, self._held = self._held, ""
        return shown

    def _longest_beginning(self) -> int:
        """Return how many characters at the end of the held text begin some stop string."""
        longest = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:size]):
                    longest = size
                    break
        return longest
