"""The calls beside answers over the fake: plain JSON in and out, and what would end an engine is refused."""

import json
from typing import Any

import pytest

from playground.backends.calls import AT_ONCE, CALLS
from playground.backends.fake import END, FakeBackend
from playground.errors import ContextError, UnknownNameError, VariantError
from playground.protocol import ModelSpec


def call(name: str, **arguments: Any) -> Any:
    backend = FakeBackend(ModelSpec(engine="fake", name="fake", path="fake:x", context=64))
    answer = CALLS[name](backend, json.loads(json.dumps(arguments)))
    return json.loads(json.dumps(answer))


def test_prompt_logprobs() -> None:
    first, second = call("prompt_logprobs", prompts=[[97, 97, 98, 32], [END]], top=2, adapter=None)
    assert [row["logprob"] for row in first] == [None, -0.5, -1.0, -2.0]
    assert first[0]["top"] == []
    assert first[1]["top"] == [{"id": 97, "raw": [97], "logprob": -0.5}, {"id": 98, "raw": [98], "logprob": -1.5}]
    assert first[3]["top"][0] == {"id": 33, "raw": [33], "logprob": -0.25}  # a space is not the likeliest
    assert second == [{"id": END, "raw": list(b"<end>"), "logprob": None, "top": []}]
    assert call("prompt_logprobs", prompts=[[97, 98]], top=0, adapter=None)[0][1]["top"] == []
    assert call("prompt_logprobs", prompts=[], top=1, adapter=None) == []


@pytest.mark.parametrize(
    ("prompts", "words"),
    [([[1], []], "empty"), ([[1, 257]], "257"), ([[-1]], "-1"), ([[1] * 65], "65 tokens; the model holds 64")],
)
def test_prompts_that_would_end_an_engine_are_refused(prompts: list[list[int]], words: str) -> None:
    with pytest.raises(ContextError if "hold" in words else VariantError, match=words):
        call("prompt_logprobs", prompts=prompts, top=1, adapter=None)


def test_pieces() -> None:
    assert call("pieces", ids=[*"한".encode(), END]) == [[0xED], [0x95], [0x9C], list(b"<end>")]
    assert call("pieces", ids=[]) == []
    with pytest.raises(VariantError, match="300"):
        call("pieces", ids=[5, 300])


def test_ends() -> None:
    assert call("ends", ids=[97, END]) == [False, True]
    assert call("ends", ids=[]) == []


def test_render() -> None:
    turns = [{"role": "user", "content": "hi"}]
    own = call("render", variant="v", messages=turns, prompt_format=None)
    assert own == {"text": "user: hi\n", "ids": list(b"user: hi\n"), "stops": []}
    named = call("render", variant="v", messages=turns, prompt_format="chatml")
    assert named["text"] == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert named["stops"]
    with pytest.raises(UnknownNameError, match="nonsense"):
        call("render", variant="v", messages=turns, prompt_format="nonsense")


def test_what_runs_at_once_is_a_call() -> None:
    assert set(CALLS) > AT_ONCE
