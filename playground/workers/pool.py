"""The workers of this process: one per loaded model, within a budget of memory, sharing the cores.

Remote variants have workers as well, which hold no memory and are never evicted. A worker that died is replaced at the
next question. Nothing in this process imports an engine.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from playground.errors import EndingError, MadangError, MemoryBudgetError, WorkerError
from playground.events import Step
from playground.protocol import ModelInfo, ModelSpec
from playground.remote.worker import RemoteWorker
from playground.settings import Settings
from playground.system import hardware
from playground.system.logs import new_log
from playground.waiting import GivenUp, never
from playground.wording import worded
from playground.workers import memory
from playground.workers.process import WorkerProcess
from playground.workers.tickets import Rows

Notify = Callable[[Step, str], None]
"""Hears what a model waits for: `queued`, with the models that answer before it, or `loading`."""


def _ignore(step: Step, detail: str) -> None:
    """Ignore what a model waits for."""


@dataclass(frozen=True)
class Loaded:
    """One loaded model. `idle_s`: seconds since it was last used."""

    spec: ModelSpec
    info: ModelInfo
    memory: memory.Need
    busy: bool
    idle_s: float


class Worker(Protocol):
    """What a worker process and the worker of a remote variant have in common."""

    spec: ModelSpec
    info: ModelInfo | None
    used_at: float
    holds: int
    on_change: Callable[[], None]

    @property
    def alive(self) -> bool:
        """Whether it takes questions."""
        ...

    @property
    def busy(self) -> bool:
        """Whether it starts, is held, or any row or call is unanswered."""
        ...

    @property
    def answering(self) -> bool:
        """Whether it computes on this machine now."""
        ...

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from the next step on."""
        ...

    def memory(self) -> memory.Need:
        """Return the bytes it holds now."""
        ...

    def wait_loaded(self, given_up: GivenUp = never) -> None:
        """Block until it can be asked; raise why it cannot, or WorkerError where it is given up."""
        ...

    def ask(self, rows: Rows) -> None:
        """Send rows; every row ends in Finished or Failed at its ticket."""
        ...

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop rows; each still reports Finished with the reason `cancelled`."""
        ...

    def call(self, name: str, given_up: GivenUp = never, **arguments: Any) -> Any:
        """Do one thing of playground.backends.calls and return what it gives; WorkerError where it is given up."""
        ...

    def stop(self, why: MadangError | None = None) -> None:
        """End it; rows under way fail, with this where it is given."""
        ...


@dataclass(frozen=True)
class Hold:
    """A loaded worker that is kept from eviction until `release`, or to the end of a `with` block."""

    worker: Worker
    release: Callable[[], None]
    given_up: GivenUp = never
    adapter: str | None = None
    """What every call asks for; rows name theirs."""

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def info(self) -> ModelInfo:
        """What the loaded model says of itself."""
        assert self.worker.info is not None
        return self.worker.info

    def submit(self, rows: Rows) -> None:
        """Have rows answered together, but for those that are cancelled by now. Returns once they are asked."""
        wanted = [(ticket, row.model_copy(update={"id": ticket.id})) for ticket, row in rows if not ticket.cancelled]
        if wanted:
            self.worker.ask(wanted)
        for ticket, _ in wanted:
            ticket.sent(self.worker.cancel)

    def call(self, name: str, **arguments: Any) -> Any:
        """Do one thing of playground.backends.calls and return what it gives; WorkerError where it is given up."""
        return self.worker.call(name, self.given_up, adapter=self.adapter, **arguments)


@dataclass
class WorkerPool:
    """The workers of this process, within a budget of RAM and VRAM; idle ones leave least recently used first."""

    settings: Settings
    estimate: Callable[[ModelSpec], memory.Need] = memory.need
    _workers: dict[ModelSpec, Worker] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False

    def loaded(self) -> list[Loaded]:
        """Return what is loaded now, most recently used first."""
        with self._changed:
            workers = [w for w in self._workers.values() if w.alive and w.info is not None]
        now = time.monotonic()
        rows = [Loaded(w.spec, w.info, w.memory(), w.busy, now - w.used_at) for w in workers if w.info is not None]
        return sorted(rows, key=lambda row: row.idle_s)

    def submit(self, spec: ModelSpec, rows: Rows, notify: Notify = _ignore) -> None:
        """Have rows answered together by the spec's worker, started first where none runs. Returns once it is asked.

        Raises MadangError where the model cannot be loaded, and WorkerError where every row is cancelled before it is.
        """
        with self.hold(spec, lambda: all(ticket.cancelled for ticket, _ in rows), notify) as hold:
            hold.submit(rows)

    def hold(
        self, spec: ModelSpec, given_up: GivenUp = never, notify: Notify = _ignore, adapter: str | None = None
    ) -> Hold:
        """Return the spec's worker, loaded and kept from eviction: for calls, with an adapter, that belong together.

        Raises MadangError where the model cannot be loaded, and WorkerError where it is given up before it is.
        """
        with self._changed:
            worker = self._workers.get(spec)
            if worker is None or not worker.alive:
                self._workers.pop(spec, None)
                worker = self._start(spec, given_up, notify)
            worker.holds += 1
        try:
            worker.wait_loaded(given_up)
        except MadangError:
            self._release(worker)
            raise
        return Hold(worker, partial(self._release, worker), given_up, adapter)

    def _release(self, worker: Worker) -> None:
        with self._changed:
            worker.holds -= 1
            self._changed.notify_all()

    def unload(self, spec: ModelSpec) -> None:
        """Stop the worker of a spec; nothing happens where none runs."""
        with self._changed:
            worker = self._workers.pop(spec, None)
        if worker is not None:
            worker.stop()

    def close(self) -> None:
        """Stop every worker, and start none any more."""
        with self._changed:
            self._closed = True
            workers, self._workers = list(self._workers.values()), {}
            self._changed.notify_all()
        with ExitStack() as stack:  # one that cannot be stopped keeps none of the others
            for worker in workers:
                stack.callback(worker.stop, EndingError())

    def _start(self, spec: ModelSpec, given_up: GivenUp, notify: Notify) -> Worker:
        """Make room, then start; called with the lock held, which waiting for room gives away."""
        if spec.remote is not None:
            return self._start_remote(spec, given_up)
        self._make_room(spec, given_up, notify)
        if (raced := self._workers.get(spec)) is not None and raced.alive:
            return raced
        notify("loading", "")
        worker = WorkerProcess(spec, new_log(self.settings.logs_dir, spec.name))
        worker.on_change = self._share
        self._workers[spec] = worker
        return worker

    def _start_remote(self, spec: ModelSpec, given_up: GivenUp) -> Worker:
        if self._closed:
            raise EndingError
        if given_up():
            raise WorkerError(worded("pool.cancelled_before_asked", name=spec.name))
        worker = self._workers[spec] = RemoteWorker(spec)
        worker.on_change = self._share
        return worker

    def _share(self) -> None:
        """Divide the cores among the workers that compute: two that each wait for two threads on two cores crawl."""
        with self._changed:
            busy = [worker for worker in self._workers.values() if worker.answering]
            for worker in busy:
                worker.use_threads(max(1, worker.spec.threads // len(busy)))
            self._changed.notify_all()

    def _make_room(self, spec: ModelSpec, given_up: GivenUp, notify: Notify) -> None:
        """Evict idle workers until the spec fits; wait for busy ones; refuse what can never fit."""
        wanted = self.estimate(spec)
        limit = memory.Need(ram=hardware.ram_budget(self.settings), vram=hardware.vram_budget(self.settings))
        if wanted.ram > limit.ram or wanted.vram > limit.vram:
            raise _too_large(spec, wanted, limit)
        told = ""
        while True:
            if self._closed:
                raise EndingError
            if given_up():
                raise WorkerError(worded("pool.cancelled_before_loaded", name=spec.name))
            if self._fits(wanted, limit):
                return
            held = [worker for worker in self._workers.values() if worker.spec.remote is None]
            idle = [worker for worker in held if not worker.busy]
            if idle:
                oldest = min(idle, key=lambda worker: worker.used_at)
                del self._workers[oldest.spec]
                oldest.stop()
                continue
            behind = ", ".join(worker.spec.name for worker in held)
            if behind != told:
                notify("queued", behind)
                told = behind
            self._changed.wait(0.2)

    def _fits(self, wanted: memory.Need, limit: memory.Need) -> bool:
        """Return whether the wanted bytes fit beside the workers; one that still loads counts as what it will need."""
        self._workers = {spec: worker for spec, worker in self._workers.items() if worker.alive}
        held = [w.memory() if w.info is not None else self.estimate(w.spec) for w in self._workers.values()]
        ram_fits = sum(h.ram for h in held) + wanted.ram <= limit.ram
        return ram_fits and sum(h.vram for h in held) + wanted.vram <= limit.vram


def _too_large(spec: ModelSpec, wanted: memory.Need, limit: memory.Need) -> MemoryBudgetError:
    kind, need, have = ("RAM", wanted.ram, limit.ram) if wanted.ram > limit.ram else ("VRAM", wanted.vram, limit.vram)
    gib = hardware.GIB
    return MemoryBudgetError(
        worded("pool.needs_about_gib", name=spec.name, need=need / gib, kind=kind, have=have / gib),
    )
