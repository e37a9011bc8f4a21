"""Eight clients of llama.cpp's own server: as Madang starts it over started by hand; and through our API before it."""

import asyncio
import shutil
import sys
import time

from benchmarks.common import Measured, scratch, settings
from benchmarks.serving import VARIANT, Server, free_port, madang, many, served
from playground.catalogue.variants import Catalogue, Remote, add
from playground.settings import Settings

CLIENTS = 8
TOKENS = 128
NAME = "native"


def run(times: int) -> list[Measured]:
    """Tokens/s of all clients together, from the first request to the last word."""
    home = scratch()
    try:
        chosen = Settings(data=home)
        chosen.models_dir.symlink_to(settings().models_dir)
        return _measured(chosen, times)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _measured(chosen: Settings, times: int) -> list[Measured]:
    engine, ours, hand = free_port(), free_port(), free_port()
    data = {"MADANG_DATA": str(chosen.data)}
    command = [*madang(engine, VARIANT), "--engine", "llama-server", "--parallel", str(CLIENTS)]
    file = Catalogue.load(chosen).get(VARIANT)
    by_hand = [
        sys.executable,
        "-m",
        "benchmarks.peer_llama_server",
        getattr(file, "source", ""),
        str(hand),
        str(CLIENTS),
    ]
    through, started, bare = [], [], []
    with served(command, engine, VARIANT, **data) as native, served(by_hand, hand, "any") as peer:
        if NAME not in Catalogue.load(chosen).names:
            add(chosen, Remote(name=NAME, url=native.url, model=native.model))
        with served(madang(ours, NAME), ours, NAME, **data) as api:
            for number in range(times):
                through.append(_throughput(api, number))
                started.append(_throughput(native, number))
                bare.append(_throughput(peer, number))
    return [
        Measured("llama-server as Madang starts it, 8 clients / by hand", started, bare, ">= 0.95", "tokens/s"),
        Measured("our API before llama-server, 8 clients / by hand", through, bare, "any", "tokens/s"),
    ]


def _throughput(server: Server, number: int) -> float:
    start = time.perf_counter()
    replies = asyncio.run(many(server, CLIENTS, TOKENS, first=1000 * (number + 1)))
    wall = time.perf_counter() - start
    if not all(reply.whole for reply in replies):
        raise SystemExit(f"a client lost its stream: {replies}")
    return sum(reply.tokens for reply in replies) / wall
