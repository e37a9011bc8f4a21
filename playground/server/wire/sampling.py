"""The sampling that a request asks for: OpenAI's defaults or a preset's, with the client's fields on top."""

import random
from collections.abc import Iterator
from typing import Any

from playground.errors import UnknownNameError
from playground.presets import MAX_SEED, Sampling, preset
from playground.server.guards.limits import Limits
from playground.server.wire.errors import ApiError, sentence
from playground.server.wire.requests import ChatRequest, CompletionRequest

FIELDS = ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
PLAIN = {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}
LEAST_TOP_P = 1e-6
"""OpenAI takes 0, which leaves the likeliest token alone."""
DEFAULT_ANSWER = 1024
"""Tokens of an answer for which none are asked: llama.cpp keeps this much of its context free for every row."""


def sampling(body: ChatRequest | CompletionRequest, limits: Limits) -> Sampling:
    """Return the sampling of every answer, without a seed. Raises ApiError for an unknown preset or too many tokens."""
    fields: dict[str, Any] = (
        _preset(body.preset) if body.preset is not None else PLAIN | {"max_new_tokens": DEFAULT_ANSWER}
    )
    fields |= {name: value for name in FIELDS if (value := getattr(body, name)) is not None}
    if body.top_k is not None:
        fields["top_k"] = max(body.top_k, 0)
    fields["top_p"] = max(fields["top_p"], LEAST_TOP_P)
    if body.limit is None:
        fields["max_new_tokens"] = min(fields["max_new_tokens"], limits.answer_tokens)
    else:
        fields["max_new_tokens"] = max(body.limit, 1)
    if body.limit is not None and body.limit > limits.answer_tokens:
        text = f"max_tokens is too large: {body.limit}. This server gives at most {limits.answer_tokens} tokens."
        raise ApiError(400, text, "max_tokens", "invalid_value")
    return Sampling.model_validate(fields | {"stop": body.stops})


def _preset(name: str) -> dict[str, Any]:
    try:
        return preset(name).model_dump()
    except UnknownNameError as error:
        raise ApiError(400, sentence(error), "preset", "invalid_value") from error


def seeded(sampling: Sampling, seed: int | None, prompts: int, choices: int) -> Iterator[Sampling]:
    """Yield the sampling of each row. Choices of a prompt have different seeds, or they would be the same answer.

    With a seed, a prompt's answers are the same wherever it stands in the request.
    """
    first = random.randrange(MAX_SEED) if seed is None else seed
    for prompt in range(prompts):
        for choice in range(choices):
            own = first + choice + (prompt * choices if seed is None else 0)
            yield sampling.model_copy(update={"seed": own % (MAX_SEED + 1)})
