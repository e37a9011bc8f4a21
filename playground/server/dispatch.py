"""The way from the event loop to the workers: whatever may block runs on threads."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from playground.compare import Playground
from playground.errors import ContextError, VariantError, WorkerError
from playground.events import Step
from playground.protocol import ModelSpec, RowRequest
from playground.server.answers import Answers
from playground.server.guards.limits import Limits
from playground.server.guards.record import Record
from playground.server.served_models import ServedModels, Target
from playground.server.wire.errors import ApiError, sentence
from playground.waiting import GivenUp
from playground.wording import worded
from playground.workers.pool import Hold, Notify

T = TypeVar("T")
QUICK_THREADS = 8
"""Threads for work that never waits for a model: lists of models and cancels."""


class Dispatcher:
    """Asks models on behalf of requests; `close` ends its threads.

    There is one thread per place in the queue, for what may wait for a model, and a few more for what is quick.
    """

    def __init__(self, playground: Playground, limits: Limits) -> None:
        self.limits = limits
        self.data = playground.settings.data
        self.models = ServedModels(playground)
        self.loading = Loading()
        self._pool = playground.pool
        self._threads = ThreadPoolExecutor(limits.queue, "api")
        self._quick = ThreadPoolExecutor(QUICK_THREADS, "api-quick")

    async def thread(self, work: Callable[[], T]) -> T:
        """Run work that reads files, but waits for no model, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._quick, work)

    async def _waiting(self, work: Callable[[], T]) -> T:
        """Run work that may wait for a model beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def ask(self, model: str, rows: Sequence[RowRequest], choices: int, record: Record) -> Answers:
        """Ask a model and return its answers once every row has begun; the caller closes them.

        `choices`: how many rows in a row have the same prompt.
        """
        answers = Answers(rows, choices, record, self.limits, self._quick)
        asking = asyncio.ensure_future(self._waiting(lambda: self._ask(model, answers)))
        beginning = asyncio.ensure_future(answers.begin())
        try:
            await asyncio.gather(asking, beginning)  # so that one row's refusal keeps the others from being asked
        except BaseException:
            answers.close()
            asking.cancel()
            beginning.cancel()
            raise
        return answers

    async def with_worker(self, model: str | None, work: Callable[[Target, Hold], T]) -> T:
        """Run calls that belong together on a model's worker, loaded first where need be. None names the only model.

        Where the request is cancelled meanwhile, a call under way is given up.
        """
        gone = threading.Event()
        try:
            return await self._waiting(lambda: self._hold(model, work, gone.is_set))
        finally:
            gone.set()

    def load(self, model: str) -> None:
        """Load a model and wait for it. Blocks: for the start of a server, on a thread of the caller's own."""
        self._hold(model, lambda target, worker: None, lambda: False)

    def close(self) -> None:
        """Take no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._quick.shutdown(wait=False, cancel_futures=True)

    def _ask(self, model: str, answers: Answers) -> None:
        answers.target = self._target(model, answers.is_gone)
        spec = answers.target.loadable.spec
        with self.loading.watched(spec) as notify:
            for row in answers.rows():
                self._pool.submit(spec, [row], notify)

    def _hold(self, model: str | None, work: Callable[[Target, Hold], T], gone: GivenUp) -> T:
        target = self._target(model if model is not None else self.models.only(), gone)
        spec, adapter = target.loadable.spec, target.loadable.adapter
        with self.loading.watched(spec) as notify:
            hold = self._pool.hold(spec, gone, notify, adapter)
        with hold:
            try:
                return work(target, hold)
            except (VariantError, ContextError) as error:  # the model is there, so it is the request that it refuses
                raise ApiError(400, sentence(error), "prompt", "invalid_prompt") from error

    def _target(self, model: str, gone: GivenUp) -> Target:
        def progress(done: float, what: str) -> None:
            if gone():
                raise WorkerError(worded("dispatch.cancelled_while_being", model=model))

        return self.models.target(model, progress)


def detokenized(hold: Hold, ids: Sequence[int]) -> str:
    """Return the text of token ids, control tokens by name. Blocks: it waits for the worker."""
    return b"".join(map(bytes, hold.call("pieces", ids=list(ids)))).decode(errors="replace")


class Loading:
    """Which models are being loaded, and whether any has ever been: what /health answers with."""

    def __init__(self) -> None:
        self.starting = False
        """Whether models that the server begins with are not all there yet."""
        self._under_way: set[ModelSpec] = set()
        self._one_is_there = False

    @property
    def ready(self) -> bool:
        """False while a model loads for the first time."""
        return not self.starting and (self._one_is_there or not self._under_way)

    @contextmanager
    def watched(self, spec: ModelSpec) -> Iterator[Notify]:
        """Wrap a block that ends when the model is loaded or cannot be; gives what the pool is to notify of it."""

        def notify(step: Step, detail: str) -> None:
            if step == "loading":
                self._under_way.add(spec)

        try:
            yield notify
            self._one_is_there = True
        finally:
            self._under_way.discard(spec)
