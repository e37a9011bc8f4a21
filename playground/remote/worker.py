"""The worker of a remote variant: what a worker process does, done by a server elsewhere.

Nothing is loaded here and no memory is held; rows and calls are tasks on one event loop in a thread of its own.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import suppress
from functools import partial
from typing import Any

from playground.errors import MadangError, VariantError, WorkerError, bug
from playground.protocol import Choices, ModelInfo, ModelSpec
from playground.remote.answer import Answer
from playground.remote.openai import Server
from playground.remote.scores import Scorer
from playground.waiting import LOOK_S, GivenUp, never
from playground.wording import worded
from playground.workers import memory
from playground.workers.tickets import Rows

GREETING_S = 15.0
CLOSING_S = 2.0


class RemoteWorker:
    """Speaks to one server. Methods may be called from any thread; `ask` and `cancel` return before the answer."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.info: ModelInfo | None = None
        self.used_at = time.monotonic()
        self.holds = 0
        self.on_change: Callable[[], None] = lambda: None
        self._rows: dict[str, asyncio.Task[None]] = {}
        self._calls = 0
        self._stopped = False
        self._why: MadangError | None = None
        self._stale = False
        self._refusal: MadangError | None = None
        self._server: Server | None = None
        self._gate = threading.Lock()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name=f"remote {spec.name}", daemon=True).start()
        self._greeted = asyncio.run_coroutine_threadsafe(self._begin(), self._loop)
        self._greeted.add_done_callback(lambda _: self._let_go() if self._refusal else None)

    @property
    def alive(self) -> bool:
        """Whether it takes questions: not once it is stopped, or where its server could not be greeted."""
        return not self._stopped and self._refusal is None

    @property
    def busy(self) -> bool:
        """Whether it greets its server, or any row or call is unanswered."""
        return bool(self._rows) or self._calls > 0 or self.holds > 0 or (self.info is None and self.alive)

    @property
    def answering(self) -> bool:
        """Whether it computes here: never."""
        return False

    def use_threads(self, threads: int) -> None:
        """Do nothing: nothing is computed here."""

    def memory(self) -> memory.Need:
        """Return what it holds here: nothing to speak of."""
        return memory.Need(ram=0)

    def wait_loaded(self, given_up: GivenUp = never) -> None:
        """Block until the server has said what it serves; raise why it has not, or that nobody waits any more."""
        while not wait([self._greeted], LOOK_S).done:  # what it raises is the refusal
            if given_up():
                raise WorkerError(worded("worker.cancelled_before_asked", name=self.spec.name))
        if self._refusal is not None:
            raise self._refusal
        if self.info is None:
            raise self._gone()

    def ask(self, rows: Rows) -> None:
        """Send rows, each a request of its own; every row ends in Finished or Failed at its ticket."""
        self.used_at = time.monotonic()
        with self._gate:  # what is scheduled here is seen by a `stop` that comes later
            if not self.alive:
                raise self._gone()
            self._loop.call_soon_threadsafe(self._start, list(rows), self.used_at)

    def cancel(self, ids: Sequence[str]) -> None:
        """Stop rows and close their connections; each still reports Finished with the reason `cancelled`."""
        with suppress(RuntimeError):  # the loop is closed, and its rows have been told
            self._loop.call_soon_threadsafe(self._cancel, list(ids))

    def call(self, name: str, given_up: GivenUp = never, **arguments: Any) -> Any:
        """Return tokens and scores as playground.backends.calls does; raises VariantError for what no server can do."""
        calls: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "encode": self._encode,
            "vocabulary": self._vocabulary,
            "score": self._score,
        }
        if name not in calls:
            raise VariantError(
                worded("worker.runs_elsewhere_server", name=self.spec.name, name2=name),
            )
        with self._gate:
            self._calls += 1
        try:
            with self._gate:
                if not self.alive:
                    raise self._gone()
                answer = asyncio.run_coroutine_threadsafe(calls[name](arguments), self._loop)
            while not wait([answer], LOOK_S).done:
                if given_up():
                    answer.cancel()
            return answer.result()
        except CancelledError as error:
            raise self._gone() from error
        finally:
            with self._gate:
                self._calls -= 1
            self.used_at = time.monotonic()
            self.on_change()

    def stop(self, why: MadangError | None = None) -> None:
        """End every row and close the connections; rows under way fail."""
        with self._gate:
            if not self.alive:
                return
            self._stopped, self._why = True, why
            ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        with suppress(TimeoutError, CancelledError):
            ended.result(CLOSING_S)
        self._let_go()

    def _let_go(self) -> None:
        """End the loop's thread; from another thread a bare `loop.stop()` would not wake it."""
        with suppress(RuntimeError):  # closed already
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    async def _begin(self) -> None:
        try:
            self._server = Server(self.spec)
            self._scorer = Scorer(self._server)
            await self._greet(self._server)
        except Exception as error:
            self._refusal = error if isinstance(error, MadangError) else bug(error)
            if self._server is not None:
                await self._server.close()
            if not isinstance(error, MadangError):
                raise

    async def _greet(self, server: Server) -> None:
        try:
            async with asyncio.timeout(GREETING_S):
                self.info = await server.greet()
        except TimeoutError as error:
            raise WorkerError(
                worded("worker.took_more_say", name=self.spec.name, host=server.line.host, greeting_s=GREETING_S),
            ) from error
        self._stale = False

    def _start(self, rows: Rows, asked_at: float) -> None:
        assert self.info is not None
        for ticket, row in rows:
            answer = Answer(row, ticket.deliver, asked_at, self.info)
            task = self._loop.create_task(self._answer(answer))
            self._rows[row.id] = task
            task.add_done_callback(partial(self._done, answer))

    def _done(self, answer: Answer, task: "asyncio.Task[None]") -> None:
        if not answer.ended:  # cancelled before it began
            self._cancelled(answer)
        self._rows.pop(answer.request.id, None)
        self.used_at = time.monotonic()
        if not self._rows:
            self.on_change()

    def _cancel(self, ids: list[str]) -> None:
        for row_id in ids:
            if row_id in self._rows:
                self._rows[row_id].cancel()

    async def _answer(self, answer: Answer) -> None:
        """Answer one row; whatever goes wrong ends it too, or somebody would wait for ever."""
        assert self._server is not None
        try:
            if self._stale:  # it failed before: another model may be served there now
                await self._greet(self._server)
            if answer.request.prompt_format is not None:  # such prompts hold the token that ends a turn
                with suppress(MadangError):
                    await self._scorer.vocabulary()
            await self._server.answer(answer)
        except asyncio.CancelledError:
            self._cancelled(answer)
        except MadangError as error:
            self._stale = True
            answer.fail(error)
        except Exception as error:
            answer.fail(bug(error))
            raise

    def _cancelled(self, answer: Answer) -> None:
        if answer.ended:
            return
        if self._stopped:
            unloaded = WorkerError(worded("worker.unloaded_while_answering", name=self.spec.name))
            answer.fail(self._why or unloaded)
        else:
            answer.finish("cancelled")

    async def _end(self) -> None:
        tasks = list(self._rows.values())
        others = asyncio.all_tasks() - {asyncio.current_task(), *tasks}
        for task in (*tasks, *others):
            task.cancel()
        await asyncio.gather(*tasks, *others, return_exceptions=True)
        if self._server is not None:
            await self._server.close()

    async def _encode(self, arguments: dict[str, Any]) -> list[list[int]]:
        return await self._scorer.encode(arguments["texts"], arguments["add_special"])

    async def _vocabulary(self, arguments: dict[str, Any]) -> dict[str, Any]:
        words = await self._scorer.vocabulary()
        self.info = self._scorer.server.info  # where letters stand for tokens, more of them fit
        return words.model_dump()

    async def _score(self, arguments: dict[str, Any]) -> dict[str, Any]:
        questions = [Choices.model_validate(row) for row in arguments["questions"]]
        return (await self._scorer.score(questions)).model_dump()

    def _gone(self) -> MadangError:
        return self._why or WorkerError(worded("worker.line_closed", name=self.spec.name))
