"""Makes many answers at once on one backend: reads prompts chunk by chunk, decodes all rows in one batch.

Rows join and leave between two steps, so a pane that starts late or is cancelled never holds up the others.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, NamedTuple

from playground.allowance import Cancelled, allowed
from playground.backends.prompting import Prompt, TooLong, prompt_of
from playground.backends.shortening import Shorter, least_fitting
from playground.errors import ContextError, MadangError, VariantError
from playground.events import Delta, Event, Failed, Finished, FinishReason, Progress, Started, Stats, TokenLogprob
from playground.presets import Sampling
from playground.protocol import Backend, R, RowRequest, Tokenizer
from playground.thinking.splitter import Said
from playground.thinking.stream import AnswerStream
from playground.thinking.tags import Tags
from playground.waiting import never
from playground.wording import worded

EMIT_EVERY_S = 0.04
PROGRESS_AFTER_TOKENS = 512
NOTHING = Said()
NO_MATTER = {"id": "", "variant": "", "sampling": Sampling(), "group": "", "top_logprobs": None}
"""What a prompt does not depend on."""

Emit = Callable[[str, Event], None]


class _Queued(NamedTuple):
    """A request whose row is not open yet."""

    request: RowRequest
    prompt: Prompt
    asked_at: float


@dataclass(eq=False)
class _Active(Generic[R]):
    """An open row with what it has shown so far and its clock."""

    row: R
    tokenizer: Tokenizer
    text: AnswerStream
    asked_at: float
    closing: str = ""
    """What closes its thought where that takes too long."""
    shown: Said = Said()
    pending: Said = Said()
    tokens: list[TokenLogprob] = field(default_factory=list)
    """Those not told yet; always empty where log-probabilities were not asked for."""
    first_at: float | None = None
    last_at: float = 0.0
    emitted_at: float = 0.0
    steps: int = 0
    thought: int = 0
    """Tokens of its thought so far."""
    thinking_since: float | None = None
    thought_s: float | None = None
    closes: int = 0
    """Tokens of `closing` that are still to come."""

    @property
    def spent(self) -> bool:
        """Whether its thought has had all the tokens that it may take."""
        budget = self.row.request.thinking.budget
        return budget is not None and self.text.thinking and self.thought >= budget and not self.closes

    def hear(self, piece: bytes, now: float) -> None:
        """Take the bytes of one token; book where they were thought, and for how long."""
        was = self.text.thinking
        self.pending += self.text.feed(piece)
        if was and self.text.thinking and not self.closes:
            self.thought += 1
        if was or self.text.thinking:
            since = self.thinking_since if self.thinking_since is not None else now
            self.thinking_since, self.thought_s = since, now - since
        self.closes = max(self.closes - 1, 0)


@dataclass(eq=False)
class Scheduler(Generic[R]):
    """The rows of one worker. `emit` gets a row's id and its event; `is_cancelled` is asked between and in steps."""

    backend: Backend[R]
    emit: Emit
    is_cancelled: Callable[[str], bool]
    _queued: list[_Queued] = field(default_factory=list)
    _waiting: list[_Active[R]] = field(default_factory=list)
    _running: list[_Active[R]] = field(default_factory=list)
    _answered: set[str] = field(default_factory=set)
    """The variants whose answers this process has made: with more than one, its memory is shared."""
    _last: tuple[object, Prompt] | None = None
    """The prompt built last and what of: the answers of one request share it."""

    @property
    def idle(self) -> bool:
        """Return whether there is nothing to do."""
        return not (self._queued or self._waiting or self._running)

    def add(self, request: RowRequest, asked_at: float) -> None:
        """Take one request in; a prompt that cannot be built or does not fit ends the row with Failed."""
        if self.is_cancelled(request.id):
            self._finished(request, "cancelled", Said(), self._stats([]))
            return
        try:
            with allowed(partial(self.is_cancelled, request.id), self.go_on):
                prompt, dropped = self._fit(request)
        except Cancelled:
            self._finished(request, "cancelled", Said(), self._stats([]))
            return
        except MadangError as error:
            self._fail(request, error)
            return
        request = _without_prompt(request)
        self._answered.add(request.variant)
        self._queued.append(_Queued(request, prompt, asked_at))
        started = Started(
            variant=request.variant,
            prompt=prompt.text,
            prompt_tokens=len(prompt.ids),
            dropped_turns=dropped,
            notices=prompt.notices,
            thinks=prompt.thinks,
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

    def go_on(self) -> None:
        """Go one step on with the rows there are, while the prompt of another is built."""
        if not self.idle:
            with allowed(never, lambda: None):
                self.step()

    def _fit(self, request: RowRequest) -> tuple[Prompt, int]:
        """Return the prompt, and how many of the oldest turns had to go until it and its answer fit the context.

        The search goes from the last question to longer ones: what it costs grows with the context, and not with how
        many turns are sent.
        """
        context = self.backend.info.context
        room = min(request.sampling.max_new_tokens, max(context // 4, 1))
        shorter = Shorter(request)
        found: dict[int, Prompt | str] = {}

        def fits(dropped: int) -> bool:
            if dropped not in found:
                found[dropped] = self._fitting(shorter.without(dropped), context - room)
            return isinstance(found[dropped], Prompt)

        if fits(0) or fits(shorter.most):
            dropped = 0 if fits(0) else least_fitting(shorter.most, fits)
            prompt = found[dropped]
            assert isinstance(prompt, Prompt)
            return prompt, dropped
        raise ContextError(
            worded(
                "scheduler.question_takes_tokens",
                found=found[shorter.most],
                variant=request.variant,
                context=context,
                room=room,
            ),
        )

    def _fitting(self, request: RowRequest, most: int) -> Prompt | str:
        """Return the prompt, or, where it does not fit, how many tokens it takes."""
        try:
            prompt = self._prompt(request, most)
        except TooLong as found:
            return f"at least {found.least}"
        if not prompt.ids:
            raise VariantError(worded("scheduler.prompt_empty"))
        return prompt if len(prompt.ids) <= most else str(len(prompt.ids))

    def _prompt(self, request: RowRequest, most: int) -> Prompt:
        tokenizer = self.backend.tokenizer(request.adapter)
        made_of = (tokenizer, request.model_copy(update=NO_MATTER))
        if self._last is None or self._last[0] != made_of:
            self._last = (made_of, prompt_of(tokenizer, request, most))
        return self._last[1]

    def _open_queued(self) -> None:
        """Open rows as long as the backend has room: first those whose group has the fewest, then as they came.

        No group takes the last quarter of the places, so that a row of another group need not wait for one.
        """
        while self._queued:
            under_way = self._under_way()
            queued = min(self._queued, key=lambda one: under_way[one.request.group])
            request, prompt, asked_at = queued
            full = under_way[request.group] >= max(self.backend.max_rows * 3 // 4, 1)
            if full or not self.backend.has_room(prompt.ids, request.sampling):
                return
            self._queued.remove(queued)
            try:
                row = self.backend.open(request, prompt.ids)
            except MadangError as error:
                self._fail(request, error)
                continue
            row.cancelled = partial(self.is_cancelled, request.id)
            text = AnswerStream(request.sampling.stop, prompt.stops, prompt.families, prompt.opened)
            tags: Sequence[Tags] = [prompt.opened] if prompt.opened else prompt.families
            tokenizer = self.backend.tokenizer(request.adapter)
            active = _Active(row, tokenizer, text, asked_at, tags[0].closing if tags else "")
            self._close_thought(active)
            self._waiting.append(active)

    def _close_thought(self, active: _Active[R]) -> None:
        """Have a thought that has had its tokens end: the tokens of its closing tag come next."""
        if active.spent:
            ids = active.tokenizer.encode(active.closing, add_special=False)
            active.row.forced, active.closes = list(ids), len(ids)
            active.text.cut()

    def _fail(self, request: RowRequest, error: MadangError, said: Said = NOTHING) -> None:
        why = {"message": error.message, "hint": error.hint, "error": type(error).__name__}
        self.emit(request.id, Failed(variant=request.variant, text=said.text, reasoning=said.thought, **why))

    def _break(self, active: _Active[R], error: MadangError) -> None:
        """End an answer that cannot go on; what it said stays said."""
        self._show(active, active.last_at)
        self.backend.close_row(active.row)
        self._fail(active.row.request, error, active.shown)

    def _drop_cancelled(self) -> None:
        for queued in [one for one in self._queued if self.is_cancelled(one.request.id)]:
            self._queued.remove(queued)
            self._finished(queued.request, "cancelled", Said(), self._stats(queued.prompt.ids))
        for group in (self._waiting, self._running):
            for active in list(group):
                if active.row.cancelled():
                    group.remove(active)
                    self._finish(active, "cancelled")

    def _under_way(self) -> Counter[str]:
        """Return how many rows of each group are open; those without a group are each their own."""
        return Counter(
            active.row.request.group for active in (*self._waiting, *self._running) if active.row.request.group
        )

    def _read_prompts(self) -> None:
        """Read a portion of waiting prompts, small groups first, as much as running rows can wait for."""
        chosen = self._next_to_read()
        for active, ready in zip(chosen, self.backend.read([one.row for one in chosen]), strict=True):
            row = active.row
            if isinstance(ready, Cancelled):
                self._finish(active, "cancelled")
                continue
            (self._running if ready else self._waiting).append(active)
            if not ready and len(row.prompt) > PROGRESS_AFTER_TOKENS:
                done = Progress(variant=row.request.variant, step="reading", fraction=row.read / len(row.prompt))
                self.emit(row.request.id, done)

    def _next_to_read(self) -> list[_Active[R]]:
        """Take those whose prompts go on out of the ones that wait; what is not read to its end waits behind."""
        portion, under_way = self.backend.portion, self._under_way()
        left, chosen = portion, []
        while self._waiting:
            active = min(self._waiting, key=lambda one: under_way[one.row.request.group])
            size = max(min(len(active.row.prompt) - active.row.read, portion), 1)
            if left < size:
                break
            self._waiting.remove(active)
            chosen.append(active)
            left -= size
        return chosen

    def _make_tokens(self) -> None:
        """Show the tokens that were drawn, and have those who go on fed theirs."""
        drawn = zip(list(self._running), self.backend.draw([active.row for active in self._running]), strict=True)
        for active, token in drawn:
            if token is None:
                continue
            if isinstance(token, MadangError):
                self._running.remove(active)
                self._break(active, token)
                continue
            reason = self._take(active, token)
            if reason is not None:
                self._running.remove(active)
                self._finish(active, reason)
        if self._running:
            self.backend.decode([active.row for active in self._running])

    def _take(self, active: _Active[R], token: int) -> FinishReason | None:
        """Book one token of a row and show what it completes; return why the answer ends here, if it does."""
        row, tokenizer, now = active.row, active.tokenizer, time.monotonic()
        active.last_at = now
        active.steps += 1
        if active.first_at is None:
            active.first_at = now
        if tokenizer.is_end(token) and not active.closes:
            return "stop"
        likely = self.backend.likely(row, token) if row.request.top_logprobs is not None else None
        row.tokens.append(token)
        active.hear(_bytes(active.text, tokenizer, token), now)
        if likely is not None:
            active.tokens.append(likely)
        if active.thinking_since is not None and not active.text.begun:
            active.tokens.clear()
        if active.text.stopped:
            return "stop"
        self._close_thought(active)
        full = len(row.prompt) + len(row.tokens) >= self.backend.info.context
        if full or len(row.tokens) >= row.request.sampling.max_new_tokens:
            return "length"
        if (any(active.pending) or (active.tokens and active.text.begun)) and now - active.emitted_at >= EMIT_EVERY_S:
            self._show(active, now)
        return None

    def _show(self, active: _Active[R], now: float) -> None:
        if any(active.pending) or active.tokens:
            request, tokens, said = active.row.request, tuple(active.tokens), active.pending
            delta = Delta(
                variant=request.variant,
                text=said.text,
                reasoning=said.thought,
                tokens=tokens,
                made=len(active.row.tokens),
            )
            self.emit(request.id, delta)
            active.shown, active.pending, active.emitted_at = active.shown + said, Said(), now
            active.tokens.clear()

    def _finish(self, active: _Active[R], reason: FinishReason) -> None:
        """End an answer, with what was held back of it."""
        row = active.row
        active.pending += active.text.flush()
        self._show(active, active.last_at)
        after_first = active.last_at - (active.first_at or 0.0)
        stats = self._stats(
            row.prompt,
            tokens=len(row.tokens),
            first_token_s=None if active.first_at is None else active.first_at - active.asked_at,
            tokens_per_s=(active.steps - 1) / after_first if after_first > 0 else None,
            reasoning_tokens=active.thought,
            reasoning_s=active.thought_s,
        )
        self.backend.close_row(row)
        self._finished(row.request, reason, active.shown, stats)

    def _finished(self, request: RowRequest, reason: FinishReason, said: Said, stats: Stats) -> None:
        end = Finished(variant=request.variant, reason=reason, text=said.text, reasoning=said.thought, stats=stats)
        self.emit(request.id, end)

    def _stats(self, prompt: list[int], **made: Any) -> Stats:
        """Return what an answer took; none of it was made where nothing but the prompt is given."""
        nothing: dict[str, Any] = {"tokens": 0, "first_token_s": None, "tokens_per_s": None}
        return Stats(
            prompt_tokens=len(prompt),
            **nothing | made,
            memory_bytes=sum(self.backend.memory()),
            dtype=self.backend.info.dtype,
            shared=len(self._answered) > 1,
        )


def _bytes(text: AnswerStream, tokenizer: Tokenizer, token: int) -> bytes:
    """Return what a token adds to an answer: a control token that may be part of a tag adds its name."""
    if not text.settled and text.reads(name := tokenizer.piece(token)):
        return name
    return tokenizer.answer_bytes(token)


def _without_prompt(request: RowRequest) -> RowRequest:
    """Return a request without what its prompt was made of: each answer of one would hold megabytes."""
    return request.model_copy(update={"messages": request.messages[-1:]})
