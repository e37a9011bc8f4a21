"""Answers while they come: heard on a thread of their own, written down as they grow, shown to whoever looks.

They outlive the browser that asked: one that comes back, or another tab, looks at the same answers.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from playground.conversations.turns import Turn
from playground.errors import MadangError
from playground.events import Event

KEEP_S = 1.0
"""Seconds between two writings: what a program that is killed loses at most."""
LOOK_S = 0.5
"""How often one who waits is asked whether it still does."""


class Answering(Protocol):
    """What this needs of a comparison."""

    def __iter__(self) -> Iterator[Event]:
        """Yield events until every variant has ended."""
        ...

    def cancel(self) -> None:
        """End it soon; callable from any thread."""
        ...


class Hearing:
    """One turn whose answers are coming. `keep` writes it down; what hinders that is its `fault`."""

    def __init__(self, turn: Turn, answering: Answering, keep: Callable[[Turn], None]) -> None:
        self.turn = turn
        self.fault: MadangError | None = None
        self.over = False
        self._answering = answering
        self._keep = keep
        self._news = threading.Condition()

    def start(self) -> "Hearing":
        """Begin to listen."""
        threading.Thread(target=self._listen, name="hear answers", daemon=True).start()
        return self

    def cancel(self) -> None:
        """End the answers soon; what was said stays."""
        self._answering.cancel()

    def looks(self, seconds: float) -> Iterator[tuple[Turn, set[str]]]:
        """Yield the turn with the variants whose answers changed, no faster than every `seconds`; all of them at first.

        While nothing changes it is yielded without any now and then, so that the caller may stop looking.
        """
        seen: Turn | None = None
        while True:
            time.sleep(seconds)  # before the last look, too: a browser that is drawn to twice at once loses something
            self._wait(seen)
            turn, over = self._now()
            yield turn, {name for name, one in turn.answers.items() if seen is None or seen.answers[name] is not one}
            if over:
                return
            seen = turn

    def _wait(self, seen: Turn | None) -> None:
        with self._news:
            self._news.wait_for(lambda: self.over or self.turn is not seen, timeout=LOOK_S)

    def _now(self) -> tuple[Turn, bool]:
        with self._news:
            return self.turn, self.over

    def _listen(self) -> None:
        kept = time.monotonic()
        try:
            for event in self._answering:
                with self._news:
                    self.turn = self.turn.hear([event])
                    self._news.notify_all()
                if time.monotonic() - kept >= KEEP_S:
                    self._write()
                    kept = time.monotonic()
        finally:
            self._write()
            with self._news:
                self.over = True
                self._news.notify_all()

    def _write(self) -> None:
        try:
            self._keep(self.turn)
            self.fault = None
        except MadangError as error:
            self.fault = error
