"""The answers to one request while they are made: a queue between the workers' threads and the event loop.

Closing Answers early cancels the rows that have not ended: the engine is free for others at its next step.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from playground.events import Delta, Event, Failed, Finished, Started
from playground.protocol import RowRequest
from playground.server.guards.limits import Limits
from playground.server.guards.record import Record
from playground.server.served_models import Target
from playground.server.wire.errors import TOO_LONG, ApiError, from_row
from playground.waiting import LOOK_S
from playground.workers.tickets import Ticket

HEAVY = 100_000
"""Letters or token ids of a prompt; a turn counts as a hundred."""


def _is_heavy(row: RowRequest) -> bool:
    said = sum(len(turn.content) + 100 for turn in row.messages[: HEAVY // 100])
    return said + len(row.text or "") + len(row.ids or ()) >= HEAVY


class Answers:
    """The answers to one request while they are made. Made on the event loop, and read there."""

    target: Target

    def __init__(
        self, rows: Sequence[RowRequest], choices: int, record: Record, limits: Limits, threads: ThreadPoolExecutor
    ) -> None:
        self.answer_tokens = 0
        self.thought_tokens = 0
        self._param = "messages" if rows[0].messages else "prompt"
        self._prompts: dict[int, int] = {}
        self._rows, self._choices, self._gone = rows, choices, False
        self._record, self._limits, self._threads = record, limits, threads
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._early: deque[tuple[int, Event]] = deque()
        self._unread = set(range(len(rows)))
        self._heard = [threading.Event() for _ in rows]
        self._tickets = [Ticket("", partial(self._put, index)) for index in self._unread]

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts; one that gets many answers counts once."""
        return sum(tokens for index, tokens in self._prompts.items() if index % self._choices == 0)

    def is_gone(self) -> bool:
        """Return whether they were closed: nobody waits for them any more."""
        return self._gone

    def rows(self) -> Iterator[tuple[Ticket, RowRequest]]:
        """Yield each row as its worker gets it, with its ticket, until they are closed, as after a refusal.

        One with a prompt of megabytes goes when the one before has its prompt: a worker would hold them all unread.
        """
        shared = {"variant": self.target.variant.name, "adapter": self.target.loadable.adapter}
        shared |= {"prompt_format": self.target.prompt_format, "group": self._tickets[0].id}
        for index, (ticket, row) in enumerate(zip(self._tickets, self._rows, strict=True)):
            while index and _is_heavy(row) and not self._gone and not self._heard[index - 1].wait(LOOK_S):
                pass
            if self._gone:
                return
            yield ticket, row.model_copy(update=shared | {"whole": True})

    async def begin(self) -> None:
        """Wait until every row has its prompt; raises ApiError where one is refused."""
        waiting = set(self._unread)
        while waiting:
            index, event = await self._next()
            if isinstance(event, Failed):
                raise from_row(event, None if index in self._prompts else self._param)
            if isinstance(event, Started):
                self._check(event)
                self._prompts[index] = event.prompt_tokens
            elif isinstance(event, Delta | Finished):
                self._early.append((index, event))
            if isinstance(event, Started | Finished):
                waiting.discard(index)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Delta | Finished]]:
        """Yield the rows' events with their index until every row has ended; raises ApiError where one fails."""
        while self._early or self._unread:
            index, event = self._early.popleft() if self._early else await self._next()
            if isinstance(event, Failed):
                raise from_row(event, None)
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
        self._gone = True
        if self._unread:
            with suppress(RuntimeError):  # the threads have ended with the server, and the workers with it
                self._threads.submit(self._cancel)

    def _cancel(self) -> None:
        """Cancel the rows; on a thread, as a worker's pipe may be full."""
        for ticket in self._tickets:
            ticket.cancel()

    def _put(self, index: int, event: Event) -> None:
        """Take a row's event from a worker's thread to the event loop."""
        self._heard[index].set()
        with suppress(RuntimeError):  # the loop is closed: the server has ended, and nobody waits
            self._loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

    async def _next(self) -> tuple[int, Event]:
        index, event = await self._events.get()
        if isinstance(event, Finished | Failed):
            self._unread.discard(index)
        if isinstance(event, Finished):
            self.answer_tokens += event.stats.tokens
            self.thought_tokens += event.stats.reasoning_tokens
            if not self._prompts.get(index):  # a server elsewhere counts its prompt at the end
                self._prompts[index] = event.stats.prompt_tokens
        return index, event

    def _check(self, started: Started) -> None:
        """Refuse what is longer than this server takes."""
        if started.prompt_tokens > self._limits.prompt_tokens:
            text = f"The prompt takes {started.prompt_tokens} tokens; this server takes {self._limits.prompt_tokens}."
            raise ApiError(400, text, self._param, TOO_LONG)
