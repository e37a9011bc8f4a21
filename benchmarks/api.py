"""Our API against the bare decode loop and against llama-cpp-python's own server, on one GGUF file."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.common import PROMPT, Measured, Peer, source
from benchmarks.serving import VARIANT, Reply, Server, free_port, llama_cpp_python, madang, many, served
from playground.system.hardware import usable_cores

TOKENS = 160
CLIENTS = 8


def run(times: int) -> list[Measured]:
    """One client: tokens/s after the first token, seconds to it; then eight at once: whose stream came to its end."""
    file = source(VARIANT)
    ours, theirs = free_port(), free_port()
    bare = Peer("peer_llama_cpp", file, "bare")
    with (
        served(madang(ours, VARIANT), ours, VARIANT) as server,
        served(llama_cpp_python(theirs, file, usable_cores()), theirs, "m") as peer,
    ):
        alone: dict[str, list[Reply]] = {"ours": [], "peer": []}
        loop: list[float] = []
        turns: list[tuple[list[Any], Callable[[int], Any]]] = [
            (alone["ours"], partial(_alone, server)),
            (alone["peer"], partial(_alone, peer)),
            (loop, lambda number: bare.call({"prompt": PROMPT, "tokens": TOKENS})["tokens_per_s"]),
        ]
        for number in range(times + 1):
            for found, ask in turns:
                value = ask(number)
                if number:  # the first round warms all three up
                    found.append(value)
            turns.append(turns.pop(0))  # none is always the one after the pause
            time.sleep(0.3)
        whole = {name: _whole(one) for name, one in (("ours", server), ("peer", peer))}
    bare.close()
    speeds = {name: [reply.tokens_per_s for reply in replies] for name, replies in alone.items()}
    firsts = {name: [reply.first_s for reply in replies] for name, replies in alone.items()}
    return [
        Measured("API, one client / bare decode loop", speeds["ours"], loop, ">= 0.93", "tokens/s"),
        Measured("API, one client / llama-cpp-python's server", speeds["ours"], speeds["peer"], ">= 1.0", "tokens/s"),
        Measured("API, first token / llama-cpp-python's server", firsts["ours"], firsts["peer"], "+ 0.010 s", "s"),
        Measured("streams that end whole, of 8 / llama-cpp-python's", whole["ours"], whole["peer"], "8", "streams"),
    ]


def _alone(server: Server, number: int) -> Reply:
    return asyncio.run(many(server, 1, TOKENS, first=100 + number))[0]


def _whole(server: Server) -> list[float]:
    replies = asyncio.run(many(server, CLIENTS, 64))
    return [float(sum(reply.whole and reply.tokens > 0 for reply in replies))]
