"""What clients get: OpenAI's objects.

Completions are written with `exclude_unset`: their maker sets what OpenAI always tells, null as well, and leaves
out the rest.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from playground.events import Finished

Reason = Literal["stop", "length"]


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Details(_Response):
    """Of the tokens written, those of thoughts."""

    reasoning_tokens: int


class Usage(_Response):
    """Tokens read and written. Every prompt counts once, however many answers it gets."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: Details | None = None


class TopLogprob(_Response):
    """A token, its log-probability in nats, and its bytes, which may be part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(TopLogprob):
    """A token of the answer, with the likeliest ones of its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(_Response):
    """The tokens of a piece of the answer."""

    content: list[ContentLogprob]
    refusal: None


class ChatMessage(_Response):
    """The answer, and what was thought before it."""

    role: Literal["assistant"]
    content: str
    reasoning_content: str | None = None
    refusal: None


class ChatChoice(_Response):
    """One whole answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Reason


class ChatCompletion(_Response):
    """The body that /v1/chat/completions answers with."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str


class ChatDelta(_Response):
    """What an answer has more: its role first, then thoughts, then text, at the end nothing."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None


class ChunkChoice(_Response):
    """More of one answer."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: Reason | None


class ChatChunk(_Response):
    """One event of a stream. The last has the usage and no choices, where that was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str


class TextLogprobs(_Response):
    """A completion's tokens. Offsets count the characters of the text, echoed prompt included."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(_Response):
    """One completion, or more of it in a stream."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Reason | None


class TextCompletion(_Response):
    """The body that /v1/completions answers with, and each event of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None
    system_fingerprint: str


class ModelCard(_Response):
    """A variant as a model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(_Response):
    """Every variant of the catalogue."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class TokenPiece(_Response):
    """A token with what it spells: a text, or bytes where they are part of a character."""

    id: int
    piece: str | list[int]


class Tokens(_Response):
    """What /tokenize answers with."""

    tokens: list[int] | list[TokenPiece]


class Content(_Response):
    """What /detokenize answers with."""

    content: str


class Health(_Response):
    """What /health answers with once models can be asked."""

    status: Literal["ok"] = "ok"


def usage(prompt: int, answer: int, thought: int | None = None) -> Usage:
    """Return the tokens read and written, and their sum; of a chat also those that were thought."""
    counted = Usage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=prompt + answer)
    if thought is not None:
        counted.completion_tokens_details = Details(reasoning_tokens=thought)
    return counted


def finish_reason(finished: Finished) -> Reason:
    """Return OpenAI's word for why an answer ended; one that was cancelled is read by nobody."""
    return "length" if finished.reason == "length" else "stop"
