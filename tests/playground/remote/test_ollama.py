"""Ollama is found by its own page, and asked by its own API, as nothing that was set is lost there."""

import json
from typing import Any

import pytest

from playground.errors import MadangError, VariantError, WorkerError
from playground.events import Delta, Event, Started
from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import Address, ModelSpec, RowRequest
from playground.remote import ollama
from tests.planted import Handler, Planted, answered, end, status

ASKED = (Message(role="system", content="짧게."), Message(role="user", content="수도가 어디야?"))
SET = Sampling(
    temperature=0.5, top_p=0.9, top_k=0, min_p=0.05, repetition_penalty=1.1, max_new_tokens=8, seed=3, stop=("끝",)
)


@pytest.fixture
def planted(planted: Planted) -> Planted:
    """The server as Ollama."""
    planted.pages["/v1/models"] = {"data": [{"id": "qwen3:4b", "owned_by": "library"}]}
    planted.pages["/api/version"] = {"version": "0.13.5"}
    return planted


def lines(*rows: dict[str, Any]) -> Any:
    """A stream as Ollama sends it: an object in every line."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "application/x-ndjson")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for row in rows:
            handler.send(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        handler.send(b"")

    return reply


END = {"done": True, "done_reason": "stop", "prompt_eval_count": 21, "eval_count": 2}
SEOUL = [{"message": {"content": "서"}, "done": False}, {"message": {"content": "울"}, "done": False}]


def ask(planted: Planted, context: int | None = None, **request: Any) -> list[Event]:
    fields: dict[str, Any] = {"id": "r", "variant": "far", "messages": ASKED, "sampling": SET} | request
    row = RowRequest(**fields)
    spec = ModelSpec(engine="openai", name="far", path="", context=context, remote=Address(url=planted.url))
    return answered(spec, row)


def test_a_chat_with_everything_that_was_set(planted: Planted) -> None:
    planted.by_path["/api/chat"] = lines(*SEOUL, END | {"message": {"content": ""}})
    events = ask(planted)
    assert isinstance(events[0], Started)
    assert json.loads(events[0].prompt) == [message.model_dump(exclude_none=True) for message in ASKED]
    assert (end(events).text, end(events).reason) == ("서울", "stop")
    assert (end(events).stats.prompt_tokens, end(events).stats.tokens) == (21, 2)
    [body] = planted.bodies("/api/chat")
    assert body["model"] == "qwen3:4b"
    assert body["options"] == {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": 0.05,
        "repeat_penalty": 1.1,
        "repeat_last_n": -1,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "num_predict": 8,
        "seed": 3,
        "stop": ["끝"],
    }
    assert body["truncate"] is False


def test_a_raw_prompt_and_a_named_format_get_no_template_around_them(planted: Planted) -> None:
    planted.by_path["/api/generate"] = lines({"response": " upon", "done": False}, END | {"response": ""})
    assert end(ask(planted, messages=(), text="Once")).text == " upon"
    ask(planted, context=8192, messages=ASKED[1:], prompt_format="koalpaca")
    raw, named = planted.bodies("/api/generate")
    assert (raw["prompt"], raw["raw"]) == ("Once", True)
    assert named["prompt"] == "### 질문: 수도가 어디야?\n\n### 답변:"
    assert named["options"]["stop"] == ["끝", "### 질문:", "### 맥락:"]
    assert named["options"]["num_ctx"] == 8192
    with pytest.raises(VariantError, match="takes no token ids"):
        ask(planted, messages=(), ids=(1, 2))


def test_thoughts_length_and_logprobs(planted: Planted) -> None:
    top = [{"token": "서", "logprob": -0.5, "bytes": [236, 132, 156]}, {"token": "b", "logprob": -1.0}]
    held = [{"token": "서", "logprob": -0.5, "bytes": [236, 132, 156], "top_logprobs": top}]
    thought = {"message": {"content": "", "thinking": "Hm"}, "done": False}
    said = {"message": {"content": "서"}, "logprobs": held, "done": False}
    planted.by_path["/api/chat"] = lines(thought, said, END | {"done_reason": "length"} | {"message": {"content": ""}})
    events = ask(planted, top_logprobs=2)
    assert (end(events).reasoning, end(events).text, end(events).reason) == ("Hm", "서", "length")
    [tokens] = [event.tokens for event in events if isinstance(event, Delta) and event.tokens]
    assert [likely.logprob for likely in tokens[0].top] == [-0.5, -1.0]


def test_errors_before_and_within_the_stream(planted: Planted) -> None:
    planted.by_path["/api/chat"] = lines(SEOUL[0], {"error": "an error was encountered while running the model"})
    with pytest.raises(WorkerError, match="gave up: an error was encountered"):
        ask(planted)
    planted.by_path["/api/chat"] = lines(SEOUL[0])
    with pytest.raises(WorkerError, match="ended in the middle"):
        ask(planted)
    planted.by_path["/api/chat"] = lines({"what": "is this"})
    with pytest.raises(WorkerError, match="no part of an answer"):
        ask(planted)
    planted.by_path["/api/chat"] = status(404, "model 'qwen3:4b' not found")
    with pytest.raises(MadangError, match="not found"):
        ask(planted)


def test_others_are_not_taken_for_it(planted: Planted) -> None:
    for page in ({"error": "Unexpected endpoint"}, "v1", None):
        planted.pages["/api/version"] = page
        planted.replies = [lambda handler, body: handler.json({"choices": [{"message": {"content": "a"}}]})]
        assert end(ask(planted)).text == "a"
    assert planted.bodies("/v1/chat/completions")


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"done": false}', '{"message": 5, "done": false}', "[" * 9000])
def test_lines_that_are_none(line: str) -> None:
    assert ollama.parsed(line) is None
