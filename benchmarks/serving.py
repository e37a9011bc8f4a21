"""What the benchmarks of the API share: servers in processes of their own, and clients that time a streamed answer."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psutil

from benchmarks.common import PROMPT, ROOT

VARIANT = "smollm2:demo:Q4_K_M"
READY_S = 180.0
REPEATABLE: dict[str, Any] = {"temperature": 0.1, "top_p": 0.9, "top_k": 0, "min_p": 0.0, "seed": 7}
"""Said in full, so that every server draws in the same way: llama-cpp-python's would cut to 40 tokens first."""


@dataclass(frozen=True)
class Reply:
    """A streamed answer as its client saw it: seconds from the request. `status` is HTTP's; `whole`: it ended.

    `tokens` is what the server says in its usage, or the number of chunks with text where it says nothing.
    """

    status: int
    whole: bool = False
    tokens: int = 0
    first_s: float = 0.0
    wall_s: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        """After the first token."""
        return (self.tokens - 1) / (self.wall_s - self.first_s) if self.tokens > 1 else 0.0


@dataclass(frozen=True)
class Server:
    """A server under way: its address, which ends in /v1, and its process."""

    url: str
    process: "subprocess.Popen[bytes]"
    model: str

    def memory(self) -> int:
        """Bytes that it and its children hold now, each page counted once where the system tells (PSS)."""
        main = psutil.Process(self.process.pid)
        return sum(_own_bytes(process) for process in [main, *main.children(recursive=True)])


def _own_bytes(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(full, "pss", 0) or full.uss)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(command: Sequence[str], port: int, model: str, **environment: str) -> Iterator[Server]:
    """A server that answers on a loopback port, ready; it ends with the block."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(list(command), cwd=ROOT, env=os.environ | environment, **quiet)  # type: ignore[call-overload]
    server = Server(f"http://127.0.0.1:{port}/v1", process, model)
    try:
        _wait_ready(server)
        yield server
    finally:
        process.terminate()
        process.wait()


def _wait_ready(server: Server) -> None:
    """Until it has answered one question: models load at the first one."""
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise SystemExit(f"{server.process.args!r} ended with {server.process.returncode}")
        try:
            if asyncio.run(many(server, 1, 2))[0].whole:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"{server.process.args!r} was not ready within {READY_S:.0f} s")


def madang(port: int, *models: str) -> list[str]:
    """Our own server."""
    return [sys.executable, str(ROOT / "app.py"), "serve", *models, "--port", str(port)]


def llama_cpp_python(port: int, file: str, threads: int) -> list[str]:
    """llama-cpp-python's own server, with as much context and as many threads as ours has."""
    size = ["--n_ctx", "4096", "--n_threads", str(threads), "--n_threads_batch", str(threads)]
    return [sys.executable, "-m", "llama_cpp.server", "--model", file, "--port", str(port), "--model_alias", "m", *size]


async def chat(client: httpx.AsyncClient, server: Server, prompt: str, tokens: int) -> Reply:
    """Ask once and read the stream to its end; a connection that breaks is an answer that is not whole."""
    body = {"model": server.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
    body |= {"stream": True, "stream_options": {"include_usage": True}} | REPEATABLE
    start, first, chunks, said, whole = time.perf_counter(), 0.0, 0, 0, False
    try:
        async with client.stream("POST", f"{server.url}/chat/completions", json=body) as response:
            if response.status_code != httpx.codes.OK:
                await response.aread()
                return Reply(response.status_code)
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    break
                if not line.startswith("data:"):
                    continue
                part = json.loads(line[5:])
                said = (part.get("usage") or {}).get("completion_tokens", said)
                for choice in part.get("choices", []):
                    if choice["delta"].get("content"):
                        chunks += 1
                        first = first or time.perf_counter()
                    whole = whole or choice.get("finish_reason") is not None
    except (httpx.TransportError, json.JSONDecodeError):
        whole = False
    end = time.perf_counter()
    return Reply(200, whole, said or chunks, (first or end) - start, end - start)


async def many(server: Server, clients: int, tokens: int, gap_s: float = 0.0, first: int = 0) -> list[Reply]:
    """So many clients at once, or one every `gap_s` seconds, each with a question of its own, by number."""

    async def one(number: int) -> Reply:
        await asyncio.sleep(number * gap_s)
        return await chat(client, server, question(first + number), tokens)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits, trust_env=False) as client:
        return await asyncio.gather(*(one(number) for number in range(clients)))


def question(number: int) -> str:
    """A prompt that begins like no other, so that no server has read it before."""
    return f"{number}, {number * 7919 % 997}: {PROMPT}"
