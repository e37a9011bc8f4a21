"""Thoughts over the API: apart in answers and streams, switched by what clients send, counted."""

from typing import Any

import httpx
import openai
import pytest

HI: Any = [{"role": "user", "content": "hi"}]
THOUGHT = "They said: hi"


def ask(client: openai.OpenAI, model: str = "thinker", messages: Any = HI, **extra: Any) -> Any:
    return client.chat.completions.create(model=model, messages=messages, temperature=0, extra_body=extra)


@pytest.mark.parametrize("model", ["thinker", "opener"])
def test_thought_and_answer_stand_apart(client: openai.OpenAI, model: str) -> None:
    answer = ask(client, model)
    message = answer.choices[0].message
    assert (message.reasoning_content, message.content) == (THOUGHT, f"{model} heard: hi")
    reasoned = answer.usage.completion_tokens_details.reasoning_tokens
    assert len(THOUGHT) <= reasoned < answer.usage.completion_tokens


def test_a_stream_tells_thoughts_first(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    stream = client.chat.completions.create(
        model="opener", messages=HI, temperature=0, stream=True, stream_options=options
    )
    *chunks, last = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    thoughts = [getattr(delta, "reasoning_content", None) for delta in deltas]
    texts = [delta.content for delta in deltas]
    assert "".join(thought or "" for thought in thoughts) == THOUGHT
    assert "".join(text or "" for text in texts) == "opener heard: hi"
    assert not any(thought and text for thought, text in zip(thoughts, texts, strict=True))
    assert last.usage is not None
    assert last.usage.completion_tokens_details is not None
    assert (last.usage.completion_tokens_details.reasoning_tokens or 0) >= len(THOUGHT)


@pytest.mark.parametrize("model", ["thinker", "opener"])
@pytest.mark.parametrize(
    "off", [{"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}, {"thinking_budget": 0}]
)
def test_thinking_is_switched_off(client: openai.OpenAI, model: str, off: dict[str, Any]) -> None:
    answer = ask(client, model, **off)
    message = answer.choices[0].message
    assert (getattr(message, "reasoning_content", None), message.content) == (None, f"{model} heard: hi")
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_a_budget_ends_a_thought(client: openai.OpenAI) -> None:
    muse: Any = [{"role": "user", "content": "!muse"}]
    answer = ask(client, "opener", muse, thinking_budget=7)
    assert answer.choices[0].message.content == "opener heard: !muse"
    assert answer.usage.completion_tokens_details.reasoning_tokens == 7


def test_effort_is_refused_where_nothing_can_be_thought(client: openai.OpenAI) -> None:
    assert ask(client, "other", reasoning_effort="none").choices[0].message.content == "other heard: hi"
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "other", reasoning_effort="high")
    assert (refused.value.param, refused.value.code) == ("reasoning_effort", "unsupported_parameter")
    assert ask(client, "thinker", reasoning_effort="high").choices[0].message.reasoning_content == THOUGHT
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "thinker", reasoning_effort="much")
    assert refused.value.param == "reasoning_effort"


@pytest.mark.parametrize("name", ["messages", "add_generation_prompt"])
def test_what_the_request_says_is_no_variable_of_the_template(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, chat_template_kwargs={name: []})
    assert refused.value.param == "chat_template_kwargs"


def test_half_a_character_is_no_variable(http: httpx.Client) -> None:
    kwargs = '"chat_template_kwargs": {"a": "\\ud800"}'
    body = '{"model": "thinker", "messages": [{"role": "user", "content": "hi"}], ' + kwargs + "}"
    answer = http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "chat_template_kwargs")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_a_thought_may_come_back(http: httpx.Client, field: str) -> None:
    """The template has the last word on whether it is told again: here its tokens show that it is."""
    before = [*HI, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    with_thought = [before[0], before[1] | {field: "I thought so."}, before[2]]
    read = [
        http.post("/v1/chat/completions", json={"model": "thinker", "messages": turns, "temperature": 0}).json()
        for turns in (before, with_thought)
    ]
    assert read[0]["usage"]["prompt_tokens"] == read[1]["usage"]["prompt_tokens"]  # no longer the last turn
    assert read[1]["choices"][0]["message"]["content"] == "thinker heard: c"
