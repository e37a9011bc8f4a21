"""The program of a worker process: one loaded model, JSON lines in on stdin, JSON lines out on stdout.

In:  {"op": "load", "spec": …} once, then {"op": "rows", "rows": […]}, {"op": "cancel", "ids": […]},
     {"op": "threads", "threads": n} and
     {"op": "call", "id": …, "name": …, "arguments": {…}}, which runs between two steps of the rows; one that computes
     stops before each of its batches, so that the rows get as much time as the batch before took.
Out: {"type": "loaded", …} or {"type": "refused", …}, then {"type": "event", "id": …, "kind": …, "event": …} and
     {"type": "result", "id": …, "value": …} or {"type": "result", "id": …, "message": …, "hint": …, "error_kind": …}.

Whatever native code prints goes to stderr, the worker's log. When stdin closes, the parent is gone and so is this.
"""

import json
import os
import queue
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from playground.allowance import Cancelled, allowed
from playground.backends.calls import AT_ONCE, CALLS
from playground.backends.loading import load
from playground.backends.scheduler import Scheduler
from playground.errors import MadangError, refused
from playground.events import Event, Failed, Finished
from playground.protocol import Backend, ModelSpec, Pause, R, RowRequest
from playground.wording import packed


class Program:
    """Reads operations on one thread and runs the scheduler on the main one."""

    def __init__(self, source: TextIO, sink: TextIO) -> None:
        self._source, self._sink = source, sink
        self._operations: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._held: deque[dict[str, Any]] = deque()
        """Calls that compute, in the order they came: one at a time."""
        self._batch_at = self._rows_until = 0.0
        """When the batch under way began, and how long the rows come first (monotonic seconds)."""
        self._cancelled: set[str] = set()

    def run(self) -> None:
        """Load the model, then answer until stdin closes."""
        spec = ModelSpec.model_validate(json.loads(self._source.readline())["spec"])
        threading.Thread(target=self._read, name="operations", daemon=True).start()  # sees the parent go while loading
        try:
            backend = load(spec)
        except Exception as error:
            told = error if isinstance(error, MadangError) else refused(error)
            if told is None:
                raise
            self._send({"type": "refused", "message": packed(told.message), "hint": packed(told.hint)})
            return
        self._send({"type": "loaded", "info": backend.info.model_dump()})
        self._serve(backend)

    def _serve(self, backend: Backend[R]) -> None:
        scheduler = Scheduler(backend, self._emit, self._cancelled.__contains__)
        while True:
            self._turn(scheduler)

    def _turn(self, scheduler: Scheduler[R]) -> None:
        """Take in what has come, waiting for it where there is nothing to do, and go one step on with the rows."""
        while scheduler.idle and not self._held:
            self._take(scheduler, self._operations.get())
        self._take_all(scheduler)
        if self._held and (scheduler.idle or time.monotonic() >= self._rows_until):
            self._compute(scheduler, self._held.popleft())
        scheduler.step()

    def _compute(self, scheduler: Scheduler[R], operation: dict[str, Any]) -> None:
        """Do a call that computes; nothing is said of one that is given up."""
        given_up = partial(self._cancelled.__contains__, operation["id"])
        scheduler.backend.pause = Pause(given_up, partial(self._let_rows_go_on, scheduler))
        self._batch_at = time.monotonic()
        try:
            if not given_up():
                self._call(scheduler.backend, operation)
        except Cancelled:
            pass
        self._cancelled.discard(operation["id"])
        self._rows_until = 2 * time.monotonic() - self._batch_at

    def _let_rows_go_on(self, scheduler: Scheduler[R]) -> None:
        """Take in what has come and give the rows as much time as the batch took; called between two batches."""
        self._rows_until = 2 * time.monotonic() - self._batch_at
        self._take_all(scheduler)
        while not scheduler.idle and time.monotonic() < self._rows_until:
            scheduler.step()
            self._take_all(scheduler)
        self._batch_at = time.monotonic()

    def _take_all(self, scheduler: Scheduler[R]) -> None:
        """Take in what has come, without waiting for more."""
        while not self._operations.empty():
            self._take(scheduler, self._operations.get())

    def _take(self, scheduler: Scheduler[R], operation: dict[str, Any]) -> None:
        if operation["op"] == "call" and operation["name"] not in AT_ONCE:
            self._held.append(operation)
        elif operation["op"] == "call":
            with suppress(Cancelled), allowed(partial(self._cancelled.__contains__, operation["id"]), scheduler.go_on):
                self._call(scheduler.backend, operation)
            self._cancelled.discard(operation["id"])
        elif operation["op"] == "threads":
            scheduler.backend.use_threads(operation["threads"])
        else:
            for row in operation["rows"]:
                if row["id"] in self._cancelled:  # nobody waits: it is only told so
                    row |= {"messages": (), "text": ""}
                scheduler.add(RowRequest.model_validate(row), operation["at"])

    def _call(self, backend: Backend[R], operation: dict[str, Any]) -> None:
        try:
            value = CALLS[operation["name"]](backend, operation["arguments"])
        except MadangError as error:
            said = {"message": packed(error.message), "hint": packed(error.hint), "error_kind": type(error).__name__}
            self._send({"type": "result", "id": operation["id"], **said})
        else:
            self._send({"type": "result", "id": operation["id"], "value": value})

    def _read(self) -> None:
        """Read operations: cancels act at once, even while the main thread is inside the engine; rows wait a step."""
        for line in self._source:
            operation = json.loads(line)
            if operation["op"] == "cancel":
                self._cancelled.update(operation["ids"])
            else:
                self._operations.put(operation | {"at": time.monotonic()})
        os._exit(0)

    def _emit(self, row_id: str, event: Event) -> None:
        if isinstance(event, Finished | Failed):
            self._cancelled.discard(row_id)
        self._send({"type": "event", "id": row_id, "kind": type(event).__name__, "event": event.model_dump()})

    def _send(self, message: dict[str, Any]) -> None:
        self._sink.write(json.dumps(message) + "\n")
        self._sink.flush()


def main() -> None:
    """Keep the protocol's pipes to ourselves: what else is printed reaches the log, and who else reads finds an end."""
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", newline="\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    source = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    Program(source, sink).run()


if __name__ == "__main__":
    main()
