"""From the event loop to the workers: what may block runs on threads, rows are asked and calls are made there."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from playground.backends.base import ModelSpec, RowRequest
from playground.compare import Playground
from playground.errors import ContextError, VariantError, WorkerError
from playground.server.answers import Answers
from playground.server.errors import ApiError, said
from playground.server.known import Known, Target
from playground.server.limits import Limits
from playground.server.record import Record
from playground.workers import AnyWorker

T = TypeVar("T")
SPARE_THREADS = 8
"""Threads beyond one a place in the queue: for lists of models and cancels."""


class Asker:
    """Asks models for requests. What may block runs on its threads; `close` lets them go."""

    def __init__(self, playground: Playground, limits: Limits) -> None:
        self.limits = limits
        self.known = Known(playground)
        self.loading = Loading()
        self._pool = playground.pool
        self._threads = ThreadPoolExecutor(limits.queue + SPARE_THREADS, "api")

    async def thread(self, work: Callable[[], T]) -> T:
        """Run what may block beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def ask(self, model: str, rows: Sequence[RowRequest], choices: int, record: Record) -> Answers:
        """Answers that have begun: every row has its prompt, `choices` rows the same. Whoever gets them closes them."""
        answers = Answers(rows, choices, record, self.limits, self._threads)
        try:
            await self.thread(lambda: self._ask(model, answers))
            await answers.begin()
        except BaseException:
            answers.close()
            raise
        return answers

    async def with_worker(self, model: str | None, work: Callable[[Target, AnyWorker], T]) -> T:
        """Run calls that belong together on a model's worker, loaded first where it is not; None is the only model."""
        gone = threading.Event()
        try:
            return await self.thread(lambda: self._hold(model, work, gone.is_set))
        finally:
            gone.set()

    def load(self, model: str) -> None:
        """Load a model and wait for it; for the beginning, on a thread of the caller's own."""
        self._hold(model, lambda target, worker: None, lambda: False)

    def close(self) -> None:
        """Take no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, model: str, answers: Answers) -> None:
        answers.target = self._target(model, answers.is_gone)
        spec = answers.target.loadable.spec
        with self.loading.watched(spec):
            for index in range(len(answers.rows)):
                wait = _Wait(answers.is_gone, self.loading, spec)
                answers.asked(index, self._pool.ask(spec, [answers.row(index)], answers.sink(index), wait))

    def _hold(self, model: str | None, work: Callable[[Target, AnyWorker], T], gone: Callable[[], bool]) -> T:
        target = self._target(model if model is not None else self.known.only(), gone)
        spec = target.loadable.spec
        with self.loading.watched(spec):
            worker = self._pool.hold(spec, _Wait(gone, self.loading, spec))
        try:
            return work(target, worker)
        except (VariantError, ContextError) as error:  # the model is there, so it is the request that it refuses
            raise ApiError(400, said(error.message, error.hint), "prompt", "invalid_prompt") from error
        finally:
            self._pool.release(worker)

    def _target(self, model: str, gone: Callable[[], bool]) -> Target:
        def progress(done: float, what: str) -> None:
            if gone():
                raise WorkerError(f"{model} was cancelled while it was being downloaded.")

        return self.known.target(model, progress)


def spelled(worker: AnyWorker, ids: Sequence[int]) -> str:
    """The text that token ids spell, control tokens by name; for the threads, as it waits for the worker."""
    return b"".join(map(bytes, worker.call("pieces", ids=list(ids)))).decode(errors="replace")


class Loading:
    """Which models are being loaded, and whether any has ever been: what /health tells."""

    def __init__(self) -> None:
        self.starting = False
        """Whether models that the server begins with are not all there yet."""
        self._under_way: set[ModelSpec] = set()
        self._one_is_there = False

    @property
    def ready(self) -> bool:
        """False while a model loads for the first time."""
        return not self.starting and (self._one_is_there or not self._under_way)

    def began(self, spec: ModelSpec) -> None:
        """A model is being loaded."""
        self._under_way.add(spec)

    @contextmanager
    def watched(self, spec: ModelSpec) -> Iterator[None]:
        """A block that ends when the model is there, or cannot be."""
        try:
            yield
            self._one_is_there = True
        finally:
            self._under_way.discard(spec)


@dataclass(frozen=True)
class _Wait:
    """Tells a pool whether a request still wants its model."""

    gone: Callable[[], bool]
    told: Loading
    spec: ModelSpec

    def queued(self, behind: str) -> None:
        """Others are answering."""

    def loading(self) -> None:
        """It is being loaded."""
        self.told.began(self.spec)

    def given_up(self) -> bool:
        """Whether the client has gone."""
        return self.gone()
