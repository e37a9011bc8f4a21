"""One answer of an OpenAI-compatible server: takes its parts and emits events. Speaks to no server."""

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
    shown: Said = Said()
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
        said = self._told_apart(thought, (part.content or "" if part else "") + (choice.text or ""))
        if choice.logprobs is not None and self.request.top_logprobs is not None:
            self.entries += choice.logprobs.entries()
        whole = "stop" if choice.message is not None else None
        self.reason = choice.finish_reason or self.reason or whole
        if thought or (part and part.content) or choice.text:
            self.parts += 1
        self.pending += said

    def _told_apart(self, thought: str, text: str) -> Said:
        """Return a part's thought and its text; thoughts that come as such stand before all text."""
        now, so_far = time.monotonic(), self.shown + self.pending
        said = self.splitter.feed(text) if self.splitter else Said(text=text)
        if so_far.thought and not so_far.text:
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
            self.shown, self.pending, self.entries = self.shown + said, Said(), []

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
            reasoning_tokens=reasoned,
            reasoning_s=None if self.thought_at is None else max(until - self.thought_at, 0.0),
        )
