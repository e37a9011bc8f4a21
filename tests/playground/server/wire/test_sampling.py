"""How a request's fields become Sampling: OpenAI's defaults, a preset's, and what is sent on top of either."""

from typing import Any

import pytest

from playground.presets import MAX_SEED, Sampling, preset
from playground.server.guards.limits import Limits
from playground.server.wire.errors import ApiError
from playground.server.wire.requests import ChatRequest, CompletionRequest
from playground.server.wire.sampling import sampling, seeded
from playground.settings import Settings

LIMITS = Limits.of(Settings(api_max_tokens=2000))


def drawn(**fields: Any) -> Sampling:
    body = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "a"}]} | fields)
    return sampling(body, LIMITS)


def test_without_a_preset_openais_defaults_hold() -> None:
    plain = Sampling(temperature=1, top_p=1, top_k=0, min_p=0, repetition_penalty=1, max_new_tokens=1024)
    assert drawn() == drawn(temperature=None) == plain
    completion = CompletionRequest(model="m", prompt="a")
    assert sampling(completion, LIMITS) == plain.model_copy(update={"max_new_tokens": 16})


def test_a_preset_sets_every_field_that_is_not_sent() -> None:
    factual = preset("factual")
    assert drawn(preset="factual") == factual
    sent = {"temperature": 0.0, "top_p": 0.5, "top_k": 3, "min_p": 0.2, "repetition_penalty": 1.3}
    sent |= {"presence_penalty": 0.5, "frequency_penalty": -0.5}
    changed = factual.model_copy(update=sent | {"max_new_tokens": 7, "stop": ("x",)})
    assert drawn(preset="factual", **sent, max_tokens=7, stop="x") == changed
    completion = CompletionRequest(model="m", prompt="a", preset="factual")
    assert sampling(completion, LIMITS).max_new_tokens == factual.max_new_tokens


def test_ends_of_ranges_that_only_openai_has() -> None:
    assert drawn(top_p=0).top_p == 1e-6
    assert drawn(top_k=-1).top_k == 0


def test_too_many_tokens_are_refused_and_defaults_kept_below() -> None:
    with pytest.raises(ApiError, match="at most 2000 tokens"):
        drawn(max_tokens=2001)
    body = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "a"}]})
    assert sampling(body, Limits.of(Settings(api_max_tokens=100))).max_new_tokens == 100


def test_seeds() -> None:
    def seeds(seed: int | None, prompts: int, choices: int) -> list[int | None]:
        return [one.seed for one in seeded(drawn(), seed, prompts, choices)]

    assert seeds(5, 2, 2) == [5, 6, 5, 6]
    assert seeds(MAX_SEED, 1, 2) == [MAX_SEED, 0]
    assert seeds(-1, 1, 1) == [MAX_SEED]
    assert len(set(seeds(None, 2, 2))) == 4
