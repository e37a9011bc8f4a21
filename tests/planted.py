"""A server on the loopback that speaks the OpenAI API as a test plants it: well, badly, or not at all."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from playground.events import Event, Finished
from playground.protocol import ModelSpec, RowRequest
from playground.remote.answer import Answer
from playground.remote.openai import Server

Reply = Callable[["Handler", dict[str, Any]], None]
ONE_MODEL = {"object": "list", "data": [{"id": "there", "owned_by": "vllm", "max_model_len": 777}]}


@dataclass
class Seen:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass
class Planted:
    """What it answers: to GETs by path, to POSTs by path or else in turn, the last one for ever after."""

    url: str = ""
    pages: dict[str, Any] = field(default_factory=lambda: {"/v1/models": ONE_MODEL})
    by_path: dict[str, Reply] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    key: str = ""
    seen: list[Seen] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """What was posted to a path."""
        return [seen.body for seen in self.seen if seen.path == path and seen.body]


class Handler(BaseHTTPRequestHandler):
    """One connection of the server in its class attribute."""

    planted: Planted
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        page = self.planted.pages.get(self.path)
        self.planted.seen.append(Seen(self.path, dict(self.headers), {}))
        if callable(page):
            page(self, {})
        elif self.refuses_key():
            pass
        elif page is None:
            self.json({"detail": "Not Found"}, 404)
        else:
            self.json(page)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.planted.seen.append(Seen(self.path, dict(self.headers), body))
        reply = self.planted.by_path.get(self.path)
        if self.refuses_key():
            return
        if reply is None and self.path == "/tokenize":
            self.json({"detail": "Not Found"}, 404)
        elif reply is None:
            replies = self.planted.replies
            (replies.pop(0) if len(replies) > 1 else replies[0])(self, body)
        else:
            reply(self, body)

    def refuses_key(self) -> bool:
        """Whether a key was wanted and another came; it is told then, as some servers do."""
        came = self.headers.get("authorization", "")
        if not self.planted.key or came == f"Bearer {self.planted.key}":
            return False
        self.json({"error": {"message": f"Incorrect API key provided: {came.removeprefix('Bearer ')}"}}, 401)
        return True

    def json(self, content: Any, status: int = 200, **headers: str) -> None:
        """A whole answer."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"content-type": "application/json"} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def begin(self) -> None:
        """The head of a stream."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def send(self, raw: bytes) -> None:
        """One part of a stream."""
        self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")

    def event(self, content: Any) -> None:
        """One event of a stream."""
        data = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        self.send(f"data: {data}\n\n".encode())

    def wait(self) -> None:
        """Until the client hangs up, or the test is over."""
        self.connection.settimeout(0.05)
        while not self.planted.closing.is_set():
            try:
                if self.connection.recv(1) == b"":
                    self.planted.hung_up.set()
                    break
            except TimeoutError:
                continue
            except OSError:
                self.planted.hung_up.set()
                break
        self.close_connection = True

    def log_message(self, form: str, *values: object) -> None:
        """Silent."""


def chat(text: str, **more: Any) -> dict[str, Any]:
    """A chunk of a chat."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None} | more]}


def says(*texts: str, reason: str = "stop", usage: tuple[int, int] | None = (11, 5)) -> Reply:
    """A whole answer, part by part, in the form of the path that was asked."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin()
        is_chat = handler.path.endswith("/chat/completions")
        for text in texts:
            handler.event(chat(text) if is_chat else {"choices": [{"index": 0, "text": text}]})
        last: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
        handler.event(last)
        if usage is not None:
            handler.event({"choices": [], "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}})
        handler.event("[DONE]")
        handler.send(b"")

    return reply


def status(code: int, message: object = "no", **headers: str) -> Reply:
    """An error in OpenAI's form."""
    return lambda handler, body: handler.json({"error": {"message": message}}, code, **headers)


def hangs(*texts: str) -> Reply:
    """Says this much (with nothing: not even a head) and then nothing any more."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if texts:
            handler.begin()
        for text in texts:
            handler.event(chat(text))
        handler.wait()

    return reply


def streams(*parts: bytes, end: bool = True) -> Reply:
    """Raw bytes as a stream; without `end` the connection is cut."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin()
        for part in parts:
            handler.send(part)
        if end:
            handler.send(b"")
        handler.close_connection = True

    return reply


def answered(spec: ModelSpec, row: RowRequest) -> list[Event]:
    """The events of a row that this server is asked, after its greeting; raises what the row failed of."""
    events: list[Event] = []

    async def run() -> None:
        server = Server(spec)
        try:
            await server.greet()
            await server.answer(Answer(row, events.append, 0.0, server.info))
        finally:
            await server.close()

    asyncio.run(run())
    return events


def end(events: list[Event]) -> Finished:
    """How a row ended that did not fail."""
    assert isinstance(events[-1], Finished)
    return events[-1]


def free_port() -> int:
    """A port on the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serving() -> Iterator[Planted]:
    """The server, on a free port."""
    planted = Planted()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"planted": planted}))
    server.daemon_threads = True
    planted.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield planted
    finally:
        planted.closing.set()
        server.shutdown()
        server.server_close()
