"""Which comparison each session has under way, so that stop, a closed tab or a new question can end it at once."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from playground.events import Event


class Cancellable(Protocol):
    """What this needs of a comparison."""

    def cancel(self) -> None:
        """End it soon; callable from any thread."""
        ...


class Running:
    """One comparison a session at most. An object of the page, never a global: pages and tests do not meet."""

    def __init__(self) -> None:
        self.admitting = threading.Lock()
        """Held from the question whether one more may begin until it has begun."""
        self._lock = threading.Lock()
        self._by_session: dict[str, Cancellable] = {}
        self._visitors: dict[str, str] = {}

    def held(self) -> Counter[str]:
        """Return how many comparisons are under way for each visitor."""
        with self._lock:
            return Counter(self._visitors[session] for session in self._by_session)

    def begin(self, session: str, comparison: Cancellable, visitor: str = "") -> None:
        """Make this the session's comparison, and count it with those of its visitor; an older one is cancelled."""
        with self._lock:
            older = self._by_session.get(session)
            self._by_session[session] = comparison
            self._visitors[session] = visitor
        if older is not None:
            older.cancel()

    def is_current(self, session: str, comparison: Cancellable) -> bool:
        """Return whether the session still waits for this comparison."""
        return self._by_session.get(session) is comparison

    def busy(self, session: str) -> bool:
        """Return whether the session has a comparison under way."""
        return session in self._by_session

    def stop(self, session: str) -> None:
        """Cancel; the session still hears how every answer ended."""
        comparison = self._by_session.get(session)
        if comparison is not None:
            comparison.cancel()

    def drop(self, session: str) -> None:
        """Cancel and forget: nobody waits for the answers any more."""
        with self._lock:
            comparison = self._by_session.pop(session, None)
            self._visitors.pop(session, None)
        if comparison is not None:
            comparison.cancel()

    def end(self, session: str, comparison: Cancellable) -> None:
        """Forget a comparison that is over."""
        with self._lock:
            if self._by_session.get(session) is comparison:
                del self._by_session[session], self._visitors[session]


def batched(events: Iterable[Event], seconds: float) -> Iterator[list[Event]]:
    """Yield events in batches at least `seconds` apart, the first at once: a browser draws no more than that."""
    arrived: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def pump() -> None:
        try:
            for event in events:
                arrived.put(event)
        finally:
            arrived.put(None)

    threading.Thread(target=pump, name="page events", daemon=True).start()
    due = 0.0
    while (event := arrived.get()) is not None:
        batch: list[Event | None] = [event]
        while None not in batch and (left := due - time.monotonic()) > 0:
            try:
                batch.append(arrived.get(timeout=left))
            except queue.Empty:
                break
        if None not in batch:
            batch += [arrived.get() for _ in range(arrived.qsize())]
        yield [event for event in batch if event is not None]
        if None in batch:
            return
        due = time.monotonic() + seconds
