"""A page as it is served, over ASGI: plain calls, and streams whose reader hangs up."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from playground.compare import Playground
from playground.settings import Settings
from playground.ui.page import build, launch_options, mounted
from playground.ui.sessions import Sessions

HERE = "http://127.0.0.1:7860"
API = "/gradio_api"


class Page:
    """One page under test; calls are coroutines, so that a test runs them all in one loop."""

    def __init__(self, playground: Playground, settings: Settings) -> None:
        self.blocks = build(playground, settings)
        self.app = mounted(FastAPI(openapi_url=None), self.blocks, settings, launch_options(settings))
        self.gradio: Any = self.app.routes[-1].app  # type: ignore[attr-defined]

    @property
    def sessions(self) -> Sessions:
        """Gradio's sessions of it."""
        found = self.gradio.state_holder
        assert isinstance(found, Sessions)
        return found

    def client(self) -> httpx.AsyncClient:
        """A client of it, which waits for whole answers."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=HERE)

    def event(self, name: str, **more: Any) -> dict[str, Any]:
        """The body of a call of the page's own first event, by a session of this name."""
        first = next(fn for fn in self.blocks.fns.values() if any(on == "load" for _, on in fn.targets))
        values = [getattr(block, "value", None) for block in first.inputs]
        plain = [None if callable(value) or hasattr(value, "turns") else value for value in values]
        return {"data": plain, "fn_index": first._id, "session_hash": name, "event_data": None, **more}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Its queue at work, inside a running loop."""
        queue: Any = self.blocks._queue
        queue.stopped = False
        queue.pending_message_lock, queue.delete_lock = asyncio.Lock(), asyncio.Lock()  # of this loop
        queue.start()
        yield
        queue.close()

    async def call(self, path: str, parts: list[bytes], **headers: str) -> tuple[int, bytes]:
        """Post a body that has no end; return the status (0: none) and the answer.

        Its parts are taken off the list; when none is left, the client hangs up.
        """
        answer: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            gone = {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": True} if parts else gone

        async def send(message: Any) -> None:
            answer.append(message)

        await self.app(_scope("POST", path, headers), receive, send)
        return (answer[0]["status"] if answer else 0), b"".join(part.get("body", b"") for part in answer)

    async def read(self, path: str, read: asyncio.Event | None = None, stay: asyncio.Event | None = None) -> int:
        """Read a stream until `stay` is set, by default until its first line; return the status."""
        status: list[int] = []
        came = read or asyncio.Event()

        async def receive() -> dict[str, Any]:
            await (stay or came).wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            status.append(message.get("status", 0))
            if message.get("body"):
                came.set()

        await self.app(_scope("GET", path, {}), receive, send)
        return status[0]


def _scope(method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    where, _, query = path.partition("?")
    named = {"host": "127.0.0.1:7860", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": where,
        "raw_path": where.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 7860),
    }


@contextmanager
def page_of(settings: Settings) -> Iterator[Page]:
    """A page with a playground of its own."""
    playground = Playground(settings)
    yield Page(playground, settings)
    playground.close()
