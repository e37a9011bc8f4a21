"""Eight clients of llama.cpp's own server: through our API, where it is a remote row, over asking it directly."""

import asyncio
import shutil
import time

from benchmarks.common import Measured, scratch, settings
from benchmarks.serving import VARIANT, Server, free_port, madang, many, served
from playground.settings import Settings
from playground.variants import Catalogue, Remote, add

CLIENTS = 8
TOKENS = 128
NAME = "native"


def run(times: int) -> list[Measured]:
    """Tokens/s of all clients together, from the first request to the last word."""
    home = scratch()
    try:
        chosen = Settings(data=home)
        chosen.models_dir.symlink_to(settings().models_dir)
        return [_measured(chosen, times)]
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _measured(chosen: Settings, times: int) -> Measured:
    engine, ours = free_port(), free_port()
    data = {"MADANG_DATA": str(chosen.data)}
    command = [*madang(engine, VARIANT), "--engine", "llama-server", "--parallel", str(CLIENTS)]
    through, bare = [], []
    with served(command, engine, VARIANT, **data) as native:
        if NAME not in Catalogue.load(chosen).names:
            add(chosen, Remote(name=NAME, url=native.url, model=native.model))
        with served(madang(ours, NAME), ours, NAME, **data) as api:
            for number in range(times):
                through.append(_throughput(api, number))
                bare.append(_throughput(native, number))
    return Measured("API before llama.cpp's server, 8 clients / it bare", through, bare, ">= 0.95", "tokens/s")


def _throughput(server: Server, number: int) -> float:
    start = time.perf_counter()
    replies = asyncio.run(many(server, CLIENTS, TOKENS, first=1000 * (number + 1)))
    wall = time.perf_counter() - start
    if not all(reply.whole for reply in replies):
        raise SystemExit(f"a client lost its stream: {replies}")
    return sum(reply.tokens for reply in replies) / wall
