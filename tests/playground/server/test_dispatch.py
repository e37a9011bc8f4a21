"""What a hang-up does: the rows of a client that is gone are cancelled, whatever it waited for."""

import json
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from fastapi import FastAPI

from playground.compare import Playground
from playground.events import Delta, Finished
from playground.server.app import create
from playground.settings import Settings
from tests.playground.server.conftest import HeardPool, serving, until

LONG: Any = [{"role": "user", "content": "!slow !long"}]


def hang_up(
    address: str, body: dict[str, Any], when: Callable[[bytes], bool], path: str = "/v1/chat/completions"
) -> None:
    """Ask, read until `when` is content, and close the connection."""
    raw = json.dumps(body).encode()
    place = urlsplit(address)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}"
    )
    with socket.create_connection((str(place.hostname), int(place.port or 0))) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode() + raw)
        got = b""
        deadline = time.monotonic() + 20
        while not when(got):
            assert time.monotonic() < deadline, got
            connection.settimeout(0.05)
            try:
                got += connection.recv(4096)
            except TimeoutError:
                continue


def cancelled(pool: HeardPool, since: int) -> int:
    return sum(isinstance(event, Finished) and event.reason == "cancelled" for event in pool.heard[since:])


def idle(pool: HeardPool) -> bool:
    return not any(row.busy for row in pool.loaded())


@pytest.mark.parametrize("choices", [1, 3])
def test_a_client_that_hangs_up_in_a_stream_frees_the_engine(address: str, pool: HeardPool, choices: int) -> None:
    since = len(pool.heard)
    body = {"model": "base", "messages": LONG, "stream": True, "n": choices}
    hang_up(address, body, lambda got: b'"content":"b' in got)
    until(lambda: cancelled(pool, since) == choices and idle(pool))
    assert any(isinstance(event, Delta) for event in pool.heard[since:])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_client_that_waits_for_a_whole_answer_as_well(
    address: str, pool: HeardPool, path: str, http: httpx.Client
) -> None:
    since = len(pool.heard)
    body: dict[str, Any] = {"model": "base", "max_tokens": 2000}
    body |= {"messages": LONG} if "chat" in path else {"prompt": ["!slow !long", "!slow !long"]}
    rows = 1 if "chat" in path else 2
    hang_up(address, body, lambda got: sum(isinstance(e, Delta) for e in pool.heard[since:]) >= rows, path)
    until(lambda: cancelled(pool, since) == rows and idle(pool))
    counted = f'madang_requests_total{{model="base",route="{path}",status="499"}} 1.0'
    until(lambda: counted in http.get("/metrics").text)  # under the model that it had asked


def test_a_client_that_hangs_up_while_its_prompt_is_read(address: str, pool: HeardPool) -> None:
    since = len(pool.heard)
    asked: Any = [{"role": "user", "content": "!slow " + "x" * 2900}]
    body = {"model": "base", "messages": asked, "stream": True}
    hang_up(address, body, lambda got: b'"role":"assistant"' in got)
    until(lambda: cancelled(pool, since) == 1 and idle(pool))
    assert not any(isinstance(event, Delta) for event in pool.heard[since:])


@pytest.mark.parametrize("streaming", [False, True])
def test_a_client_that_hangs_up_on_an_echo_frees_the_engine(
    streaming: bool, address: str, pool: HeardPool, http: httpx.Client
) -> None:
    """Whether its prompts are being read, or wait for those of another to be read first; nobody behind it waits."""
    body = {"model": "slow", "prompt": ["x" * 100] * 500, "echo": True, "logprobs": 1, "max_tokens": 1}

    def is_loaded(got: bytes) -> bool:
        return any(row.spec.name == "slow" for row in pool.loaded())

    hang_up(address, body | {"stream": streaming}, is_loaded, "/v1/completions")
    began = time.monotonic()
    found = http.post("/v1/completions", json=body | {"prompt": "abc"})
    assert found.status_code == 200
    assert time.monotonic() - began < 5
    until(lambda: idle(pool))


def _is_past(moment: float, got: object) -> bool:
    return time.monotonic() > moment


def test_clients_that_leave_a_loading_model_hold_no_threads(tmp_path: Path) -> None:
    rows = "".join(f'[[variant]]\nname = "{name}"\nkind = "base"\nsource = "fake:{name}"\n' for name in ("sleepy", "b"))
    (tmp_path / "variants.toml").write_text(rows, encoding="utf-8")
    settings = Settings(data=tmp_path, api_queue=4)
    pool = HeardPool(settings)
    try:
        with serving(create(Playground(settings, pool=pool))) as address:
            for _ in range(8):
                wait = time.monotonic() + 0.1
                hang_up(address, {"model": "sleepy", "messages": LONG}, partial(_is_past, wait))
            began = time.monotonic()
            assert httpx.get(f"{address}/v1/models").status_code == 200
            asked = {"model": "b", "messages": [{"role": "user", "content": "hi"}]}
            until(lambda: httpx.post(f"{address}/v1/chat/completions", json=asked, timeout=20).status_code == 200)
            assert time.monotonic() - began < 10
    finally:
        pool.close()


def test_many_turns_that_do_not_fit_are_refused_at_once(http: httpx.Client) -> None:
    turns = [{"role": ("user", "assistant")[number % 2], "content": f"turn {number}"} for number in range(4001)]
    began = time.monotonic()
    found = http.post("/v1/chat/completions", json={"model": "base", "messages": turns})
    assert time.monotonic() - began < 5
    assert (found.status_code, found.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_one_refused_prompt_takes_the_others_with_it(http: httpx.Client, pool: HeardPool) -> None:
    since = len(pool.heard)
    body = {"model": "base", "prompt": ["!slow !long", "!slow !long", "x" * 5000], "max_tokens": 2000}
    assert http.post("/v1/completions", json=body).status_code == 400
    until(lambda: cancelled(pool, since) == 2 and idle(pool))


def test_a_stream_that_is_read_to_its_end_cancels_nothing(client: openai.OpenAI, pool: HeardPool) -> None:
    since = len(pool.heard)
    list(client.chat.completions.create(model="base", messages=[{"role": "user", "content": "a"}], stream=True))
    assert cancelled(pool, since) == 0
    [finished] = [event for event in pool.heard[since:] if isinstance(event, Finished)]
    assert finished.reason == "stop"


def test_what_a_request_used_is_reported(client: openai.OpenAI, api: FastAPI, http: httpx.Client) -> None:
    def counted(name: str) -> float:
        lines = http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f'{name}{{model="base:two"'))

    before = counted("madang_prompt_tokens_total"), counted("madang_answer_tokens_total")
    for stream in (False, True):
        made: Any = client.completions.create(model="base:two", prompt="abc", max_tokens=4, n=2, stream=stream)
        list(made)
    after = counted("madang_prompt_tokens_total"), counted("madang_answer_tokens_total")
    assert (after[0] - before[0], after[1] - before[1]) == (6, 16)
