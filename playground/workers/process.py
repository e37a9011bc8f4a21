"""The parent's side of one worker process: starts, asks, calls and cancels it, and says why it ended.

Native code may abort its whole process; here that costs the rows it was answering an error with a hint.
"""

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import psutil

from playground import events
from playground.errors import ContextError, MadangError, VariantError, WorkerError
from playground.protocol import ModelInfo, ModelSpec
from playground.settings import child_environment
from playground.system.logs import last_line
from playground.system.processes import ending, wait_or_kill
from playground.waiting import LOOK_S, GivenUp, never
from playground.wording import joined, revived, worded
from playground.workers import memory
from playground.workers.tickets import Rows, Ticket

KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(events.Event)}
REFUSALS: defaultdict[str, type[MadangError]] = defaultdict(lambda: VariantError, ContextError=ContextError)
"""What a call's refusal is raised as, by the name of what the worker raised."""
STOP_GRACE_S = 2.0
SPIN = "5000"
"""How long a thread spins for the others before it sleeps: not at all makes a small model three times slower, and the
library's default starves whatever else runs on the machine."""
_call_numbers = itertools.count(1)
ENDINGS = {
    "SIGKILL": "process.killed",
    "SIGABRT": "process.aborted",
    "SIGILL": "process.illegal",
}
"""What most often is behind a signal that ends a worker, and what to do."""


class WorkerProcess:
    """The parent's side of one worker process."""

    def __init__(self, spec: ModelSpec, log: Path) -> None:
        self.spec = spec
        self.info: ModelInfo | None = None
        self.log = log
        self.used_at = time.monotonic()
        self.holds = 0
        self._rows: dict[str, Ticket] = {}
        self._calls: dict[str, queue.SimpleQueue[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._refusal: MadangError | None = None
        self._stopping = False
        self._why: MadangError | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._threads = spec.threads
        self._process = self._spawn()
        threading.Thread(target=self._listen, name=f"worker {spec.name}", daemon=True).start()
        with suppress(OSError):  # it ended at once: the listener hears of it
            self._write({"op": "load", "spec": spec.model_dump()})

    def _spawn(self) -> "subprocess.Popen[str]":
        changes = {
            "OMP_NUM_THREADS": str(self.spec.threads),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
        }
        with self.log.open("w", encoding="utf-8") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "playground.backends.program"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=child_environment(changes, {"GOMP_SPINCOUNT": SPIN}),
                encoding="utf-8",
                start_new_session=os.name == "posix",
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs and takes questions."""
        return self._process.poll() is None and not self._stopping and self._refusal is None

    @property
    def busy(self) -> bool:
        """Whether it is loading, about to be asked, or any row is unanswered."""
        return bool(self._rows) or bool(self._calls) or self.holds > 0 or (self.info is None and self.alive)

    @property
    def answering(self) -> bool:
        """Whether it computes now."""
        return bool(self._rows) or bool(self._calls)

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from the next step on."""
        if threads != self._threads and self.alive:
            self._threads = threads
            with suppress(OSError):  # it just died, and its rows have been told
                self._write({"op": "threads", "threads": threads})

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def memory(self) -> memory.Need:
        """Return the bytes it holds now: its resident set, and the VRAM it reported at loading."""
        try:
            ram = psutil.Process(self.pid).memory_info().rss
        except psutil.Error:
            return memory.Need(ram=0)
        return memory.Need(ram=ram, vram=self.info.vram_bytes if self.info else 0)

    def wait_loaded(self, given_up: GivenUp = never) -> None:
        """Block until the model is loaded; raise why it could not be, or that nobody waits for it any more."""
        while not self._ready.wait(LOOK_S):
            if given_up():
                raise WorkerError(worded("process.cancelled_before_loaded", name=self.spec.name))
        if self._refusal is not None:
            raise self._refusal

    def ask(self, rows: Rows) -> None:
        """Send rows that are answered together; every row ends in Finished or Failed at its ticket."""
        with self._lock:
            self._rows |= {ticket.id: ticket for ticket, _ in rows}
        self.used_at = time.monotonic()
        self.on_change()
        try:
            self._write({"op": "rows", "rows": [row.model_dump() for _, row in rows]})
        except OSError as error:
            with self._lock:
                for ticket, _ in rows:
                    self._rows.pop(ticket.id, None)
            raise self._gone() from error

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop rows, each of which still reports Finished with the reason `cancelled`, and calls."""
        if self.alive:
            try:
                self._write({"op": "cancel", "ids": list(ids)})
            except OSError:
                return  # it just died, and its rows have been told

    def call(self, name: str, given_up: GivenUp = never, **arguments: Any) -> Any:
        """Have the backend do one thing of playground.backends.calls; return what it gives.

        Raises WorkerError where it is given up; the backend ends it then.
        """
        call_id = f"call-{next(_call_numbers)}"
        answer: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._lock:
            self._calls[call_id] = answer
        self.on_change()
        try:
            self._write({"op": "call", "id": call_id, "name": name, "arguments": arguments})
            if not self.alive:
                raise self._gone()
            result = self._result(call_id, answer, given_up)
        except OSError as error:
            raise self._gone() from error
        finally:
            with self._lock:
                self._calls.pop(call_id, None)
            self.used_at = time.monotonic()
            self.on_change()
        if "value" not in result:
            raise result.get("error") or REFUSALS[result["error_kind"]](*_told(result))
        return result["value"]

    def _result(self, call_id: str, answer: "queue.SimpleQueue[dict[str, Any]]", given_up: GivenUp) -> dict[str, Any]:
        while True:
            with suppress(queue.Empty):
                return answer.get(timeout=LOOK_S)
            if given_up():
                self.cancel([call_id])
                raise WorkerError(worded("process.asked_something_nobody", name=self.spec.name))

    def stop(self, why: MadangError | None = None) -> None:
        """End the process and wait for it; rows under way fail."""
        self._stopping, self._why = True, why
        self._process.terminate()
        wait_or_kill(self._process, STOP_GRACE_S)

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        """Pass events on until the process ends, then tell every row that is left why."""
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._take(json.loads(line))
        except BaseException:
            self._process.kill()  # a bug, and nobody listens to it any more
            raise
        finally:
            self._end()

    def _end(self) -> None:
        self._process.wait()
        failure = self._epitaph()
        if self.info is None and self._refusal is None:
            self._refusal = failure
        self._ready.set()
        with self._lock:
            rows, self._rows = self._rows, {}
            calls = list(self._calls.values())
        for answer in calls:
            answer.put({"error": failure})
        for ticket in rows.values():
            ticket.fail(failure)
        self.on_change()

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "loaded":
            self.info = ModelInfo.model_validate(message["info"])
            self._ready.set()
        elif message["type"] == "refused":
            self._refusal = VariantError(*_told(message))
        elif message["type"] == "result":
            answer = self._calls.get(message["id"])
            if answer is not None:
                answer.put(message)
        else:
            event = KINDS[message["kind"]].model_validate(message["event"])
            self._pass_on(message["id"], event)

    def _pass_on(self, row_id: str, event: events.Event) -> None:
        ticket = self._rows.get(row_id)
        if isinstance(event, events.Finished | events.Failed):
            with self._lock:
                self._rows.pop(row_id, None)
            self.used_at = time.monotonic()
            if not self._rows:
                self.on_change()
        if ticket is not None:
            ticket.deliver(event)

    def _gone(self) -> MadangError:
        return self._why or WorkerError(worded("process.worker_gone", name=self.spec.name))

    def _epitaph(self) -> MadangError:
        """Return why the process ended, from its exit code and the end of its log."""
        if self._why is not None:
            return self._why
        if self._stopping:
            return WorkerError(worded("process.unloaded_while_answering", name=self.spec.name))
        how = ending(self._process.returncode)
        again = worded("process.again")
        hint = joined([again, worded(ENDINGS[how])]) if how in ENDINGS else again
        said = last_line(self.log)
        words = worded("process.last_line", said=said, log=self.log) if said else ""
        return WorkerError(worded("process.worker_ended", name=self.spec.name, how=how, words=words), hint)


def _told(message: dict[str, Any]) -> tuple[str, str]:
    """Return the message and the hint that a worker sent, with their keys."""
    return revived(message["message"]), revived(message["hint"])
