"""Eight clients of one transformers model, arriving one after another, over one client alone: answers share a batch."""

import asyncio
import time

from benchmarks.common import Measured, settings
from benchmarks.serving import Reply, Server, free_port, madang, many, served

VARIANT = "smollm2:demo"
CLIENTS = 8
TOKENS = 128
GAP_S = 0.25


def run(times: int) -> list[Measured]:
    """Tokens/s of all clients together, from the first request to the last word, over one client's."""
    settings()
    port = free_port()
    alone, together = [], []
    with served(madang(port, VARIANT), port, VARIANT) as server:
        for number in range(times):
            alone.append(_throughput(server, 1, number))
            together.append(_throughput(server, CLIENTS, number))
    goal = ">= 3.5"
    return [Measured("API, transformers: 8 clients one after another / one", together, alone, goal, "tokens/s")]


def _throughput(server: Server, clients: int, number: int) -> float:
    start = time.perf_counter()
    replies: list[Reply] = asyncio.run(many(server, clients, TOKENS, GAP_S, first=1000 * (number + 1)))
    wall = time.perf_counter() - start
    if not all(reply.whole for reply in replies):
        raise SystemExit(f"a client lost its stream: {replies}")
    return sum(reply.tokens for reply in replies) / wall
