"""Clients that ask slowly or not at all: their connections are closed, others are answered, on page and API."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
import uvicorn
from fastapi import Request
from uvicorn.server import ServerState

from playground.compare import Playground
from playground.server import app, connections, serving
from playground.server.connections import Connection
from playground.settings import Settings
from tests.planted import free_port
from tests.playground.server.conftest import until

HEADS = {
    "nothing": b"",
    "half a line": b"GET /v1/mod",
    "half a head": b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-A: ",
    "half a body of the API": b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{",
    "half a body of the page": b"POST /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{",
    "a body that nobody reads": b"POST /no HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{",
    "a chunk that never comes": b"POST /page HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n9",
    "a second head": b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\nGET /pa",
}


@contextmanager
def serve(tmp_path: Path, **changes: object) -> Iterator[serving.Server]:
    """A server of the API, with a path of a page that reads what is posted."""
    settings = Settings.model_validate({"data": tmp_path, "port": free_port(), "grace_s": 0, **changes})
    playground = Playground(settings)
    both = app.create(playground)

    @both.api_route("/page", methods=["GET", "POST"])
    async def page(request: Request) -> int:
        return len(await request.body())

    server = serving.Server(both, playground)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield server
    finally:
        server.should_exit = server.force_exit = True
        thread.join(30)


def opened(server: serving.Server, said: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.config.port), timeout=60)
    made.sendall(said)
    return made


def is_closed(connection: socket.socket) -> bool:
    """Wait for its end; whatever is answered before does not count."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    return True


def answers(server: serving.Server) -> int:
    return httpx.get(f"http://127.0.0.1:{server.config.port}/health", timeout=60).status_code


@pytest.mark.parametrize("said", HEADS)
def test_whoever_keeps_the_server_waiting_is_let_go(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.2)
    monkeypatch.setattr(connections, "PACE_S", 0.2)
    with serve(tmp_path) as server, opened(server, HEADS[said]) as slow:
        assert answers(server) == 200
        slow.settimeout(60)
        assert is_closed(slow)


def trickle(slow: socket.socket) -> None:
    while True:  # until it fails, or the test's own time is over
        slow.sendall(b"X-A: b\r\n")
        threading.Event().wait(0.02)


def test_a_byte_now_and_then_buys_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    with serve(tmp_path) as server, opened(server, b"GET / HTTP/1.1\r\n") as slow:
        with pytest.raises(ConnectionError):
            trickle(slow)
        assert answers(server) == 200


def test_beyond_its_number_the_idle_go_first(tmp_path: Path) -> None:
    with serve(tmp_path, connections=8) as server:
        asking = opened(server, HEADS["half a body of the page"])
        until(lambda: server.ending.running == 1)
        idle = []
        for number in range(20):
            idle.append(opened(server))
            until(lambda number=number: len(server.server_state.connections) == min(number + 2, 4))  # type: ignore[misc]
        for oldest in idle[:16]:
            assert is_closed(oldest)
        assert answers(server) == 200
        asking.sendall(b"x" * 899)
        assert asking.recv(4096).startswith(b"HTTP/1.1 200")
        for one in (asking, *idle):
            one.close()


class Clock:
    """An event loop whose clock a test moves, and whose tasks never run."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, then: Callable[[], None]) -> "Clock":
        self.calls.append((self.now + seconds, then))
        return self

    def create_task(self, work: Coroutine[Any, Any, None]) -> "asyncio.Future[None]":
        work.close()
        return Mock(spec=asyncio.Future)

    def cancel(self) -> None:
        self.calls.clear()

    def passes(self, seconds: float) -> None:
        self.now += seconds
        due = [then for at, then in self.calls if at <= self.now]
        self.calls = [(at, then) for at, then in self.calls if at > self.now]
        for then in due:
            then()


@pytest.mark.parametrize(("a_minute", "stays"), [(70_000, True), (50_000, False), (0, False)])
def test_an_upload_over_a_slow_line_goes_on_and_a_trickle_does_not(a_minute: int, stays: bool) -> None:
    clock, transport = Clock(), Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value, transport.is_closing.return_value = None, False
    config = uvicorn.Config(lambda: None, log_config=None)
    made = Connection(config, ServerState(), {}, clock, share=9)
    made.connection_made(transport)
    made.data_received(b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    for _ in range(20):
        made.cycle.body.clear()  # the app reads it
        made.flow.read_paused = False
        made.data_received(b"x" * max(1, a_minute // 2))
        clock.passes(connections.PACE_S)
    assert transport.abort.called is not stays


def test_while_we_do_not_read_nobody_is_slow() -> None:
    clock, transport = Clock(), Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value, transport.is_closing.return_value = None, False
    made = Connection(uvicorn.Config(lambda: None, log_config=None), ServerState(), {}, clock, share=9)
    made.connection_made(transport)
    made.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000)
    assert made.flow.read_paused
    for _ in range(20):
        clock.passes(connections.PACE_S)
    assert not transport.abort.called
