"""What goes to an OpenAI-compatible server and what comes of its answers, however it answers."""

import json
import logging
from typing import Any

import pytest

from playground.errors import ContextError, MadangError, VariantError
from playground.events import Delta, Event, Started
from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import Address, ModelSpec, RowRequest
from playground.remote import dialect
from playground.remote.http import is_loopback, words
from playground.remote.openai import Server
from playground.thinking.asked import Thinking
from tests.planted import Planted, answered, end, says, serving, status, streams

NEUTRAL = Sampling(temperature=0.0, top_p=1.0, repetition_penalty=1.0, max_new_tokens=8, seed=3)
ASKED = (Message(role="user", content="수도가 어디야?"),)
KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.remote.openai.PAUSES_S", (0.01, 0.01, 0.01))


def spec(planted: Planted, **more: Any) -> ModelSpec:
    fields: dict[str, Any] = {"url": planted.url, "timeout_s": 5.0} | more
    return ModelSpec(engine="openai", name="far", path=planted.url, remote=Address(**fields))


def ask(planted: Planted, more: dict[str, Any] | None = None, **request: Any) -> list[Event]:
    """The events of one row; raises what the row failed of."""
    fields: dict[str, Any] = {"id": "r", "variant": "far", "messages": ASKED, "sampling": NEUTRAL} | request
    row = RowRequest(**fields)
    return answered(spec(planted, **more or {}), row)


def refused(planted: Planted, kind: type[MadangError] = MadangError, **more: Any) -> MadangError:
    with pytest.raises(kind) as caught:
        ask(planted, **more)
    return caught.value


def test_a_chat_is_streamed_with_its_numbers(planted: Planted) -> None:
    planted.replies = [says("서", "울")]
    events = ask(planted)
    assert isinstance(events[0], Started)
    assert json.loads(events[0].prompt) == [{"role": "user", "content": "수도가 어디야?"}]
    assert events[0].device == planted.url.removeprefix("http://").removesuffix("/v1")
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "서울"
    stats = end(events).stats
    assert (end(events).text, end(events).reason) == ("서울", "stop")
    assert (stats.prompt_tokens, stats.tokens, stats.memory_bytes) == (11, 5, 0)
    assert stats.first_token_s is not None
    assert stats.counted


def test_without_usage_the_parts_are_counted(planted: Planted) -> None:
    planted.replies = [says("a", "b", "c", usage=None, reason="length")]
    stats = end(ask(planted)).stats
    assert (stats.tokens, stats.counted) == (3, False)  # parts, and nowhere called tokens
    assert end(ask(planted)).reason == "length"


def test_what_is_sent(planted: Planted) -> None:
    planted.replies = [says("a")]
    full = Sampling(temperature=0.7, top_p=0.8, presence_penalty=0.5, frequency_penalty=-0.5, seed=1, stop=("\n", "끝"))
    ask(planted, sampling=full)
    [body] = planted.bodies("/v1/chat/completions")
    assert body["messages"] == [{"role": "user", "content": "수도가 어디야?"}]
    assert body["model"] == "there"
    sent = {name: body[name] for name in ("temperature", "top_p", "seed", "stop", "max_tokens")}
    assert sent == {"temperature": 0.7, "top_p": 0.8, "seed": 1, "stop": ["\n", "끝"], "max_tokens": 512}
    assert (body["presence_penalty"], body["frequency_penalty"]) == (0.5, -0.5)


@pytest.mark.parametrize(
    ("owner", "sampling", "sent", "unsent"),
    [
        ("somebody", NEUTRAL, {}, {"top_k", "min_p", "repetition_penalty", "repeat_penalty", "samplers"}),
        ("somebody", NEUTRAL.model_copy(update={"top_k": 5}), {"top_k": 5}, {"min_p", "repetition_penalty"}),
        ("vllm", NEUTRAL, {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}, {"repeat_penalty"}),
        ("sglang", NEUTRAL, {"top_k": -1, "repetition_penalty": 1.0}, {"repeat_penalty"}),
        ("llamacpp", NEUTRAL, {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}, {"repetition_penalty"}),
        ("llamacpp", NEUTRAL, {"repeat_last_n": 4096, "samplers": dialect.ORDER}, set()),
    ],
)
def test_extensions_by_the_kind_of_server(
    owner: str, sampling: Sampling, sent: dict[str, Any], unsent: set[str]
) -> None:
    body = dialect.fields(dialect.of(owner), sampling, 4096)
    assert {name: body[name] for name in sent} == sent
    assert not unsent & set(body)


def test_a_text_and_ids_go_to_completions(planted: Planted) -> None:
    planted.replies = [says(" upon")]
    events = ask(planted, messages=(), text="Once")
    assert isinstance(events[0], Started)
    assert events[0].prompt == "Once"
    ask(planted, messages=(), ids=(5, 6))
    assert [body["prompt"] for body in planted.bodies("/v1/completions")] == ["Once", [5, 6]]


def test_a_named_format_is_rendered_here(planted: Planted) -> None:
    planted.replies = [says("서울")]
    ask(planted, prompt_format="koalpaca")
    [body] = planted.bodies("/v1/completions")
    assert body["prompt"] == "### 질문: 수도가 어디야?\n\n### 답변:"
    assert body["stop"] == ["### 질문:", "### 맥락:"]


def test_logprobs_come_with_the_text(planted: Planted) -> None:
    top = [{"token": "서", "logprob": -0.5, "bytes": [236, 132, 156]}, {"token": "b", "logprob": -1.0}]
    held = {"content": [{"token": "서", "logprob": -0.5, "bytes": [236, 132, 156], "top_logprobs": top}]}
    chunk = {"choices": [{"delta": {"content": "서"}, "logprobs": held, "finish_reason": "stop"}]}
    planted.replies = [streams(b"data: " + json.dumps(chunk).encode() + b"\n\n")]
    [delta] = [event for event in ask(planted, top_logprobs=2) if isinstance(event, Delta)]
    assert bytes(delta.tokens[0].raw).decode() == "서"
    assert [one.logprob for one in delta.tokens[0].top] == [-0.5, -1.0]
    [body] = planted.bodies("/v1/chat/completions")
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)


ON = {"enable_thinking": True, "thinking": True}
THOUGHTS: list[tuple[list[dict[str, str]], str, str]] = [
    ([{"reasoning_content": "Hm"}, {"reasoning_content": "."}, {"content": "\n\n서울"}], "Hm.", "서울"),
    ([{"reasoning": "Hm"}, {"content": "서울"}], "Hm", "서울"),
    ([{"content": "<th"}, {"content": "ink>\nHm\n</thi"}, {"content": "nk>\n\n서울"}], "Hm", "서울"),
    ([{"content": "Hm\n</think>"}, {"content": "\n\n서울"}], "Hm", "서울"),
    ([{"content": "서울 <think>"}, {"content": "</think>"}], "", "서울 <think></think>"),
]


@pytest.mark.parametrize(("parts", "reasoning", "text"), THOUGHTS)
def test_thoughts_stand_apart_however_the_server_sends_them(
    planted: Planted, parts: list[dict[str, str]], reasoning: str, text: str
) -> None:
    events = [{"choices": [{"delta": part}]} for part in parts]
    planted.replies = [
        streams(*(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events), b"data: [DONE]\n\n")
    ]
    ended = end(ask(planted))
    assert (ended.reasoning, ended.text) == (reasoning, text)


WANTED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("vllm", {"mode": "off"}, {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
    ("madang", {"mode": "on", "budget": 9}, {"chat_template_kwargs": ON, "thinking_budget": 9}),
    ("llamacpp", {"effort": "low"}, {"reasoning_effort": "low"}),
    ("someone", {"mode": "off"}, {"reasoning_effort": "none"}),
    ("someone", {}, {}),
]


@pytest.mark.parametrize(("owner", "wanted", "sent"), WANTED)
def test_thinking_is_asked_for_as_the_server_knows_it(owner: str, wanted: dict[str, Any], sent: dict[str, Any]) -> None:
    request = RowRequest(variant="r", sampling=Sampling(), thinking=Thinking(**wanted))
    assert dialect.thinking(dialect.of(owner), request) == sent


GOING_ON = {"continue_final_message": True, "add_generation_prompt": False}


@pytest.mark.parametrize(
    ("owner", "sent"), [("vllm", GOING_ON), ("sglang", GOING_ON), ("madang", GOING_ON), ("llamacpp", {})]
)
def test_servers_that_can_are_asked_to_go_on(owner: str, sent: dict[str, Any]) -> None:
    request = RowRequest(variant="r", sampling=Sampling(), continues=True)
    assert dialect.ending(dialect.of(owner), request) == sent
    assert dialect.ending(dialect.of(owner), request.model_copy(update={"continues": False})) == {}


def test_a_server_that_might_begin_another_answer_is_not_asked_to_go_on() -> None:
    with pytest.raises(VariantError, match="not known to go on"):
        dialect.ending(dialect.of("someone"), RowRequest(variant="r", sampling=Sampling(), continues=True))


def test_a_budget_that_no_field_takes_is_refused() -> None:
    request = RowRequest(variant="r", sampling=Sampling(), thinking=Thinking(budget=9))
    with pytest.raises(VariantError, match="takes no budget"):
        dialect.thinking(dialect.of("vllm"), request)


def test_thoughts_go_back_to_servers_that_render_a_template() -> None:
    said = Message(role="assistant", content="a", reasoning_content="b")
    request = RowRequest(variant="r", sampling=Sampling(), messages=(said,))
    assert dialect.turns(dialect.of("vllm"), request)[0]["reasoning_content"] == "b"
    assert dialect.turns(dialect.of("someone"), request) == [{"role": "assistant", "content": "a"}]


def test_a_server_that_does_not_stream_is_understood(planted: Planted) -> None:
    whole = {"choices": [{"message": {"content": "서울"}, "finish_reason": "stop"}]}
    planted.replies = [lambda handler, body: handler.json(whole)]
    assert end(ask(planted)).text == "서울"


@pytest.mark.parametrize("code", [429, 502, 503])
def test_a_busy_server_is_asked_again(planted: Planted, code: int) -> None:
    planted.replies = [status(code), status(code, retry_after="0"), says("a")]
    assert end(ask(planted)).text == "a"
    assert len(planted.bodies("/v1/chat/completions")) == 3


def test_patience_ends(planted: Planted) -> None:
    planted.replies = [status(503, "Loading model")]
    error = refused(planted)
    assert "503: Loading model" in error.message
    assert "loading" in error.hint
    assert len(planted.bodies("/v1/chat/completions")) == 4


def test_nobody_waits_an_hour(planted: Planted) -> None:
    planted.replies = [status(429, "quota", retry_after="3600"), says("a")]
    error = refused(planted)
    assert "3600" in error.hint
    assert len(planted.bodies("/v1/chat/completions")) == 1


def test_another_host_is_not_followed(planted: Planted) -> None:
    with serving() as other:
        other.replies = [says("stolen")]
        target = f"{other.url}/chat/completions"
        planted.replies = [lambda handler, body: handler.json({}, 307, location=target)]
        error = refused(planted, VariantError)
        assert "another host" in error.message
        assert other.seen == []


def test_the_same_host_is_followed(planted: Planted) -> None:
    planted.replies = [lambda handler, body: handler.json({}, 308, location="/v1/elsewhere"), says("a")]
    assert end(ask(planted)).text == "a"
    assert planted.bodies("/v1/elsewhere")


def test_a_circle_ends(planted: Planted) -> None:
    planted.replies = [lambda handler, body: handler.json({}, 307, location="/v1/chat/completions")]
    assert "on and on" in refused(planted).message


def test_an_answer_nested_without_end_is_no_bug_of_ours(planted: Planted) -> None:
    deep = b"[" * 60_000
    planted.pages["/v1/models"] = lambda handler, body: handler.json(deep)
    assert "no JSON" in refused(planted).message
    planted.pages["/v1/models"] = lambda handler, body: handler.json(deep, 500)
    assert "500" in refused(planted).message
    planted.pages["/v1/models"] = {"data": [{"id": "a", "aliases": 5}]}
    planted.replies = [says("a")]
    assert end(ask(planted, more={"model": "b"})).text == "a"


def test_a_packed_answer_is_not_unpacked(planted: Planted) -> None:
    planted.pages["/v1/models"] = lambda handler, body: handler.json(b"\x1f\x8b", content_encoding="gzip")
    assert "packed" in refused(planted).message


@pytest.mark.parametrize(
    ("field", "sampling", "remedy"),
    [
        ("repetition_penalty", {"repetition_penalty": 1.1}, "set `repetition_penalty` to 1"),
        ("min_p", {"min_p": 0.1}, "set `min_p` to 0"),
        ("top_k", {"top_k": 4}, "set `top_k` to 0"),
        ("seed", {}, "leave `seed` out"),
    ],
)
def test_a_field_that_is_refused_is_named(planted: Planted, field: str, sampling: Any, remedy: str) -> None:
    planted.pages["/v1/models"] = {"data": [{"id": "there", "owned_by": "someone"}]}
    planted.replies = [status(400, f"Unrecognized request argument supplied: {field}")]
    error = refused(planted, VariantError, sampling=NEUTRAL.model_copy(update=sampling))
    assert f"does not take `{field}`" in error.message
    assert remedy in error.hint
    assert len(planted.bodies("/v1/chat/completions")) == 1


def test_what_only_counts_is_left_out_where_it_is_refused(planted: Planted) -> None:
    planted.replies = [status(400, "stream_options: Extra inputs are not permitted"), says("a")]
    assert end(ask(planted)).text == "a"
    assert "stream_options" not in planted.bodies("/v1/chat/completions")[1]


def test_a_field_with_a_newer_name_is_renamed(planted: Planted) -> None:
    planted.replies = [status(400, "'max_tokens' is not supported, use 'max_completion_tokens' instead"), says("a")]
    assert end(ask(planted)).text == "a"
    body = planted.bodies("/v1/chat/completions")[1]
    assert body["max_completion_tokens"] == 8
    assert "max_tokens" not in body


TOO_LARGE = "'max_tokens' or 'max_completion_tokens' is too large: 8. This model's maximum context length is 8 tokens"


def test_a_prompt_that_is_too_long_renames_nothing(planted: Planted) -> None:
    planted.replies = [status(400, TOO_LARGE), says("a")]
    earlier = (Message(role="user", content="old"), Message(role="assistant", content="older"))
    ask(planted, messages=(*earlier, *ASKED), prompt_format="alpaca")
    bodies = planted.bodies("/v1/completions")
    assert [body["max_tokens"] for body in bodies] == [8, 8]
    assert "old" not in bodies[1]["prompt"]


def test_completions_know_no_newer_name(planted: Planted) -> None:
    planted.replies = [status(400, "unsupported: use max_completion_tokens instead")]
    assert refused(planted, VariantError, messages=(), text="Once")
    assert len(planted.bodies("/v1/completions")) == 1


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("Unsupported parameter: 'top_p' is not supported with this model.", "top_p"),
        ("`temperature` and `top_p` cannot both be specified for this model.", "top_p"),
        ("Unsupported value: 'temperature' does not support 1.0 with this model.", "temperature"),
    ],
)
def test_what_is_refused_and_changes_nothing_is_left_out(planted: Planted, said: str, field: str) -> None:
    planted.pages["/v1/models"] = {"data": [{"id": "there", "owned_by": "openai"}]}
    planted.replies = [status(400, said), says("a")]
    assert end(ask(planted, sampling=NEUTRAL.model_copy(update={"temperature": 1.0}))).text == "a"
    first, second = planted.bodies("/v1/chat/completions")
    assert first.pop(field) == 1.0
    assert first == second
    planted.replies = [status(400, said)]
    other = NEUTRAL.model_copy(update={"temperature": 0.7, "top_p": 0.9})
    assert f"set `{field}` to 1" in refused(planted, VariantError, sampling=other).hint


def test_the_oldest_turn_goes_where_all_do_not_fit(planted: Planted) -> None:
    long = status(400, "This model's maximum context length is 8 tokens")
    planted.replies = [long, says("a")]
    earlier = (Message(role="user", content="old"), Message(role="assistant", content="older"))
    events = ask(planted, messages=(*earlier, *ASKED))
    assert isinstance(events[0], Started)
    assert events[0].dropped_turns == 1
    assert planted.bodies("/v1/chat/completions")[1]["messages"] == [ASKED[0].model_dump(exclude_none=True)]
    planted.replies = [long]
    assert "Shorten" in refused(planted, ContextError).hint


def test_a_key_is_sent_and_never_shown(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("FAR_API_KEY", KEY)
    planted.key, planted.replies = KEY, [says("a")]
    assert end(ask(planted, more={"key_env": "FAR_API_KEY"})).text == "a"
    planted.key = "another"
    error = refused(planted, more={"key_env": "FAR_API_KEY"})
    assert "401" in error.message
    assert "FAR_API_KEY" in error.hint
    assert KEY not in f"{error.message} {error.hint} {caplog.text}"
    monkeypatch.delenv("FAR_API_KEY")
    assert "not set" in refused(planted, more={"key_env": "FAR_API_KEY"}).message
    assert "key_env" in refused(planted).hint


def test_the_only_model_is_found_and_several_must_be_named(planted: Planted) -> None:
    planted.pages["/v1/models"] = {"data": [{"id": "a"}, {"id": "b", "owned_by": "sglang", "max_model_len": 99}]}
    planted.replies = [says("a")]
    assert "a, b" in refused(planted, VariantError).message
    ask(planted, more={"model": "b"})
    [body] = planted.bodies("/v1/chat/completions")
    assert (body["model"], body["top_k"]) == ("b", -1)


def test_a_server_without_a_list_needs_a_name(planted: Planted) -> None:
    planted.pages.clear()
    planted.replies = [says("a")]
    assert "/v1" in refused(planted).hint
    assert end(ask(planted, more={"model": "m"})).text == "a"


def test_a_forgotten_v1_is_said_though_a_model_is_named(planted: Planted) -> None:
    error = refused(planted, more={"model": "m", "url": planted.url.removesuffix("/v1")})
    assert "normally ends in /v1" in error.hint


@pytest.mark.parametrize(
    ("variable", "value", "url", "said"),
    [
        ("ALL_PROXY", "socks9://127.0.0.1:1", "http://10.0.0.1/v1", "the proxy cannot be used"),
        ("SSL_CERT_FILE", "/not/there.pem", "https://10.0.0.1/v1", "/not/there.pem cannot be read"),
        ("MADANG_X", "", "http://xn--a/v1", "is no address"),
    ],
)
def test_a_line_that_cannot_be_made_is_said(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, url: str, said: str
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(VariantError) as caught:
        Server(ModelSpec(engine="openai", name="far", path=url, remote=Address(url=url)))
    assert said in caught.value.message
    assert caught.value.hint


def test_a_page_of_a_website_is_no_server(planted: Planted) -> None:
    planted.pages["/v1/models"] = lambda handler, body: handler.json(b"<html>Hello</html>", content_type="text/html")
    assert "no JSON" in refused(planted).message


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_loopback_knows_no_proxy(planted: Planted, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    planted.replies = [says("a")]
    assert end(ask(planted)).text == "a"


def test_which_addresses_are_loopback() -> None:
    assert all(map(is_loopback, ("http://127.0.0.1:1", "http://[::1]/v1", "http://localhost/v1", "http://127.8.8.8")))
    assert not any(map(is_loopback, ("http://10.0.0.1/v1", "http://localhost.evil.org", "https://api.openai.com/v1")))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"error": {"message": "no"}}', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"detail": [{"msg": "field required"}]}', '[{"msg": "field required"}]'),
        (b'{"object": "error", "message": "no"}', "no"),
        (b"plainly no", "plainly no"),
        (b"<html>502</html>", ""),
    ],
)
def test_a_servers_own_words(raw: bytes, said: str) -> None:
    assert words(raw) == said
