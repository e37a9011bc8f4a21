"""32 clients that chat for five minutes: no error but 429, no leak, nobody left behind."""

import asyncio
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from benchmarks.common import Measured, settings
from benchmarks.serving import VARIANT, Server, chat, free_port, madang, question, served

CLIENTS = 32
MINUTE_S = 60.0
WHOLE_S = 5 * MINUTE_S
TOKENS = 32
TOO_MANY = 429


@dataclass
class Seen:
    """What the clients saw: completed requests of each, the faults by status, the server's memory over time."""

    done: Counter[int] = field(default_factory=Counter)
    refused: int = 0
    faults: Counter[int] = field(default_factory=Counter)
    memory: list[tuple[float, int]] = field(default_factory=list)


def run(times: int) -> list[Measured]:
    """Errors that are no 429; memory at the end over after the first minute; the slowest client over the mean."""
    settings()
    port = free_port()
    with served(madang(port, VARIANT), port, VARIANT) as server:
        seen = asyncio.run(_soak(server))
    late = [float(size) / 2**20 for at, size in seen.memory if at > WHOLE_S - 10]
    early = [float(size) / 2**20 for at, size in seen.memory if MINUTE_S <= at < MINUTE_S + 10]
    counts = [float(seen.done[number]) for number in range(CLIENTS)]
    return [
        Measured("32 clients: errors / requests", [float(seen.faults.total())], [sum(counts)], "0", "requests"),
        Measured("32 clients: answers of 429 / requests", [float(seen.refused)], [sum(counts)], "any", "requests"),
        Measured("32 clients: memory at the end / after a minute", late, early, "<= 1.05", "MiB"),
        Measured("32 clients: the slowest / mean", [min(counts)], [statistics.mean(counts)], ">= 0.5", "requests"),
    ]


async def _soak(server: Server) -> Seen:
    seen, start = Seen(), time.monotonic()

    async def client(number: int) -> None:
        asked = 0
        async with httpx.AsyncClient(timeout=600, trust_env=False) as http:
            while time.monotonic() - start < WHOLE_S:
                asked += 1
                reply = await chat(http, server, question(1000 * number + asked), TOKENS)
                if reply.status == TOO_MANY:
                    seen.refused += 1
                    await asyncio.sleep(0.5)
                elif reply.whole:
                    seen.done[number] += 1
                else:
                    seen.faults[reply.status] += 1

    async def watch() -> None:
        while time.monotonic() - start < WHOLE_S:
            await asyncio.sleep(2)
            seen.memory.append((time.monotonic() - start, await asyncio.to_thread(server.memory)))

    await asyncio.gather(watch(), *(client(number) for number in range(CLIENTS)))
    return seen
