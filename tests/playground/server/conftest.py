"""The API behind a real server on loopback, over a catalogue of fakes; OpenAI's own clients to ask it with."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import openai
import pytest
import uvicorn
from fastapi import FastAPI

from playground.compare import Playground
from playground.events import Event
from playground.protocol import ModelSpec
from playground.server.app import create
from playground.settings import Settings
from playground.workers.pool import Notify, WorkerPool
from playground.workers.tickets import Rows, Sink

CATALOGUE = """
[[variant]]
name = "base"
kind = "base"
source = "fake:base"
context = 4096

[[variant]]
name = "one"
kind = "adapter"
base = "base"
source = "fake:one"

[[variant]]
name = "base:two"
kind = "adapter"
base = "base"
source = "fake:two"

[[variant]]
name = "other"
kind = "gguf"
source = "fake:other"
context = 256

[[variant]]
name = "thinker"
kind = "base"
source = "fake:thinker"

[[variant]]
name = "opener"
kind = "base"
source = "fake:opener"

[[variant]]
name = "broken"
kind = "base"
source = "fake:broken"

[[variant]]
name = "aborts"
kind = "base"
source = "fake:aborts"

[[variant]]
name = "slow"
kind = "base"
source = "fake:slow"

[[variant]]
name = "huge"
kind = "base"
source = "fake:huge"
"""


@dataclass
class HeardPool(WorkerPool):
    """A pool that keeps every event of every row."""

    heard: list[Event] = field(default_factory=list)

    def submit(self, spec: ModelSpec, rows: Rows, notify: Notify = lambda step, detail: None) -> None:
        for ticket, _ in rows:
            ticket.sink = partial(self._hear, ticket.sink)
        super().submit(spec, rows, notify)

    def _hear(self, sink: Sink, event: Event) -> None:
        self.heard.append(event)
        sink(event)


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The app behind a real server; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def until(done: Callable[[], bool]) -> None:
    """Wait for something that a thread or a process does."""
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def api_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    data: Path = tmp_path_factory.mktemp("api")
    (data / "variants.toml").write_text(CATALOGUE, encoding="utf-8")
    return Settings(data=data, api_max_tokens=2000, api_max_prompt_tokens=3000)


@pytest.fixture(scope="session")
def pool(api_settings: Settings) -> Iterator[HeardPool]:
    pool = HeardPool(api_settings)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def api(api_settings: Settings, pool: HeardPool) -> FastAPI:
    return create(Playground(api_settings, pool=pool))


@pytest.fixture(scope="session")
def address(api: FastAPI) -> Iterator[str]:
    with serving(api) as address:
        yield address


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def async_client(address: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=30)
