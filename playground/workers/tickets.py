"""One ticket per row: what its owner cancels, wherever the row is by then, and what its worker answers to."""

import itertools
import threading
from collections.abc import Callable, Sequence

from playground.errors import MadangError
from playground.events import Event, Failed, Finished, Stats
from playground.protocol import RowRequest

Sink = Callable[[Event], None]
_numbers = itertools.count(1)


class Ticket:
    """The claim on one answer, made before anything is looked for or loaded: from then on it can be cancelled.

    Its sink gets the row's events in order and exactly one Finished or Failed, the last. The sink runs on whichever
    thread brings the event and must not block.
    """

    def __init__(self, variant: str, sink: Sink) -> None:
        self.variant = variant
        self.sink = sink
        self.id = f"row-{next(_numbers)}"
        self._cancel_at_worker: Callable[[Sequence[str]], None] | None = None
        self._cancelled = self._ended = False
        # held while the sink runs, so that no event overtakes the last one; re-entrant, as a sink may cancel
        self._lock = threading.RLock()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled before it had ended."""
        return self._cancelled

    def cancel(self) -> None:
        """Stop the row; it still ends with Finished, its reason `cancelled`. Does nothing to one that has ended.

        May be called from any thread, before, while and after the row is sent to its worker. One that no worker has
        ends at once.
        """
        with self._lock:
            if self._cancelled or self._ended:
                return
            self._cancelled = True
            at_worker = self._cancel_at_worker
            if at_worker is None:
                stats = Stats(
                    prompt_tokens=0, tokens=0, first_token_s=None, tokens_per_s=None, memory_bytes=0, dtype=""
                )
                self.deliver(Finished(variant=self.variant, reason="cancelled", text="", stats=stats))
        if at_worker is not None:
            at_worker([self.id])

    def sent(self, cancel: Callable[[Sequence[str]], None]) -> None:
        """Note that a worker has the row, and how it cancels; a row that was cancelled meanwhile is cancelled there."""
        with self._lock:
            self._cancel_at_worker = cancel
            late = self._cancelled
        if late:
            cancel([self.id])

    def deliver(self, event: Event) -> None:
        """Pass an event on to the sink, unless the row has ended."""
        with self._lock:
            if not self._ended:
                self._ended = isinstance(event, Finished | Failed)
                self.sink(event)

    def fail(self, error: MadangError) -> None:
        """End the row with an error."""
        self.deliver(Failed(variant=self.variant, message=error.message, hint=error.hint, error=type(error).__name__))


Rows = Sequence[tuple[Ticket, RowRequest]]
"""Rows to be answered together, each with its ticket."""
