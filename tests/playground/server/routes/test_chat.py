"""/v1/chat/completions as OpenAI's own clients ask it."""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from playground.messages import Message
from playground.server.routes import chat
from playground.server.wire.requests import ChatTurn

HI: Any = [{"role": "user", "content": "hi"}]
SAID = "other heard: hi"


def said(question: str) -> Any:
    return [{"role": "user", "content": question}]


def test_an_answer_has_openais_form(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="other", messages=HI, temperature=0)
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.created > 1_700_000_000
    assert answer.model == "other"
    assert (answer.system_fingerprint or "").startswith("fp_")
    [choice] = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == SAID
    assert choice.finish_reason == "stop"
    assert choice.logprobs is None
    assert answer.usage is not None
    prompt = len("user: hi\n")
    assert answer.usage.prompt_tokens == prompt
    assert answer.usage.completion_tokens == len(SAID)
    assert answer.usage.total_tokens == prompt + len(SAID)


def test_a_stream_begins_with_the_role_and_ends_with_the_reason(http: httpx.Client) -> None:
    body = {"model": "other", "messages": HI, "temperature": 0, "stream": True}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert '"delta":{"role":"assistant","content":""}' in events[0]
    assert '"delta":{},"logprobs":null,"finish_reason":"stop"' in events[-1]
    assert not any("usage" in event for event in events)


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="other", messages=HI, temperature=0, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1


def test_a_stream_tells_its_usage_last_where_asked(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    stream = client.chat.completions.create(
        model="other", messages=HI, temperature=0, stream=True, n=2, stream_options=options
    )
    *chunks, last = list(stream)
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (len("user: hi\n"), 2 * len(SAID))


def test_an_async_client_asks_many_at_once(async_client: openai.AsyncOpenAI) -> None:
    async def one(question: str, stream: bool) -> str:
        asked: Any = {"model": "one", "messages": said(question), "temperature": 0}
        if not stream:
            answer = await async_client.chat.completions.create(**asked)
            return str(answer.choices[0].message.content)
        chunks = await async_client.chat.completions.create(**asked, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    async def all_of_them() -> list[str]:
        async with async_client:
            return await asyncio.gather(*(one(f"q{number}", number % 2 == 0) for number in range(12)))

    assert asyncio.run(all_of_them()) == [f"one heard: q{number}" for number in range(12)]


def test_hangul_and_emoji_come_whole_in_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="other", messages=said("!emoji !slow"), temperature=0, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == "안녕 👩‍👩‍👧 마당 🎉"
    assert not any("\ufffd" in piece for piece in pieces)


def test_letters_that_end_a_line_elsewhere_break_no_event(http: httpx.Client) -> None:
    asked = said("a\u2028b\u2029c\x85d 안")
    body = {"model": "other", "messages": asked, "temperature": 0, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        *events, done = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert done == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("content", "") for delta in deltas) == "other heard: a\u2028b\u2029c\x85d 안"


def test_an_answer_goes_back_as_the_client_dumps_it(client: openai.OpenAI) -> None:
    messages = list(HI)
    for _ in range(2):
        answer = client.chat.completions.create(model="other", messages=messages, temperature=0)
        messages.append(answer.choices[0].message.model_dump())
        messages += said("more")
    assert answer.choices[0].message.content == "other heard: more"
    messages[1]["annotations"] = [{"type": "url_citation"}]
    assert client.chat.completions.create(model="other", messages=messages).choices


def test_stop_max_tokens_and_reason(client: openai.OpenAI) -> None:
    def answer(**options: Any) -> tuple[str | None, str]:
        [choice] = client.chat.completions.create(model="other", messages=HI, temperature=0, **options).choices
        return choice.message.content, choice.finish_reason

    assert answer(stop=" heard") == ("other", "stop")
    assert answer(stop=["zzz", ":", ""]) == ("other heard", "stop")
    assert answer(max_tokens=5) == ("other", "length")
    assert answer(max_completion_tokens=3, max_tokens=9) == ("oth", "length")


def test_a_seed_repeats_and_choices_differ(client: openai.OpenAI) -> None:
    def answers(**options: Any) -> list[str | None]:
        made = client.chat.completions.create(model="other", messages=HI, **options)
        assert [choice.index for choice in made.choices] == list(range(len(made.choices)))
        return [choice.message.content for choice in made.choices]

    assert answers(seed=7, n=3) == answers(seed=7, n=3)
    assert len(set(answers(seed=7, n=3))) == 3
    assert answers(seed=-(2**63))[0] != answers(seed=7)[0]
    assert answers()[0] != answers()[0]


def test_choices_in_a_stream_keep_their_index(client: openai.OpenAI) -> None:
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(model="other", messages=HI, seed=7, n=3, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    whole = client.chat.completions.create(model="other", messages=HI, seed=7, n=3)
    assert texts == [choice.message.content for choice in whole.choices]


@pytest.mark.parametrize("stop", [None, "rd:"])
def test_logprobs_spell_the_answer_whole_and_in_a_stream(client: openai.OpenAI, stop: str | None) -> None:
    asked: Any = {"model": "other", "messages": HI, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    [choice] = client.chat.completions.create(**asked, stop=stop).choices
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    content = choice.logprobs.content
    assert (
        "".join(token.token for token in content) == choice.message.content == (SAID if stop is None else "other hea")
    )
    assert content[0].model_dump() == {
        "token": "o",
        "logprob": -1.0,
        "bytes": [111],
        "top_logprobs": [
            {"token": "o", "logprob": -1.0, "bytes": [111]},
            {"token": "p", "logprob": -2.0, "bytes": [112]},
        ],
    }
    streamed: list[Any] = []
    for chunk in client.chat.completions.create(**asked, stop=stop, stream=True):
        if (told := chunk.choices[0].logprobs) is not None:
            streamed += told.content or []
    assert [token.model_dump() for token in streamed] == [token.model_dump() for token in content]


def test_logprobs_without_top_have_none(client: openai.OpenAI) -> None:
    [choice] = client.chat.completions.create(model="other", messages=HI, temperature=0, logprobs=True).choices
    assert choice.logprobs is not None
    assert all(token.top_logprobs == [] for token in choice.logprobs.content or [])


def test_bytes_of_half_characters_are_told(client: openai.OpenAI) -> None:
    asked: Any = {"model": "other", "messages": said("!emoji"), "temperature": 0, "logprobs": True}
    [choice] = client.chat.completions.create(**asked).choices
    assert choice.logprobs is not None
    raw = bytes(byte for token in choice.logprobs.content or [] for byte in token.bytes or [])
    assert raw.decode() == choice.message.content


def test_roles_and_parts_become_one_prompt(client: openai.OpenAI) -> None:
    turns: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "a", "name": "Kim"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
    ]
    answer = client.chat.completions.create(model="other", messages=turns, temperature=0)
    assert answer.choices[0].message.content == "other heard: bc"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("system: Be brief.\nuser: a\nassistant: \nuser: bc\n")


def test_typed_control_tokens_are_text_unless_they_are_to_be_parsed(client: openai.OpenAI) -> None:
    def tokens(extra: dict[str, Any]) -> int:
        answer = client.chat.completions.create(model="other", messages=said("a<END>b"), extra_body=extra)
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    assert (tokens({}), tokens({"parse_special": True})) == (len("user: a<END>b\n"), len("user: a b\n"))
    raw = client.completions.create(model="other", prompt="a<END>b")
    assert raw.usage is not None
    assert raw.usage.prompt_tokens == 3


BEGUN: Any = [*HI, {"role": "assistant", "content": "Well"}]


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"continue_final_message": True}, "user: hi\nassistant: Well"),
        ({"continue_final_message": True, "add_generation_prompt": False}, "user: hi\nassistant: Well"),
        ({"add_generation_prompt": False}, "user: hi\nassistant: Well\n"),
        ({}, "user: hi\nassistant: Well\n"),
    ],
)
def test_an_answer_that_was_begun_is_gone_on_with(client: openai.OpenAI, fields: Any, prompt: str) -> None:
    answer = client.chat.completions.create(model="other", messages=BEGUN, extra_body=fields)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(prompt)
    assert "Well" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize(
    ("messages", "fields"), [(BEGUN, {"continue_final_message": True, "add_generation_prompt": True}), (HI, {})]
)
def test_what_cannot_be_gone_on_with_is_refused(client: openai.OpenAI, messages: Any, fields: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="continue_final_message"):
        client.chat.completions.create(
            model="other", messages=messages, extra_body={"continue_final_message": True} | fields
        )


def test_harmless_fields_are_taken(client: openai.OpenAI) -> None:
    options: Any = {
        "user": "u",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "logit_bias": {},
        "tools": [],
        "tool_choice": "none",
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "extra_body": {"preset": "factual", "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1},
    }
    answer = client.chat.completions.create(model="other", messages=HI, temperature=0, **options)
    assert answer.choices[0].message.content == SAID


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [1] * 5000},
        {"messages": [{"role": "user", "content": [1] * 5000}]},
        {"messages": [{"role": "user", "content": "a"} | {f"k{place}": 1 for place in range(5000)}]},
        {"modalities": [1] * 5000},
        {"logit_bias": {str(place): "x" for place in range(5000)}},
        {f"k{place}": 1 for place in range(5000)},
    ],
)
def test_thousands_of_faults_get_one_short_answer(http: httpx.Client, change: dict[str, Any]) -> None:
    answer = http.post("/v1/chat/completions", json={"model": "other", "messages": HI} | change)
    assert answer.status_code == 400
    assert len(answer.json()["error"]["message"]) < 200


@pytest.mark.parametrize(
    "change",
    [
        {"model": "x" * 10**6},
        {"model": "x" * 1000},
        {"preset": "x" * 10**6},
        {"preset": "x" * 100},
        {"max_tokens": 10**4000},
        {"max_completion_tokens": 10**4000},
        {"k" * 10**6: 1},
        {f"{place}{'k' * 5000}": 1 for place in range(50)},
        {"stream_options": {"k" * 10**6: 1}, "stream": True},
        {"messages": [{"role": "user", "content": "a", "k" * 10**6: 1}]},
        {"messages": [{"role": "r" * 10**6, "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "t" * 10**6}]}]},
    ],
)
def test_little_of_what_was_sent_comes_back(http: httpx.Client, change: dict[str, Any]) -> None:
    answer = http.post("/v1/chat/completions", json={"model": "other", "messages": HI} | change)
    assert answer.status_code in (400, 404)
    assert len(answer.json()["error"]["message"]) < 300
    assert len(answer.content) < 500


REFUSED: list[tuple[dict[str, Any], str | None, str]] = [
    ({"foo": 1}, "foo", "unknown_parameter"),
    ({"Foo": 1}, "Foo", "unknown_parameter"),
    ({"messages": [{"role": "user", "content": "a", "bar": 1}]}, "messages[0].bar", "unknown_parameter"),
    ({"stream_options": {"list[x]": True}, "stream": True}, "stream_options.list[x]", "unknown_parameter"),
    ({"messages": None}, "messages", "invalid_type"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "invalid_type"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
    (
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
        "messages[0].tool_call_id",
        "unsupported_parameter",
    ),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "invalid_value"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages[0].content[0]",
        "unsupported_content",
    ),
    ({"messages": said("x" * 50_000)}, "messages", "context_length_exceeded"),
    ({"messages": said("x" * 3500), "model": "base"}, "messages", "context_length_exceeded"),
    ({"messages": said("x" * 300)}, "messages", "context_length_exceeded"),
    (
        {"messages": [*said("x" * 150), {"role": "assistant", "content": "y" * 50}, *HI]},
        "messages",
        "context_length_exceeded",
    ),
    ({"temperature": 2.5}, "temperature", "invalid_value"),
    ({"temperature": "0"}, "temperature", "invalid_type"),
    ({"n": 0}, "n", "invalid_value"),
    ({"n": True}, "n", "invalid_type"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": 2001}, "max_tokens", "invalid_value"),
    ({"stop": [1]}, "stop", "invalid_type"),
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
    ({"tool_choice": "required"}, "tool_choice", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
    ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_parameter"),
    ({"preset": "factal"}, "preset", "invalid_value"),
    ({"preset": "x" * 101}, "preset", "invalid_value"),
    ({"model": "x" * 1001}, "model", "invalid_value"),
]


@pytest.mark.parametrize(("change", "param", "code"), REFUSED)
def test_a_wrong_request_is_a_400_that_names_it(
    http: httpx.Client, change: dict[str, Any], param: str | None, code: str
) -> None:
    body = {"model": "other", "messages": HI} | change
    answer = http.post("/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert error["type"] == "invalid_request_error"
    assert error["message"]


def test_hints_and_near_matches_are_in_the_message(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="Did you mean factual"):
        client.chat.completions.create(model="other", messages=HI, extra_body={"preset": "factal"})
    with pytest.raises(openai.NotFoundError, match="Did you mean other") as caught:
        client.chat.completions.create(model="othr", messages=HI)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_what_is_no_json_object_is_a_400(http: httpx.Client) -> None:
    for body in (b'{"model":', b"[]", b"", b"\xff{}", b'"\xed\xa0\x80"'):
        answer = http.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    answer = http.post("/v1/chat/completions", content=b'{"model": "other"}', headers={"Content-Type": "text/plain"})
    assert answer.status_code == 400
    lone = b'{"model": "other", "messages": [{"role": "user", "content": "\\ud800"}]}'
    answer = http.post("/v1/chat/completions", content=lone, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_a_model_that_cannot_be_loaded_is_a_500_that_is_not_tried_again(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="is broken. Use another path.") as caught:
        client.chat.completions.create(model="broken", messages=HI)
    assert caught.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.InternalServerError, match="SIGABRT") as caught:
        client.chat.completions.create(model="aborts", messages=HI)
    assert "x-should-retry" not in caught.value.response.headers


def test_an_engine_that_fails_or_dies_is_a_500_and_the_next_request_is_answered(client: openai.OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.APIError, match=r"told to fail\. Leave out !fail"):
            list(client.chat.completions.create(model="other", messages=said("!fail"), stream=stream))
        with pytest.raises(openai.APIError, match="SIGABRT"):
            list(client.chat.completions.create(model="other", messages=said("!crash"), stream=stream))
        answer = client.chat.completions.create(model="other", messages=HI, temperature=0)
        assert answer.choices[0].message.content == SAID


def test_turns_are_read_beside_the_event_loop(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns by the ten thousand take a second: every other client would wait for it."""
    read = chat._message

    def beside(place: int, turn: ChatTurn) -> Message:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return read(place, turn)

    monkeypatch.setattr(chat, "_message", beside)
    assert http.post("/v1/chat/completions", json={"model": "other", "messages": HI}).status_code == 200
