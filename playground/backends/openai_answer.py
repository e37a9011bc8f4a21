"""One answer of an OpenAI-compatible server as it comes in: parts are added, events go out. Speaks to no server."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from playground.backends.base import ModelInfo, RowRequest
from playground.backends.openai_chunks import Choice, Usage
from playground.errors import MadangError
from playground.events import Delta, Event, Failed, Finished, FinishReason, Started, Stats, TokenLogprob

Emit = Callable[[Event], None]


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
    thinking: bool = False
    first_at: float | None = None
    last_at: float = 0.0
    ended: bool = False

    def start(self, prompt: str) -> None:
        """Say that the server has taken the prompt; how many tokens it is comes at the end."""
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
        """Add one part."""
        part = choice.delta or choice.message
        text = self._thought(part.reasoning_content or part.reasoning or "", part.content or "") if part else ""
        text += choice.text or ""
        if choice.logprobs is not None and self.request.top_logprobs is not None:
            self.entries += choice.logprobs.entries()
        self.reason = choice.finish_reason or self.reason
        if text:
            self.last_at = time.monotonic()
            self.first_at = self.last_at if self.first_at is None else self.first_at
            self.parts += 1
            self.pending += text

    def _thought(self, thought: str, said: str) -> str:
        """What a model thought, marked as local engines show it: as the model wrote it."""
        before = "<think>\n" if thought and not self.thinking else ""
        after = "\n</think>\n\n" if said and (self.thinking or thought) else ""
        self.thinking = (self.thinking or bool(thought)) and not said
        return before + thought + after + said

    def show(self) -> None:
        """Pass on what has come since the last time."""
        if self.pending or self.entries:
            self.emit(Delta(variant=self.request.variant, text=self.pending, tokens=tuple(self.entries)))
            self.shown, self.pending, self.entries = self.shown + self.pending, "", []

    def finish(self, reason: FinishReason) -> None:
        """The last event of a row that did not fail."""
        self.show()
        self.ended = True
        self.emit(Finished(variant=self.request.variant, reason=reason, text=self.shown, stats=self._stats()))

    def fail(self, error: MadangError) -> None:
        """The last event of a row that did."""
        self.show()
        self.ended = True
        said = {"message": error.message, "hint": error.hint, "error": type(error).__name__}
        self.emit(Failed(variant=self.request.variant, text=self.shown, **said))

    def _stats(self) -> Stats:
        tokens = self.usage.completion_tokens if self.usage else self.parts
        lasted = self.last_at - (self.first_at or 0.0)
        return Stats(
            prompt_tokens=self.usage.prompt_tokens if self.usage else 0,
            tokens=tokens,
            first_token_s=None if self.first_at is None else self.first_at - self.asked_at,
            tokens_per_s=(tokens - 1) / lasted if self.first_at is not None and lasted > 0 and tokens > 1 else None,
            memory_bytes=0,
            dtype=self.info.dtype,
        )
