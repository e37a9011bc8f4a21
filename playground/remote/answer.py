"""One answer of an OpenAI-compatible server: takes its parts and emits events. Speaks to no server."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from playground.errors import MadangError
from playground.events import Delta, Event, Failed, Finished, FinishReason, Started, Stats, TokenLogprob
from playground.protocol import ModelInfo, RowRequest
from playground.remote.chunks import Choice, Usage

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
    shown: str = ""
    pending: str = ""
    entries: list[TokenLogprob] = field(default_factory=list)
    parts: int = 0
    usage: Usage | None = None
    reason: str | None = None
    heard: bool = False
    """Whether the server has said anything of this answer, if only its end."""
    thinking: bool = False
    thought: bool = False
    first_at: float | None = None
    last_at: float = 0.0
    ended: bool = False

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
        )
        self.emit(started)

    def take(self, choice: Choice) -> None:
        """Add one part; `show` emits it."""
        self.heard = True
        part = choice.delta or choice.message
        text = self._thought(part.reasoning_content or part.reasoning or "", part.content or "") if part else ""
        text += choice.text or ""
        if choice.logprobs is not None and self.request.top_logprobs is not None:
            self.entries += choice.logprobs.entries()
        whole = "stop" if choice.message is not None else None
        self.reason = choice.finish_reason or self.reason or whole
        if text:
            self.parts += 1
            self.pending += text

    def _thought(self, thought: str, said: str) -> str:
        """Return a part's thoughts and text, thoughts between <think> tags, as local engines show them."""
        before = "<think>\n" if thought and not self.thinking else ""
        after = "\n</think>\n\n" if said and (self.thinking or thought) else ""
        self.thinking = (self.thinking or bool(thought)) and not said
        self.thought |= bool(thought)
        return before + thought + after + said

    def show(self) -> None:
        """Emit what has come since the last time."""
        if self.pending:  # parts that came together have one time
            self.last_at = time.monotonic()
            self.first_at = self.last_at if self.first_at is None else self.first_at
        if self.pending or self.entries:
            self.emit(Delta(variant=self.request.variant, text=self.pending, tokens=tuple(self.entries)))
            self.shown, self.pending, self.entries = self.shown + self.pending, "", []

    def finish(self, reason: FinishReason) -> None:
        """Emit the last event of a row that did not fail."""
        self.show()
        self.ended = True
        self.emit(Finished(variant=self.request.variant, reason=reason, text=self.shown, stats=self._stats()))

    def fail(self, error: MadangError) -> None:
        """Emit the last event of a row that failed."""
        self.show()
        self.ended = True
        said = {"message": error.message, "hint": error.hint, "error": type(error).__name__}
        self.emit(Failed(variant=self.request.variant, text=self.shown, **said))

    def _stats(self) -> Stats:
        tokens = self.usage.completion_tokens if self.usage else self.parts
        lasted = self.last_at - (self.first_at or 0.0)
        seen = tokens - (self.usage.thought if self.usage and not self.thought else 0)
        return Stats(
            prompt_tokens=self.usage.prompt_tokens if self.usage else 0,
            tokens=tokens,
            first_token_s=None if self.first_at is None else self.first_at - self.asked_at,
            tokens_per_s=(seen - 1) / lasted if self.first_at and lasted >= SHORTEST_S and seen > 1 else None,
            memory_bytes=0,
            dtype=self.info.dtype,
        )
