"""The end of a server: answers go on for a while, whoever asks meanwhile is to come again, and nobody hears 500."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from playground.compare import Playground
from playground.server import app, serving
from playground.settings import Settings
from tests.places import ROOT
from tests.planted import free_port
from tests.playground.server.conftest import CATALOGUE, until

LONG = {"model": "base", "prompt": "!slow " + "a" * 1500, "max_tokens": 2000, "temperature": 0}
"""Some 30 s of an answer, unless it is ended."""
Start = Callable[..., tuple[serving.Server, httpx.Client, threading.Thread]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server with a page of one path beside the API; gives it, a client of it, and its thread."""
    (tmp_path / "variants.toml").write_text(CATALOGUE, encoding="utf-8")
    made: list[tuple[serving.Server, httpx.Client, threading.Thread]] = []

    def run(**changes: Any) -> tuple[serving.Server, httpx.Client, threading.Thread]:
        settings = Settings(data=tmp_path, port=free_port(), **changes)
        playground = Playground(settings)
        both = app.create(playground)
        add_page(both)
        server = serving.Server(both, playground)
        thread = threading.Thread(target=server.run)
        thread.start()
        until(lambda: server.started)
        client = httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=60)
        made.append((server, client, thread))
        return made[-1]

    yield run
    for server, client, thread in made:
        server.should_exit = server.force_exit = True
        client.close()
        thread.join(30)
        server.playground.close()


def add_page(both: FastAPI) -> None:
    both.add_api_route("/", lambda: PlainTextResponse("the page"))


def tell_to_end(server: serving.Server) -> None:
    server.handle_exit(signal.SIGTERM, None)


def streamed(client: httpx.Client, then: Callable[[], None], **changes: Any) -> list[str]:
    """The data of a stream's events; `then` is called once it has begun."""
    with client.stream("POST", "/v1/completions", json=LONG | {"stream": True} | changes) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        then()
        return [line.removeprefix("data: ") for line in [first, *lines] if line]


def test_answers_go_on_and_newcomers_are_told_to_come_again(start: Start) -> None:
    server, client, thread = start(grace_s=600)
    said: dict[str, httpx.Response] = {}

    def end() -> None:
        tell_to_end(server)
        until(lambda: server.ending.begun)
        for path in ("/v1/models", "/health", "/"):
            said[path] = httpx.get(f"{client.base_url}{path}".replace("//v1", "/v1"), timeout=60)

    *_, last, done = streamed(client, end, prompt="!slow " + "a" * 50)
    assert done == "[DONE]"
    assert json.loads(last)["choices"][0]["finish_reason"] in ("stop", "length")
    assert [answer.status_code for answer in said.values()] == [503] * 3
    assert all(int(answer.headers["retry-after"]) > 0 for answer in said.values())
    assert said["/health"].json()["error"]["code"] == "server_ending"
    assert "being ended" in said["/v1/models"].json()["error"]["message"]
    assert said["/"].text.startswith("Madang is being ended.")
    thread.join(60)
    assert not thread.is_alive()


def test_what_has_not_ended_by_then_hears_why(start: Start) -> None:
    server, client, thread = start(grace_s=0)
    whole: list[httpx.Response] = []
    other = threading.Thread(target=lambda: whole.append(client.post("/v1/completions", json=LONG)))
    other.start()
    until(lambda: server.ending.running == 1)
    *_, error, done = streamed(client, lambda: tell_to_end(server))
    assert (json.loads(error)["error"]["code"], done) == ("server_ending", "[DONE]")
    other.join(60)
    assert whole[0].status_code == 503
    assert whole[0].json()["error"]["code"] == "server_ending"
    thread.join(60)
    assert not thread.is_alive()


def test_whoever_waits_for_a_body_hears_why_as_well(start: Start) -> None:
    server, client, thread = start(grace_s=0)
    heard: list[httpx.Response] = []

    def body() -> Iterator[bytes]:
        yield b"{"
        thread.join(60)

    other = threading.Thread(target=lambda: heard.append(client.post("/v1/completions", content=body())))
    other.start()
    until(lambda: server.ending.running == 1)
    tell_to_end(server)
    other.join(60)
    assert heard[0].status_code == 503


def test_the_second_time_it_ends_at_once(start: Start) -> None:
    server, client, thread = start(grace_s=10**6)

    def end() -> None:
        tell_to_end(server)
        until(lambda: server.ending.begun)
        tell_to_end(server)

    assert streamed(client, end)[-1] == "[DONE]"
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_program_hears_a_signal_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "variants.toml").write_text(CATALOGUE, encoding="utf-8")
    port = free_port()
    command = [sys.executable, "app.py", "--data", str(tmp_path), "serve", "base", "--port", str(port)]
    environment = {**os.environ, "MADANG_GRACE_S": "600"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    said = process.stderr
    assert said is not None
    try:
        assert f":{port}" in said.readline()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

            def end() -> None:
                process.send_signal(signal.SIGTERM)
                assert "ends when its answers do" in said.readline()
                assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=60).status_code == 503
                process.send_signal(signal.SIGTERM)

            *_, error, done = streamed(client, end)
        assert (json.loads(error)["error"]["code"], done) == ("server_ending", "[DONE]")
        process.wait(60)
    finally:
        process.kill()
        process.wait()
        said.close()
