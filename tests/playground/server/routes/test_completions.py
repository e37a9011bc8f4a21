"""/v1/completions: texts and token ids, echoed with log-probabilities as lm-eval reads them, whole and in streams."""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from playground.events import Likely
from playground.protocol import PromptToken
from playground.server.routes.completions import TextBuilder
from playground.server.routes.echo import Echo
from playground.server.wire.requests import CompletionRequest


def test_a_completion_has_openais_form(client: openai.OpenAI) -> None:
    made = client.completions.create(model="other", prompt="abc", temperature=0)
    assert made.id.startswith("cmpl-")
    assert (made.object, made.model) == ("text_completion", "other")
    [choice] = made.choices
    assert (choice.text, choice.finish_reason, choice.logprobs) == ("other heard: abc", "length", None)
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (3, 16, 19)


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    asked: Any = {"model": "other", "prompt": ["a", "b"], "temperature": 0, "max_tokens": 30, "echo": True}
    whole = client.completions.create(**asked)
    texts, reasons = ["", ""], ["", ""]
    for chunk in client.completions.create(**asked, stream=True):
        [choice] = chunk.choices
        texts[choice.index] += choice.text
        reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.text for choice in whole.choices] == ["aother heard: a", "bother heard: b"]
    assert reasons == [choice.finish_reason for choice in whole.choices] == ["stop", "stop"]


def test_an_async_client_streams_with_usage(async_client: openai.AsyncOpenAI) -> None:
    async def ask() -> list[openai.types.Completion]:
        async with async_client:
            stream = await async_client.completions.create(
                model="other", prompt="abc", temperature=0, stream=True, stream_options={"include_usage": True}
            )
            return [chunk async for chunk in stream]

    *chunks, last = asyncio.run(ask())
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 19


PROMPTS: list[tuple[Any, list[str]]] = [
    ("ab", ["ab"]),
    (["ab", "c"], ["ab", "c"]),
    ([97, 98], ["ab"]),
    ([[97, 98], [99]], ["ab", "c"]),
]


@pytest.mark.parametrize(("prompt", "texts"), PROMPTS)
@pytest.mark.parametrize("echo", [False, True])
def test_prompts_come_as_texts_and_as_token_ids(
    client: openai.OpenAI, prompt: Any, texts: list[str], echo: bool
) -> None:
    made = client.completions.create(
        model="other", prompt=prompt, n=2, temperature=0, max_tokens=99, echo=echo, best_of=2
    )
    wanted = [(text if echo else "") + f"other heard: {text}" for text in texts for _ in range(2)]
    assert [choice.text for choice in made.choices] == wanted
    assert [choice.index for choice in made.choices] == list(range(len(wanted)))
    assert made.usage is not None
    assert made.usage.prompt_tokens == sum(map(len, texts))


def test_a_seed_gives_a_prompt_its_answer_wherever_it_stands(client: openai.OpenAI) -> None:
    def texts(prompt: list[str]) -> list[str]:
        made = client.completions.create(model="other", prompt=prompt, seed=5, n=2, max_tokens=99)
        return [choice.text for choice in made.choices]

    assert texts(["a", "b"])[2:] == texts(["b"])
    assert len(set(texts(["a"]))) == 2


def test_logprobs_of_an_answer(client: openai.OpenAI) -> None:
    made = client.completions.create(model="other", prompt="abc", temperature=0, max_tokens=6, logprobs=2)
    told = made.choices[0].logprobs
    assert told is not None
    assert told.tokens == list("other ")
    assert told.text_offset == list(range(6))
    assert told.token_logprobs == [-1.0, -1.0, -1.0, -1.0, -1.0, -2.0]
    assert told.top_logprobs is not None
    assert told.top_logprobs[0] == {"o": -1.0, "p": -2.0}
    none = client.completions.create(model="other", prompt="abc", temperature=0, max_tokens=1, logprobs=0)
    assert none.choices[0].logprobs is not None
    assert none.choices[0].logprobs.top_logprobs == [{"o": -1.0}]


def test_half_a_character_at_the_end_is_its_own_prompts_token(client: openai.OpenAI) -> None:
    asked: Any = {"model": "other", "prompt": ["abc", "!emoji"], "temperature": 0, "max_tokens": 1, "logprobs": 0}
    first, second = client.completions.create(**asked).choices
    assert first.logprobs is not None
    assert (first.text, first.logprobs.tokens) == ("o", ["o"])
    assert second.logprobs is not None
    assert (second.text, second.logprobs.tokens, second.logprobs.text_offset) == ("", [r"bytes:\xec"], [0])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", ["b a", [98, 32, 97]])
def test_an_echoed_prompt_has_its_logprobs(client: openai.OpenAI, prompt: Any, stream: bool) -> None:
    asked: Any = {"model": "other", "prompt": prompt, "temperature": 0, "echo": True, "logprobs": 1, "max_tokens": 2}
    made: Any = client.completions.create(**asked, stream=stream)
    choices = [chunk.choices[0] for chunk in made] if stream else made.choices
    told = [choice.logprobs for choice in choices if choice.logprobs is not None]
    assert "".join(choice.text for choice in choices) == "b aot"
    assert [token for part in told for token in part.tokens or []] == list("b aot")
    assert [value for part in told for value in part.token_logprobs or []] == [None, -2.0, -1.0, -1.0, -1.0]
    assert [offset for part in told for offset in part.text_offset or []] == [0, 1, 2, 3, 4]
    tops: list[Any] = [top for part in told for top in part.top_logprobs or []]
    assert tops == [None, {"!": -0.25, " ": -2.0}, {"a": -1.0}, {"o": -1.0}, {"t": -1.0}]


@pytest.mark.parametrize(
    ("prompt", "text", "offsets"),
    [
        ([255, 97, 98, 99], "\ufffdabc", [0, 1, 2, 3, 4, 5]),
        ([*"안".encode()[1:], 97, 98, 99], "\ufffd\ufffdabc", [0, 1, 2, 3, 4, 5, 6]),
        ([97, 0xEC], "a\ufffd", [0, 1, 2, 3]),
    ],
)
def test_an_echo_of_half_characters_has_the_offsets_of_its_text(
    client: openai.OpenAI, prompt: list[int], text: str, offsets: list[int]
) -> None:
    asked: Any = {"model": "other", "prompt": prompt, "temperature": 0, "echo": True, "logprobs": 0}
    [choice] = client.completions.create(**asked, max_tokens=2).choices
    assert choice.text == f"{text}ot"
    assert choice.logprobs is not None
    assert choice.logprobs.text_offset == offsets
    [stopped] = client.completions.create(**asked, max_tokens=9, stop="her").choices
    assert stopped.logprobs is not None
    assert (stopped.text, stopped.logprobs.text_offset) == (f"{text}ot", offsets)


@pytest.mark.parametrize("stream", [False, True])
def test_every_choice_of_an_echo_is_told_alike(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "other", "prompt": [[97, 98], [99]], "n": 2, "temperature": 0, "echo": True, "logprobs": 1}
    made: Any = client.completions.create(**asked, max_tokens=2, stream=stream)
    told: list[list[str]] = [[], [], [], []]
    for choice in [chunk.choices[0] for chunk in made] if stream else made.choices:
        if choice.logprobs is not None:
            told[choice.index] += choice.logprobs.tokens
            assert len(choice.logprobs.tokens) == len(choice.logprobs.top_logprobs) == len(choice.logprobs.text_offset)
    assert ["".join(tokens) for tokens in told] == ["abot", "abot", "cot", "cot"]


def test_what_is_told_of_an_echoed_prompt_is_made_once() -> None:
    body = CompletionRequest(model="m", prompt=[97], n=3, logprobs=0, echo=True)
    builder = TextBuilder(body, {}, [Echo([97], "a", [PromptToken(id=97, raw=(97,), logprob=None)])])
    first, second, third = (opening.logprobs for index in range(3) if (opening := builder.opening(index)))
    assert first is not None
    assert first is second is third


@pytest.mark.parametrize("stream", [False, True])
def test_no_tokens_at_all_give_the_prompt_alone(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "other", "prompt": [[97, 98], [99]], "echo": True, "logprobs": 1, "max_tokens": 0}
    made: Any = client.completions.create(**asked, stream=stream)
    choices = [chunk.choices[0] for chunk in made] if stream else made.choices
    assert [choice.text for choice in choices] == ["ab", "c"]
    assert [choice.finish_reason for choice in choices] == ["length", "length"]
    assert choices[0].logprobs.token_logprobs == [None, -1.0]
    plain = client.completions.create(model="other", prompt="abc", max_tokens=0)
    assert (plain.choices[0].text, plain.usage and plain.usage.prompt_tokens) == ("", 3)


def test_what_lm_eval_asks_needs_no_row(client: openai.OpenAI, pool: Any) -> None:
    heard = len(pool.heard)
    made = client.completions.create(
        model="other", prompt=[[97, 98, 97], [99, 32]], temperature=0, max_tokens=1, logprobs=1, echo=True, seed=1234
    )
    assert len(pool.heard) == heard
    first, second = made.choices
    assert first.logprobs is not None
    assert first.logprobs.token_logprobs is not None
    assert first.logprobs.token_logprobs[:-1] == [None, -1.0, -0.5]
    assert len(first.logprobs.token_logprobs) == 4
    assert first.text.startswith("aba")
    assert second.logprobs is not None
    assert second.logprobs.top_logprobs is not None
    assert second.logprobs.top_logprobs[1] == {"!": -0.25, " ": -2.0}
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (5, 2)


def test_a_penalty_or_a_temperature_asks_a_row_for_that_token(client: openai.OpenAI, pool: Any) -> None:
    for change in ({"temperature": 1}, {"extra_body": {"repetition_penalty": 1.1}}, {"stop": "x"}):
        heard = len(pool.heard)
        asked: Any = {"model": "other", "prompt": "ab", "temperature": 0, "max_tokens": 1, "logprobs": 1, "echo": True}
        made = client.completions.create(**(asked | change))
        assert len(pool.heard) > heard
        assert made.choices[0].text == "abo"


def test_an_end_that_lm_eval_throws_away_is_a_token_without_text() -> None:
    body = CompletionRequest(model="m", prompt="a", max_tokens=1, logprobs=1, echo=True, temperature=0)
    end = PromptToken(
        id=256, raw=tuple(b"<end>"), logprob=-0.5, top=(Likely(id=256, raw=tuple(b"<end>"), logprob=-0.5),)
    )
    echo = Echo([97], "a", [PromptToken(id=97, raw=(97,), logprob=None)], end, ends=True)
    [choice], written = TextBuilder(body, {}, [echo]).ready_choices()
    assert (choice.text, choice.finish_reason, written) == ("a", "stop", 0)
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["a", "<end>"]
    assert choice.logprobs.token_logprobs == [None, -0.5]


@pytest.mark.parametrize(("raw", "said"), [(b"\xec", ""), (b"\x95 a", "\ufffd a"), (b"a\xec", "a")])
def test_that_token_is_said_as_a_row_says_it(raw: bytes, said: str) -> None:
    body = CompletionRequest(model="m", prompt="a", max_tokens=1, logprobs=0, echo=True, temperature=0)
    after = PromptToken(id=1, raw=tuple(raw), logprob=-0.5)
    [choice], _ = TextBuilder(
        body, {}, [Echo([97], "a", [PromptToken(id=97, raw=(97,), logprob=None)], after)]
    ).ready_choices()
    assert choice.text == f"a{said}"
    assert choice.logprobs is not None
    assert choice.logprobs.text_offset == [0, 1]


def test_token_ids_that_are_too_many_are_not_read(http: httpx.Client, pool: Any) -> None:
    heard = len(pool.heard)
    error = http.post("/v1/completions", json={"model": "base", "prompt": [[97], [97] * 3001]}).json()["error"]
    assert (error["param"], error["code"]) == ("prompt", "context_length_exceeded")
    assert error["message"] == "A prompt has 3001 tokens; this server takes 3000."
    assert len(pool.heard) == heard


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": None}, "prompt", "invalid_type"),
    ({"prompt": {"a": 1}}, "prompt", "invalid_type"),
    ({"prompt": [1, "a"]}, "prompt", "invalid_type"),
    ({"prompt": "\ud800"}, "prompt", "invalid_value"),
    ({"prompt": ""}, "prompt", "invalid_prompt"),
    ({"prompt": "", "echo": True, "logprobs": 1}, "prompt", "invalid_prompt"),
    ({"prompt": [300]}, "prompt", "invalid_prompt"),
    ({"prompt": [-1], "echo": True}, "prompt", "invalid_prompt"),
    ({"prompt": "x" * 300}, "prompt", "context_length_exceeded"),
    ({"prompt": "x" * 300, "echo": True, "logprobs": 0}, "prompt", "context_length_exceeded"),
    ({"prompt": "x" * 50_000}, "prompt", "context_length_exceeded"),
    ({"prompt": ["a"] * 2049}, "prompt", "invalid_value"),
    ({"prompt": ["a"] * 100, "n": 100}, "n", "invalid_value"),
    ({"prompt": [10**4000]}, "prompt", "invalid_value"),
    ({"max_tokens": 10**4000}, "max_tokens", "invalid_value"),
    ({"prompt": [[97] * 250] * 4, "n": 100, "echo": True, "logprobs": 20}, "n", "invalid_value"),
    ({"best_of": 3}, "best_of", "unsupported_parameter"),
    ({"suffix": "x"}, "suffix", "unsupported_parameter"),
    ({"logprobs": 21}, "logprobs", "invalid_value"),
    ({"logprobs": True}, "logprobs", "invalid_type"),
    ({"messages": []}, "messages", "unknown_parameter"),
]


@pytest.mark.parametrize(("change", "param", "code"), REFUSED)
def test_a_wrong_request_is_a_400_that_names_it(
    http: httpx.Client, change: dict[str, Any], param: str, code: str
) -> None:
    body = json.dumps({"model": "other", "prompt": "abc"} | change).encode()
    answer = http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert len(error["message"]) < 300


def test_a_missing_field_is_named(http: httpx.Client) -> None:
    error = http.post("/v1/completions", json={}).json()["error"]
    assert error["message"] == "Missing required parameter: 'model'. Missing required parameter: 'prompt'."
    assert (error["param"], error["code"]) == ("model", "missing_required_parameter")
