"""What an OpenAI-compatible server streams, as types. Unknown fields pass: every server adds some of its own."""

import json
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from playground.events import Likely, TokenLogprob


class Part(BaseModel):
    """More of a chat answer; what a model thinks before it answers comes under one of two names."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class TopToken(BaseModel):
    """A token as the chat API describes it. `id`: llama-server's addition."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    id: int = -1

    def likely(self) -> dict[str, Any]:
        """The fields of Likely."""
        raw = self.bytes if self.bytes is not None else list(self.token.encode())
        return {"id": self.id, "raw": tuple(raw), "logprob": self.logprob}


class ChatToken(TopToken):
    """The same with the likeliest ones of its place."""

    top_logprobs: list[TopToken] = Field(default_factory=list)


class Logprobs(BaseModel):
    """Either API's form: `content` is the chat API's (and llama-server's on both), the rest the older one's."""

    content: list[ChatToken] | None = None
    tokens: list[str] = Field(default_factory=list)
    token_logprobs: list[float | None] = Field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] = Field(default_factory=list)

    def entries(self) -> list[TokenLogprob]:
        """The tokens with their probabilities; those without any are left out."""
        if self.content is not None:
            return [
                TokenLogprob(**token.likely(), top=tuple(Likely(**other.likely()) for other in token.top_logprobs))
                for token in self.content
            ]
        tops = self.top_logprobs or [None] * len(self.tokens)
        return [
            TokenLogprob(**_named(token, value), top=tuple(Likely(**_named(*pair)) for pair in _sorted(top)))
            for token, value, top in zip(self.tokens, self.token_logprobs, tops, strict=False)
            if value is not None
        ]


class Choice(BaseModel):
    """One answer's next part: `text` in completions, `delta` (or, not streamed, `message`) in a chat."""

    index: int = 0
    text: str | None = None
    delta: Part | None = None
    message: Part | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Usage(BaseModel):
    """Counted by the server."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Chunk(BaseModel):
    """One event of a stream, or a whole answer."""

    choices: list[Choice] = Field(default_factory=list)
    usage: Usage | None = None
    error: Any = None


def parsed(data: str) -> Chunk | None:
    """The chunk in an event's data; None where it is none."""
    try:
        return Chunk.model_validate(json.loads(data))
    except (ValueError, ValidationError, RecursionError):
        return None


def _named(token: str, value: float) -> dict[str, Any]:
    return TopToken(token=token, logprob=value).likely()


def _sorted(top: dict[str, float] | None) -> list[tuple[str, float]]:
    return sorted((top or {}).items(), key=lambda pair: -pair[1])
