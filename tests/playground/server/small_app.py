"""A small guarded API without a model: what the guards' tests ask. Its routes end only when they are told to."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

from playground.server.guards.record import record_of
from playground.server.guards.stack import guard
from playground.settings import Settings

KEY, OTHER = "sk-first-and-secret", "sk-second-and-secret"
HERE = "http://127.0.0.1:7860"


class Small:
    """The app, and how far its streams have come."""

    def __init__(self, settings: Settings) -> None:
        self.app = FastAPI()
        self.go = asyncio.Event()
        self.began = asyncio.Event()
        self.closed = asyncio.Event()
        for method, path, route in (
            ("POST", "/v1/echo", self.echo),
            ("POST", "/v1/stream", self.stream),
            ("POST", "/v1/bug", self.bug),
            ("GET", "/v1/models/{model}", self.model),
            ("GET", "/health", self.open),
        ):
            self.app.add_api_route(path, route, methods=[method], response_model=None)
        guard(self.app, settings)
        self.app.mount("/", PlainTextResponse("the page"))

    async def echo(self, request: Request) -> dict[str, int]:
        size = len(await request.body())
        record_of(request.scope).tokens("small", 3, 4)
        return {"size": size}

    async def stream(self, request: Request) -> StreamingResponse:
        record_of(request.scope).tokens("small", 1, 2)
        return StreamingResponse(self._parts(), media_type="text/event-stream")

    async def _parts(self) -> AsyncIterator[bytes]:
        try:
            yield b"data: one\n\n"
            self.began.set()
            await self.go.wait()
            yield b"data: two\n\n"
        finally:
            self.closed.set()

    async def bug(self) -> None:
        raise RuntimeError("a bug")

    async def model(self, model: str) -> dict[str, str]:
        return {"id": model}

    async def open(self) -> dict[str, str]:
        return {"status": "ok"}

    def client(self, address: str | None = "127.0.0.1", url: str = HERE, key: str = "") -> httpx.AsyncClient:
        """A client of the app itself, from an address of choice; a bug becomes the answer that a server would give."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(address or "", 50_000))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(transport=transport, base_url=url, headers=headers)


def small(tmp_path: Path, **changes: Any) -> Small:
    """The app under these settings."""
    return Small(Settings(data=tmp_path, **changes))


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The app behind a real server on loopback; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
