"""Types of what OpenAI-compatible servers stream. Unknown fields pass: every server adds some of its own."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WrapValidator, model_validator

from playground.events import Likely, TokenLogprob
from playground.remote.sse import read_json


def _or_nothing(value: Any, validate: Any) -> Any:
    """Return None for a value of the wrong form: better an answer without it than none."""
    try:
        return validate(value)
    except ValidationError:
        return None


def _number(value: Any) -> Any:
    return 0 if value is None else value


def _list(value: Any) -> Any:
    return [] if value is None else value


Number = Annotated[int, BeforeValidator(_number), Field(ge=0, le=2**31)]
Byte = Annotated[int, Field(ge=0, le=255)]


class Part(BaseModel):
    """More of a chat answer; what a model thinks before it answers comes under one of two names."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, given: Any) -> Any:
        """Join the parts that Mistral's reasoning models send: what they thought, and what they say."""
        if not isinstance(given, Mapping) or not isinstance(given.get("content"), list):
            return given
        parts = [part for part in given["content"] if isinstance(part, Mapping)]
        said = [str(part.get("text") or "") for part in parts if part.get("type") == "text"]
        inner = [part["thinking"] for part in parts if isinstance(part.get("thinking"), list)]
        thought = [str(one.get("text") or "") for some in inner for one in some if isinstance(one, Mapping)]
        return {**given, "content": "".join(said) or None, "reasoning": "".join(thought) or None}


class TopToken(BaseModel):
    """A token as the chat API describes it. `id`: llama-server's addition."""

    token: str
    logprob: float
    bytes: list[Byte] | None = None
    id: int = Field(default=-1, ge=-1, le=2**31)

    def likely(self) -> dict[str, Any]:
        """Return the fields of Likely."""
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
        """Return the tokens with their log-probabilities; those without one are left out."""
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

    index: Number = 0
    text: str | None = None
    delta: Part | None = None
    message: Part | None = None
    finish_reason: str | None = None
    logprobs: Annotated[Logprobs | None, WrapValidator(_or_nothing)] = None


class Details(BaseModel):
    """Of the tokens of an answer, those that the model thought."""

    reasoning_tokens: Number = 0


class Usage(BaseModel):
    """Counted by the server."""

    prompt_tokens: Number = 0
    completion_tokens: Number = 0
    completion_tokens_details: Annotated[Details | None, WrapValidator(_or_nothing)] = None

    @property
    def thought(self) -> int:
        """Tokens of the answer that were thoughts."""
        return self.completion_tokens_details.reasoning_tokens if self.completion_tokens_details else 0


class Chunk(BaseModel):
    """One event of a stream, or a whole answer."""

    choices: Annotated[list[Choice], BeforeValidator(_list)] = Field(default_factory=list)
    usage: Annotated[Usage | None, WrapValidator(_or_nothing)] = None
    error: Any = None

    @model_validator(mode="before")
    @classmethod
    def _fault(cls, given: Any) -> Any:
        """Read errors under other names, too: `{"object": "error", "message": …}`, `{"detail": …}`."""
        if isinstance(given, Mapping) and "choices" not in given and "usage" not in given and not given.get("error"):
            found = next((given[name] for name in ("message", "detail") if given.get(name)), None)
            return given if found is None else {**given, "error": {"message": found}}
        return given


def parsed(data: str) -> Chunk | None:
    """Return the chunk in an event's data; None where the data is no chunk."""
    try:
        return Chunk.model_validate(read_json(data))
    except ValueError:
        return None


def _named(token: str, value: float) -> dict[str, Any]:
    return TopToken(token=token, logprob=value).likely()


def _sorted(top: dict[str, float] | None) -> list[tuple[str, float]]:
    return sorted((top or {}).items(), key=lambda pair: -pair[1])
