"""The answers to one request while they are made: a queue between the workers' threads and the event loop.

Whoever closes Answers early cancels what is unfinished: the engine is free at its next step, whatever the client does.
"""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from playground.events import Delta, Event, Failed, Finished, Started
from playground.protocol import RowRequest
from playground.server.guards.limits import Limits
from playground.server.guards.record import Record
from playground.server.model_list import Target
from playground.server.wire.errors import TOO_LONG, ApiError, failed
from playground.workers.pool import AnyWorker

_numbers = itertools.count(1)


class Answers:
    """The answers to one request while they are made. Made on the event loop, and read there."""

    target: Target

    def __init__(
        self, rows: Sequence[RowRequest], choices: int, record: Record, limits: Limits, threads: ThreadPoolExecutor
    ) -> None:
        self.rows, self.answer_tokens = rows, 0
        self._param = "messages" if rows[0].messages else "prompt"
        self._prompts: dict[int, int] = {}
        self._choices, self._gone = choices, False
        self._record, self._limits, self._threads = record, limits, threads
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._early: deque[tuple[int, Event]] = deque()
        self._ids = [f"api-{next(_numbers)}" for _ in rows]
        self._unread, self._running = set(range(len(rows))), set(range(len(rows)))
        self._asked: dict[int, AnyWorker] = {}
        self._lock = threading.Lock()

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts; one that gets many answers counts once."""
        return sum(tokens for index, tokens in self._prompts.items() if index % self._choices == 0)

    def is_gone(self) -> bool:
        """Whether nobody waits any more."""
        return self._gone

    def row(self, index: int) -> RowRequest:
        """A row as its worker gets it."""
        own: dict[str, str | None] = {"id": self._ids[index], "variant": self.target.variant.name}
        own |= {"adapter": self.target.loadable.adapter, "prompt_format": self.target.prompt_format}
        return self.rows[index].model_copy(update=own | {"group": self._ids[0], "whole": True})

    def sink(self, index: int) -> Callable[[Event], None]:
        """Where a worker's thread leaves a row's events."""

        def put(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server has ended, and nobody waits
                self._loop.call_soon_threadsafe(self._take, index, event)

        return put

    def asked(self, index: int, worker: AnyWorker) -> None:
        """A row is with its worker; where the client has gone meanwhile, it is taken back."""
        with self._lock:
            self._asked[index] = worker
            late = self._gone
        if late:
            worker.cancel([self._ids[index]])

    async def begin(self) -> None:
        """Wait until every row has its prompt; raises ApiError where one is refused."""
        waiting = set(self._unread)
        while waiting:
            index, event = await self._next()
            if isinstance(event, Failed):
                raise failed(event, None if index in self._prompts else self._param)
            if isinstance(event, Started):
                self._check(event)
                self._prompts[index] = event.prompt_tokens
            elif isinstance(event, Delta | Finished):
                self._early.append((index, event))
            if isinstance(event, Started | Finished):
                waiting.discard(index)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Delta | Finished]]:
        """What the rows say, with their index, until every one has ended; raises ApiError where one fails."""
        while self._early or self._unread:
            index, event = self._early.popleft() if self._early else await self._next()
            if isinstance(event, Failed):
                raise failed(event, None)
            if isinstance(event, Delta):
                self._record.first_token()
            if isinstance(event, Delta | Finished):
                yield index, event

    def close(self) -> None:
        """Cancel every row that has not ended, asked or not. Never blocks. A second time it does nothing."""
        if self._gone:
            return
        if self._prompts:
            self._record.tokens(self.target.id, self.prompt_tokens, self.answer_tokens)
        with self._lock:
            self._gone = True
            rows = [(self._asked[index], self._ids[index]) for index in self._running if index in self._asked]
        for worker, row_id in rows:
            with suppress(RuntimeError):  # the threads have ended with the server, and the workers with it
                self._threads.submit(worker.cancel, [row_id])

    def _take(self, index: int, event: Event) -> None:
        if isinstance(event, Finished | Failed):
            self._running.discard(index)
        self._events.put_nowait((index, event))

    async def _next(self) -> tuple[int, Event]:
        index, event = await self._events.get()
        if isinstance(event, Finished | Failed):
            self._unread.discard(index)
        if isinstance(event, Finished):
            self.answer_tokens += event.stats.tokens
            if not self._prompts.get(index):  # a server elsewhere counts its prompt at the end
                self._prompts[index] = event.stats.prompt_tokens
        return index, event

    def _check(self, started: Started) -> None:
        """Refuse what is longer than this server takes."""
        if started.prompt_tokens > self._limits.prompt_tokens:
            text = f"The prompt takes {started.prompt_tokens} tokens; this server takes {self._limits.prompt_tokens}."
            raise ApiError(400, text, self._param, TOO_LONG)
