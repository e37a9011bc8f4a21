"""Makes many answers at once on one backend: reads prompts chunk by chunk, decodes all rows in one batch.

Rows join and leave between two steps, so a pane that starts late or is cancelled never holds up the others.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from playground.backends.prompting import Prompt, prompt_of
from playground.backends.text import StopFilter
from playground.errors import ContextError, MadangError, VariantError
from playground.events import Delta, Event, Failed, Finished, FinishReason, Progress, Started, Stats, TokenLogprob
from playground.messages import Conversation
from playground.protocol import Backend, Cancelled, Row, RowRequest

EMIT_EVERY_S = 0.04
PROGRESS_AFTER_TOKENS = 512
READ_TOKENS = 512
"""Tokens of prompts that are read, by all who wait together, between two tokens of those who are answered."""

Emit = Callable[[str, Event], None]


@dataclass(eq=False)
class _Active:
    """A row with what it has shown so far and its clock."""

    row: Row
    stops: StopFilter
    asked_at: float
    shown: str = ""
    pending: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list)
    """Those not told yet; always empty where log-probabilities were not asked for."""
    first_at: float | None = None
    last_at: float = 0.0
    emitted_at: float = 0.0
    steps: int = 0


@dataclass(eq=False)
class Scheduler:
    """The rows of one worker. `emit` gets a row's id and its event; `is_cancelled` is asked between and in steps."""

    backend: Backend
    emit: Emit
    is_cancelled: Callable[[str], bool]
    _queued: list[tuple[RowRequest, float, Prompt]] = field(default_factory=list)
    _waiting: list[_Active] = field(default_factory=list)
    _running: list[_Active] = field(default_factory=list)
    _last: tuple[object, Prompt] | None = None
    """The prompt built last and what of: the answers of one request share it."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._queued or self._waiting or self._running)

    def add(self, request: RowRequest, asked_at: float) -> None:
        """Take one request in; a prompt that cannot be built or does not fit ends the row with Failed."""
        if self.is_cancelled(request.id):
            self._finish(_Active(Row(request, []), StopFilter(()), asked_at), "cancelled")
            return
        try:
            prompt, dropped = self._fit(request)
        except MadangError as error:
            self._fail(request, error)
            return
        self._queued.append((request, asked_at, prompt))
        started = Started(
            variant=request.variant,
            prompt=prompt.text,
            prompt_tokens=len(prompt.ids),
            dropped_turns=dropped,
            seed=request.sampling.seed or 0,
            dtype=self.backend.info.dtype,
            device=self.backend.info.device,
        )
        self.emit(request.id, started)

    def step(self) -> None:
        """Read some of the waiting prompts, then make one token for every running row."""
        self._drop_cancelled()
        self._open_queued()
        if self._waiting:
            self._read_prompts()
        if self._running:
            self._make_tokens()

    def _fit(self, request: RowRequest) -> tuple[Prompt, int]:
        """The prompt, and how many of the oldest turns had to go until it and its answer fit the context."""
        context = self.backend.info.context
        room = min(request.sampling.max_new_tokens, max(context // 4, 1))
        prompt = self._prompt(request)
        if not prompt.ids:
            raise VariantError("The prompt is empty.", "Type a question.")
        if len(prompt.ids) <= context - room:
            return prompt, 0
        shorter = [] if request.whole else _shortened(request)
        place = bisect_left(shorter, True, key=lambda one: len(self._prompt(one).ids) <= context - room)
        if place < len(shorter):
            return self._prompt(shorter[place]), place + 1
        prompt = self._prompt(shorter[-1]) if shorter else prompt
        raise ContextError(
            f"The question takes {len(prompt.ids)} tokens; {request.variant} holds {context}, {room} for the answer.",
            "Shorten the question or the system prompt, ask for fewer new tokens, or raise `context` in the catalogue.",
        )

    def _prompt(self, request: RowRequest) -> Prompt:
        made_of = (request.messages, request.text, request.ids, request.prompt_format)
        if self._last is None or self._last[0] != made_of:
            self._last = (made_of, prompt_of(self.backend, request))
        return self._last[1]

    def _open_queued(self) -> None:
        """Open rows as long as the backend has room: first those whose group has the fewest, then as they came.

        No group takes the last quarter of the places, so that whoever comes beside it need not wait for one.
        """
        while self._queued:
            under_way = self._under_way()
            item = min(self._queued, key=lambda one: under_way[one[0].group])
            request, asked_at, prompt = item
            full = under_way[request.group] >= max(self.backend.max_rows * 3 // 4, 1)
            if full or not self.backend.has_room(prompt.ids, request.sampling):
                return
            self._queued.remove(item)
            try:
                row = self.backend.open(request, prompt.ids)
            except MadangError as error:
                self._fail(request, error)
                continue
            row.is_open = True
            row.cancelled = partial(self.is_cancelled, request.id)
            self._waiting.append(_Active(row, StopFilter((*request.sampling.stop, *prompt.stops)), asked_at))

    def _fail(self, request: RowRequest, error: MadangError, text: str = "") -> None:
        said = {"message": error.message, "hint": error.hint, "error": type(error).__name__}
        self.emit(request.id, Failed(variant=request.variant, text=text, **said))

    def _break(self, active: _Active, error: MadangError) -> None:
        """End an answer that cannot go on; what it said stays said."""
        self._show(active, active.last_at)
        self.backend.close_row(active.row)
        self._fail(active.row.request, error, active.shown)

    def _drop_cancelled(self) -> None:
        for item in [item for item in self._queued if self.is_cancelled(item[0].id)]:
            self._queued.remove(item)
            self._finish(_Active(Row(item[0], item[2].ids), StopFilter(()), item[1]), "cancelled")
        for group in (self._waiting, self._running):
            for active in list(group):
                if active.row.cancelled():
                    group.remove(active)
                    self._finish(active, "cancelled")

    def _under_way(self) -> Counter[str]:
        """How many rows of each group are open; those without a group are each their own."""
        return Counter(
            active.row.request.group for active in (*self._waiting, *self._running) if active.row.request.group
        )

    def _read_prompts(self) -> None:
        """A chunk of each waiting prompt in turn, small groups first, until whoever is answered has waited enough."""
        left, under_way = READ_TOKENS, self._under_way()
        while self._waiting:
            active = min(self._waiting, key=lambda one: under_way[one.row.request.group])
            if left < min(len(active.row.prompt) - active.row.read, READ_TOKENS):
                return
            self._waiting.remove(active)
            before = active.row.read
            self._read(active)
            left -= max(active.row.read - before, 1)

    def _read(self, active: _Active) -> None:
        """Read a chunk of a prompt that was taken out of those that wait: it runs then, or waits behind the others."""
        row = active.row
        try:
            ready = self.backend.prefill(row)
        except Cancelled:
            self._finish(active, "cancelled")
            return
        (self._running if ready else self._waiting).append(active)
        if not ready and len(row.prompt) > PROGRESS_AFTER_TOKENS:
            done = Progress(variant=row.request.variant, step="reading", fraction=row.read / len(row.prompt))
            self.emit(row.request.id, done)

    def _make_tokens(self) -> None:
        for active in list(self._running):
            try:
                token = self.backend.sample(active.row)
            except MadangError as error:
                self._running.remove(active)
                self._break(active, error)
                continue
            reason = self._take(active, token)
            if reason is not None:
                self._running.remove(active)
                self._finish(active, reason)
        if self._running:
            self.backend.decode([active.row for active in self._running])

    def _take(self, active: _Active, token: int) -> FinishReason | None:
        """Book one token of a row, show what it completes, and say whether the answer ends here."""
        row, now = active.row, time.monotonic()
        active.last_at = now
        active.steps += 1
        if active.first_at is None:
            active.first_at = now
        if self.backend.is_end(token):
            return "stop"
        if row.request.top_logprobs is not None:
            active.tokens.append(self.backend.likely(row, token))
        row.tokens.append(token)
        active.pending += active.stops.feed(self.backend.text(row, token))
        if active.stops.stopped:
            return "stop"
        full = len(row.prompt) + len(row.tokens) >= self.backend.info.context
        if full or len(row.tokens) >= row.request.sampling.max_new_tokens:
            return "length"
        if (active.pending or active.tokens) and now - active.emitted_at >= EMIT_EVERY_S:
            self._show(active, now)
        return None

    def _show(self, active: _Active, now: float) -> None:
        if active.pending or active.tokens:
            request, tokens = active.row.request, tuple(active.tokens)
            self.emit(request.id, Delta(variant=request.variant, text=active.pending, tokens=tokens))
            active.shown, active.pending, active.emitted_at = active.shown + active.pending, "", now
            active.tokens.clear()

    def _finish(self, active: _Active, reason: FinishReason) -> None:
        row = active.row
        active.pending += active.stops.flush()
        self._show(active, active.last_at)
        stats = self._stats(active)
        if row.is_open:
            self.backend.close_row(row)
        self.emit(row.request.id, Finished(variant=row.request.variant, reason=reason, text=active.shown, stats=stats))

    def _stats(self, active: _Active) -> Stats:
        row = active.row
        first = None if active.first_at is None else active.first_at - active.asked_at
        after_first = active.last_at - (active.first_at or 0.0)
        speed = (active.steps - 1) / after_first if after_first > 0 else None
        ram, vram = self.backend.memory()
        return Stats(
            prompt_tokens=len(row.prompt),
            tokens=len(row.tokens),
            first_token_s=first,
            tokens_per_s=speed,
            memory_bytes=ram + vram,
            dtype=self.backend.info.dtype,
        )


def _shortened(request: RowRequest) -> list[RowRequest]:
    """A request without its oldest turn, without its two oldest, and so on."""
    requests = []
    left = Conversation(messages=request.messages).without_oldest_turn()
    while left is not None:
        requests.append(request.model_copy(update={"messages": left.messages}))
        left = left.without_oldest_turn()
    return requests
