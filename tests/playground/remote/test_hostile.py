"""What a remote server may send is text and nothing more, in our API, on the page and on a terminal, and it has an end.

Each fault is sent by a small server of our own, and asked for in every way that an answer is asked for.
"""

import gzip
import io
import json
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from rich.console import Console

from playground.catalogue.variants import Remote
from playground.cli.terminal import show_answers
from playground.compare import Playground
from playground.conversations.turns import Answer, Turn
from playground.errors import MadangError
from playground.escape import guard_rich
from playground.protocol import DEFAULT_CONTEXT
from playground.remote import reach
from playground.remote.sse import Events
from playground.settings import Settings
from playground.ui import panes
from playground.workers.loadable import remote_spec
from tests.planted import ONE_MODEL, Handler, Planted, Reply, serving, status, streams
from tests.playground.remote.test_worker import our_server, questions

CLEARS = "\x1b[2J\x1b]0;owned\x07\x9b31m\x00\r"
"""Clears a terminal, names its window, and has it write in red."""


def event(content: object) -> bytes:
    return f"data: {content if isinstance(content, str) else json.dumps(content)}\n\n".encode()


def part(**more: Any) -> bytes:
    return event({"choices": [{"index": 0} | more]})


ENDS = part(delta={}, finish_reason="stop") + event("[DONE]")


def raw(*parts: bytes) -> Reply:
    """A whole answer of events as they are, with a fitting end."""
    return streams(*parts, ENDS)


def for_ever(what: bytes) -> Reply:
    """The same again and again, until the client hangs up."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        with suppress(OSError):
            handler.begin()
            while not handler.planted.closing.is_set():
                handler.send(what)
        handler.close_connection = True

    return reply


def slowly(what: bytes) -> Reply:
    """Bytes as they are, the last ones again every moment, until the client hangs up."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        with suppress(OSError):
            handler.wfile.write(what)
            while not handler.planted.closing.wait(0.05):
                handler.wfile.write(what[-8:])
        handler.close_connection = True

    return reply


def headed(content: bytes, code: int = 200, **headers: str) -> Reply:
    return lambda handler, body: handler.json(content, code, **headers)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
TEXTS: dict[str, tuple[Reply, str]] = {
    "half of a sign": (raw(event('{"choices":[{"delta":{"content":"a\\ud800b"}}]}')), "a\ufffdb"),
    "half of one in a thought": (
        raw(event('{"choices":[{"delta":{"reasoning":"\\uDFFF"}}]}'), part(delta={"content": "x"})),
        "x",
    ),
    "no UTF-8": (
        raw(b'data: {"choices":[{"delta":{"content":"a\xff\xed\xa0\x80b"}}]}\n\n'),
        "a\ufffd\ufffd\ufffd\ufffdb",
    ),
    "a terminal's sequences": (raw(part(delta={"content": f"a{CLEARS}b"})), f"a{CLEARS}b"),
    "markup": (raw(part(delta={"content": "<img src=x onerror=alert(1)>"})), "<img src=x onerror=alert(1)>"),
    "lines' ends of others": (raw(part(delta={"content": "a\u2028\u2029\x85b"})), "a\u2028\u2029\x85b"),
    "usage below nothing": (
        raw(part(delta={"content": "x"}), event({"choices": [], "usage": {"completion_tokens": -5}})),
        "x",
    ),
    "usage beyond all": (
        raw(part(delta={"content": "x"}), event({"choices": [], "usage": {"prompt_tokens": 10**300}})),
        "x",
    ),
    "tokens of no bytes": (
        raw(
            part(delta={"content": "x"}, logprobs={"content": [{"token": "\ud800", "logprob": 0, "bytes": [999, -1]}]})
        ),
        "x",
    ),
    "a token as likely as nothing": (
        raw(event('{"choices":[{"delta":{"content":"x"},"logprobs":{"content":[{"token":"x","logprob":NaN}]}}]}')),
        "x",
    ),
    "an end that never ends": (streams(part(delta={"content": "x"}, finish_reason="stop"), *[event({})] * 3), "x"),
}
"""What is an answer all the same, and which."""
FAULTS: dict[str, Reply] = {
    "a line without end": for_ever(b"data: " + b"x" * 10_000),
    "events that say nothing": for_ever(event({"choices": []}) * 100),
    "events of white space": for_ever(part(delta={"content": " "}) * 100),
    "more text than was asked for": for_ever(part(delta={"content": "word " * 100})),
    "choices that are a word": raw(event({"choices": "x"})),
    "a text that is a number": raw(part(delta={"content": 7})),
    "a list": raw(event("[]")),
    "nested without end": raw(event('{"choices":' + "[" * 100_000)),
    "a giant of empty lists": raw(event('{"error":[' + "[]," * 100_000 + "[]]}")),
    "an error of hostile words": raw(event({"error": {"message": f"no {CLEARS}\ud800 <b>"}})),
    "an error without end": raw(event({"error": {"message": "no " * 100_000}})),
    "packed": headed(gzip.compress(b"0" * 10**7), content_encoding="gzip"),
    "packed by another name": headed(b"x", content_encoding="br, gzip"),
    "a refusal of hostile words": status(500, f"no {CLEARS}\ud800 <b>"),
    "a refusal without end": status(500, "no " * 10**6),
    "a refusal that is packed": headed(gzip.compress(b"0" * 10**7), 500, content_encoding="gzip"),
    "another host": headed(b"", 307, location="http://127.0.0.2:9/v1"),
    "another host with sequences": headed(b"", 307, location="http://evil\x1b[2J/"),
    "no address": headed(b"", 307, location="http://[::1"),
    "another method": headed(b"", 302, location="/\u202e\x7f"),
    "cookies of all kinds": headed(b"[]", set_cookie="=;;\x01; domain=.; expires=never"),
}
ENDLESS: dict[str, Reply] = {
    "what is no HTTP": slowly(b"SSH-2.0-OpenSSH\r\n"),
    "a line without end in small parts": for_ever(b"x"),
    "signs of life alone": slowly(HEAD + b"\r\n: alive\n\n"),
    "a head without end": slowly(HEAD + b"x-a: bbb\r\n"),
    "heads of no answer": slowly(b"HTTP/1.1 100 Go on\r\n\r\n" * 2),
    "a whole answer bit by bit": slowly(HEAD.replace(b"text/event-stream", b"application/json") + b"\r\n        "),
}
"""What would keep a client for ever; it waits for its `timeout_s` each time."""
REPLIES = {**{name: reply for name, (reply, _) in TEXTS.items()}, **FAULTS, **ENDLESS}


@pytest.fixture(scope="module")
def planted() -> Iterator[Planted]:
    with serving() as planted:
        yield planted


@pytest.fixture(scope="module")
def asked(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Playground]]:
    """The address of our API, and a playground, that both know the server as `far`, and want its answers soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("playground.remote.openai.PAUSES_S", ())
        patch.setattr("playground.remote.openai.PATIENCE", 1)
        patch.setattr("playground.remote.http.PATIENCE", 1)
        patch.setattr("playground.remote.http.CONNECT_S", 0.5)
        rows = [Remote(name=name, url=planted.url, timeout_s=wait) for name, wait in (("far", 20), ("hasty", 0.4))]
        data = tmp_path_factory.mktemp("hostile") / "data"
        with our_server(data, *rows) as url:
            playground = Playground(Settings(data=data))
            yield url, playground
            playground.close()


def body(name: str, stream: bool) -> dict[str, Any]:
    said = {"role": "user", "content": "Hi"}
    model = "hasty" if name in ENDLESS else "far"
    return {"model": model, "messages": [said], "stream": stream, "max_tokens": 16, "logprobs": True}


def events(text: str) -> list[str]:
    """The data of a stream's events, each on one line for every reader."""
    assert all(line.startswith("data: ") for line in text.splitlines() if line)
    return [line.removeprefix("data: ") for line in text.splitlines() if line]


def is_harmless(shown: str) -> bool:
    """Whether a terminal obeys nothing in a text, and whether it can be written."""
    shown.encode()
    return not [letter for letter in shown if unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t"]


@pytest.mark.parametrize("name", REPLIES)
def test_a_stream_of_ours_ends_with_done_and_says_what_went_wrong(
    name: str, asked: tuple[str, Playground], planted: Planted
) -> None:
    planted.replies = [REPLIES[name]]
    answer = httpx.post(f"{asked[0]}/chat/completions", json=body(name, True), timeout=60)
    if answer.status_code != 200:  # it never began
        assert name not in TEXTS
        return check_error(answer.json())
    *rest, last = events(answer.content.decode())
    assert last == "[DONE]"
    said = [json.loads(one) for one in rest]
    if name not in TEXTS:
        return check_error(said[-1])
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in said) == TEXTS[name][1]


@pytest.mark.parametrize("name", [*TEXTS, *FAULTS])
def test_a_whole_answer_of_ours(name: str, asked: tuple[str, Playground], planted: Planted) -> None:
    planted.replies = [REPLIES[name]]
    answer = httpx.post(f"{asked[0]}/chat/completions", json=body(name, False), timeout=60)
    if name in FAULTS:
        assert answer.status_code >= 400
        return check_error(answer.json())
    assert answer.json()["choices"][0]["message"]["content"] == TEXTS[name][1]
    assert all(0 <= answer.json()["usage"][kind] < 100 for kind in ("prompt_tokens", "completion_tokens"))


def check_error(said: Any) -> None:
    """An error is OpenAI's, short, and of letters that can be shown."""
    message = said["error"]["message"]
    assert len(message) < 1000
    assert is_harmless(message), message


@pytest.mark.parametrize("name", [*TEXTS, *FAULTS])
def test_a_terminal_shows_it_and_obeys_nothing(name: str, asked: tuple[str, Playground], planted: Planted) -> None:
    planted.replies = [REPLIES[name]]
    guard_rich()
    plain, styled = io.StringIO(), io.StringIO()
    for out, terminal in ((plain, False), (styled, True)):
        console = Console(file=out, force_terminal=terminal, color_system=None, width=80)
        answered = show_answers(console, asked[1].ask(questions("far")), ["far"])
        assert answered is (name in TEXTS)
    assert is_harmless(plain.getvalue())
    assert not [one for one in (CLEARS[:4], "\x1b]0", "\x07", "\x9b", "\x00") if one in styled.getvalue()]


@pytest.mark.parametrize("name", [*TEXTS, *FAULTS])
def test_the_page_shows_it_as_text(name: str, asked: tuple[str, Playground], planted: Planted) -> None:
    planted.replies = [REPLIES[name]]
    answer = Answer()
    for event in asked[1].ask(questions("far")):
        answer = answer.after(event)
    html = panes._body(answer) + panes._foot(Turn(question="q", answers={"far": answer}), "far")
    html.encode()
    assert "<img" not in html
    assert "<b>" not in html


LISTS: dict[str, Any] = {
    "a name of sequences": [{"id": f"m{CLEARS}"}],
    "a name without end": [{"id": "m" * 100_000}],
    "many names": [{"id": f"{CLEARS}{'m' * 1000}{at}"} for at in range(1000)],
    "no names": [{"id": {"a": 1}}],
}


@pytest.mark.parametrize("name", LISTS)
def test_what_a_server_lists_is_shown_short_and_harmless(name: str, planted: Planted) -> None:
    planted.pages = {"/v1/models": {"data": LISTS[name]}}
    spec = remote_spec(Remote(name="far", url=planted.url))
    try:
        with pytest.raises(MadangError) as refused:
            reach.look(spec)
    finally:
        planted.pages = {"/v1/models": ONE_MODEL}
    said = f"{refused.value.message} {refused.value.hint}"
    assert len(said) < 5000
    assert is_harmless(said)


def test_facts_beyond_all_are_none(planted: Planted) -> None:
    row = {"id": "m", "max_model_len": 10**300, "n_ctx": True, "ftype": CLEARS * 100, "n_vocab": -1}
    planted.pages = {"/v1/models": {"data": [row]}}
    info = reach.look(remote_spec(Remote(name="far", url=planted.url))).info
    planted.pages = {"/v1/models": ONE_MODEL}
    assert (info.context, info.vocabulary) == (DEFAULT_CONTEXT, 0)
    assert is_harmless(info.dtype)


def test_a_page_without_end_is_cut_off(planted: Planted) -> None:
    planted.pages = {"/v1/models": headed(b"[" + b"[]," * 2**21)}
    with pytest.raises(MadangError, match="more than 4,194,304 bytes"):
        reach.look(remote_spec(Remote(name="far", url=planted.url)))
    planted.pages = {"/v1/models": ONE_MODEL}


def test_a_line_is_searched_once_however_small_its_parts_are() -> None:
    """Twice the line takes about twice the time of the CPU; searched anew with each part it would take four times."""
    lines = Events(limit=10**9)
    for _ in range(200_000):
        assert list(lines.feed(b"x")) == []
    assert lines.end() is None
