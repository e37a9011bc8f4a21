"""How an answer of an OpenAI-compatible server may end: well, oddly, in its middle, or never."""

import json
import time
from typing import Any

import pytest

from playground.errors import WorkerError
from tests.planted import Planted, chat, end, hangs, says, streams
from tests.playground.remote.test_openai import ask, refused


def test_after_the_first_token_nothing_is_asked_again(planted: Planted) -> None:
    half = b"data: " + json.dumps(chat("Seo")).encode() + b"\n\n"
    planted.replies = [streams(half, end=False), says("never")]
    error = refused(planted, WorkerError)
    assert "broke off" in error.message
    assert len(planted.bodies("/v1/chat/completions")) == 1


def test_a_stream_that_ends_too_soon_broke_off(planted: Planted) -> None:
    planted.replies = [streams(b"data: " + json.dumps(chat("Seo")).encode() + b"\n\n")]
    assert "ended in the middle" in refused(planted, WorkerError).message


def events(*chunks: Any, rest: bytes = b"") -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + rest


STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    "reply",
    [
        streams(events(chat("서울"), STOP), end=False),
        streams(events(chat("서울")), b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}'),
        streams(events(chat("서울"), STOP), b'data: {"choices": [], "usa'),
        streams(events(chat("서울")), b"data: [DONE]"),
        streams(
            events({"choices": None, "usage": {"prompt_tokens": None}}, chat("서울", index=None, logprobs=5), STOP)
        ),
        lambda handler, body: handler.json({"choices": [{"message": {"content": "서울"}, "finish_reason": None}]}),
        lambda handler, body: handler.json(
            {"choices": [{"message": {"content": "서울"}, "finish_reason": "stop"}]}, content_encoding="none"
        ),
    ],
)
def test_a_whole_answer_is_taken_however_it_ends(planted: Planted, reply: Any) -> None:
    planted.replies = [reply]
    assert end(ask(planted)).text == "서울"


def test_a_line_that_stays_open_after_the_answer_is_left(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.remote.answer.LAST_S", 0.2)

    def reply(handler: Any, body: dict[str, Any]) -> None:
        handler.begin()
        handler.send(events(chat("서울"), STOP))
        handler.wait()

    planted.replies = [reply]
    assert end(ask(planted)).text == "서울"
    assert planted.hung_up.wait(60)


def test_parts_of_a_list_are_thoughts_and_text(planted: Planted) -> None:
    thought = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]}
    said = {"content": [{"type": "text", "text": "서울"}]}
    planted.replies = [streams(events(*({"choices": [{"delta": part}]} for part in (thought, said)), STOP))]
    ended = end(ask(planted))
    assert (ended.reasoning, ended.text) == ("Hm", "서울")


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_was_given_up_is_not_whole(planted: Planted, reason: str) -> None:
    planted.replies = [says("half an ans", reason=reason)]
    assert f"gave up in the middle of its answer ({reason})" in refused(planted, WorkerError).message


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (events({"object": "error", "message": "no room"}, rest=b"data: [DONE]\n\n"), "gave up: no room"),
        (events({"detail": "no room"}), "gave up: no room"),
        (b"event: error\n" + events({"message": "no room"}), "gave up: no room"),
        (b"data: [DONE]\n\n", "ended without an answer"),
    ],
)
def test_an_error_by_another_name_is_said(planted: Planted, raw: bytes, said: str) -> None:
    planted.replies = [streams(raw)]
    assert said in refused(planted, WorkerError).message


def test_no_speed_is_told_of_what_came_at_once(planted: Planted) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 128}}
    planted.replies = [streams(events(*map(chat, "abcdefgh"), STOP, usage))]
    stats = end(ask(planted)).stats
    assert (stats.tokens, stats.tokens_per_s) == (128, None)


def test_hidden_thoughts_do_not_make_a_model_fast(planted: Planted) -> None:
    def reply(handler: Any, body: dict[str, Any]) -> None:
        handler.begin()
        for letter in "abcde":
            handler.event(chat(letter))
            time.sleep(0.05)
        details = {"completion_tokens_details": {"reasoning_tokens": 1000}}
        handler.event(STOP | {"usage": {"prompt_tokens": 5, "completion_tokens": 1005} | details})
        handler.event("[DONE]")
        handler.send(b"")

    planted.replies = [reply]
    stats = end(ask(planted)).stats
    assert stats.tokens == 1005
    assert stats.tokens_per_s is not None
    assert stats.tokens_per_s < 30


@pytest.mark.parametrize("texts", [(), ("Seo",)])
def test_silence_has_an_end(planted: Planted, texts: tuple[str, ...]) -> None:
    planted.replies = [hangs(*texts)]
    error = refused(planted, WorkerError, more={"timeout_s": 0.2})
    assert "said nothing for 0.2 s" in error.message
    assert "timeout_s" in error.hint


@pytest.mark.parametrize("raw", [b"data: {not json\n\n", b'data: {"choices": 5}\n\n', b"data: []\n\n"])
def test_garbage_is_said_to_be_garbage(planted: Planted, raw: bytes) -> None:
    planted.replies = [streams(raw)]
    assert "no part of an answer" in refused(planted, WorkerError).message


def test_an_error_in_the_stream_ends_it(planted: Planted) -> None:
    planted.replies = [streams(b'data: {"error": {"message": "CUDA out of memory"}}\n\n')]
    assert "CUDA out of memory" in refused(planted, WorkerError).message


def test_a_line_without_end_is_cut_off(planted: Planted) -> None:
    planted.replies = [streams(*[b"x" * 2**16] * 20)]
    assert "a line of more than" in refused(planted, WorkerError).message


def test_an_answer_without_end_is_cut_off(planted: Planted) -> None:
    part = b": padding\n" * 2**12
    planted.replies = [streams(*[part] * 30)]
    assert "for one answer" in refused(planted, WorkerError).message
