"""One answer of an OpenAI-compatible server: takes its parts and emits events. Speaks to no server."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from playground.errors import MadangError
from playground.events import Delta, Event, Failed, Finished, FinishReason, Started, Stats, TokenLogprob
from playground.protocol import ModelInfo, RowRequest
from playground.remote.chunks import Choice, Usage
from playground.thinking.splitter import Said, Splitter, split
from playground.thinking.tags import common

Emit = Callable[[Event], None]
LAST_S = 5.0
"""How long a stream may take to end once its answer has."""
SHORTEST_S = 0.05
"""Seconds. What comes within less was held back on its way, or is too little to measure a speed by."""


@dataclass
class Answer:
    """One answer as it comes in, and its clock (monotonic seconds)."""

    request: RowRequest
    emit: Emit
    asked_at: float
    info: ModelInfo
    dropped: int = 0
    letters: int = 0
    """Of its thought and its text, as they came; `said`: those of parts that are more than white space."""
    said: int = 0
    parted: list[Said] = field(default_factory=list)
    """What was emitted."""
    pending: Said = Said()
    entries: list[TokenLogprob] = field(default_factory=list)
    parts: int = 0
    usage: Usage | None = None
    reason: str | None = None
    heard: bool = False
    """Whether the server has said anything of this answer, if only its end."""
    splitter: Splitter | None = None
    """Tells thoughts apart that come in tags among the text; None for raw texts."""
    thought_parts: int = 0
    thought_at: float | None = None
    """When the first of its thought came, and when its text did."""
    answered_at: float | None = None
    first_at: float | None = None
    last_at: float = 0.0
    ended: bool = False

    def __post_init__(self) -> None:
        if self.request.messages:
            self.splitter = Splitter(common())
        elif self.request.apart and self.request.text is not None:
            opened = next((tags for tags in common() if tags.opened_by(self.request.text)), None)
            self.splitter = Splitter(common(), opened)

    @property
    def shown(self) -> Said:
        """All that was emitted."""
        return Said("".join(said.thought for said in self.parted), "".join(said.text for said in self.parted))

    def start(self, prompt: str) -> None:
        """Emit that the server has taken the prompt; the number of its tokens comes at the end."""
        started = Started(
            variant=self.request.variant,
            prompt=prompt,
            prompt_tokens=0,
            dropped_turns=self.dropped,
            seed=self.request.sampling.seed or 0,
            dtype=self.info.dtype,
            device=self.info.device,
            thinks=bool(self.request.messages),
        )
        self.emit(started)

    def take(self, choice: Choice) -> None:
        """Add one part; `show` emits it."""
        self.heard = True
        part = choice.delta or choice.message
        thought = (part.reasoning_content or part.reasoning or "") if part else ""
        text = (part.content or "" if part else "") + (choice.text or "")
        self.letters += len(thought) + len(text)
        self.said += len(thought.strip()) + len(text.strip())
        said = self._told_apart(thought, text)
        if choice.logprobs is not None and self.request.top_logprobs is not None:
            self.entries += choice.logprobs.entries()
        whole = "stop" if choice.message is not None else None
        self.reason = choice.finish_reason or self.reason or whole
        if thought or text:
            self.parts += 1
        self.pending += said

    def _told_apart(self, thought: str, text: str) -> Said:
        """Return a part's thought and its text; thoughts that come as such stand before all text."""
        now = time.monotonic()
        said = self.splitter.feed(text) if self.splitter else Said(text=text)
        if self.thought_at is not None and self.answered_at is None:
            said = Said(said.thought, said.text.lstrip())
        said = Said(thought + said.thought, said.text)
        if said.thought or (self.splitter and self.splitter.thinking):
            self.thought_parts += 1
            self.thought_at = now if self.thought_at is None else self.thought_at
        if said.text and self.answered_at is None:
            self.answered_at = now
        return said

    def show(self) -> None:
        """Emit what has come since the last time."""
        if any(self.pending):  # parts that came together have one time
            self.last_at = time.monotonic()
            self.first_at = self.last_at if self.first_at is None else self.first_at
        if any(self.pending) or self.entries:
            said, tokens = self.pending, tuple(self.entries)
            self.emit(Delta(variant=self.request.variant, text=said.text, reasoning=said.thought, tokens=tokens))
            self.parted.append(said)
            self.pending, self.entries = Said(), []

    def finish(self, reason: FinishReason) -> None:
        """Emit the last event of a row that did not fail."""
        self._flush()
        said = self._whole()
        end = Finished(
            variant=self.request.variant, reason=reason, text=said.text, reasoning=said.thought, stats=self._stats()
        )
        self.emit(end)

    def fail(self, error: MadangError) -> None:
        """Emit the last event of a row that failed."""
        self._flush()
        why = {"message": error.message, "hint": error.hint, "error": type(error).__name__}
        said = self.shown
        self.emit(Failed(variant=self.request.variant, text=said.text, reasoning=said.thought, **why))

    def _flush(self) -> None:
        """Emit the rest, with what might have become a tag."""
        if self.splitter is not None:
            self.pending += self.splitter.flush()
        self.show()
        self.ended = True

    def _whole(self) -> Said:
        """Return all of it; a thought that its prompt had opened is known by the closing tag alone."""
        text = self.shown.text
        if self.splitter is None or self.shown.thought:
            return self.shown
        began = [tags for tags in common() if tags.answer[0] in text and tags.thought[0] not in text]
        return split(text, common(), began[0])[0] if began else self.shown

    def _stats(self) -> Stats:
        tokens = self.usage.completion_tokens if self.usage else self.parts
        lasted = self.last_at - (self.first_at or 0.0)
        reasoned = (self.usage.thought if self.usage else 0) or self.thought_parts
        seen = tokens - (reasoned if not self.thought_parts else 0)
        until = self.answered_at if self.answered_at is not None else self.last_at
        return Stats(
            prompt_tokens=self.usage.prompt_tokens if self.usage else 0,
            tokens=tokens,
            first_token_s=None if self.first_at is None else self.first_at - self.asked_at,
            tokens_per_s=(seen - 1) / lasted if self.first_at and lasted >= SHORTEST_S and seen > 1 else None,
            memory_bytes=0,
            dtype=self.info.dtype,
            counted=self.usage is not None,
            reasoning_tokens=reasoned,
            reasoning_s=None if self.thought_at is None else max(until - self.thought_at, 0.0),
        )


class Silence:
    """How long a stream has said nothing of its answer: until when it may go on so, and for how many events."""

    def __init__(self, seconds: float, most: int) -> None:
        self.most = most
        self._seconds, self._said, self._events, self._until = seconds, -1, 0, 0.0

    def until(self, answer: Answer) -> float:
        """Return the loop's time at which it is enough; once the answer has ended, that comes soon."""
        ended = answer.reason is not None and self._seconds != LAST_S
        if ended or answer.said != self._said:
            self._seconds = LAST_S if answer.reason is not None else self._seconds
            self._until = asyncio.get_running_loop().time() + self._seconds
            self._said = answer.said
        return self._until

    def lasts(self, answer: Answer, before: int) -> bool:
        """Count an event after which `said` is as `before`; return whether there are too many of them in a row."""
        self._events = self._events + 1 if answer.said == before else 0
        return self._events > self.most
