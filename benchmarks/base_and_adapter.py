"""Base and adapter asked together against the base alone: wall time, and the memory of their one worker."""

import time

from benchmarks.common import Measured, ask, open_playground, settings

TOKENS = 48
BASE, ADAPTER = "smollm2", "smollm2:demo"


def run(runs: int) -> list[Measured]:
    """Seconds until all have answered; resident bytes of the worker after its answers. The peer is the base alone."""
    chosen = settings()
    wall: dict[str, list[float]] = {"alone": [], "adapter": [], "both": []}
    with open_playground(chosen) as playground:
        for number in range(runs + 1):
            for kind, names in {"alone": [BASE], "adapter": [ADAPTER], "both": [BASE, ADAPTER]}.items():
                answers = ask(playground, names, TOKENS)
                tokens = [answer.tokens for answer in answers.values()]
                if tokens != [TOKENS] * len(names):
                    raise SystemExit(f"answers of {tokens} tokens do not compare; {TOKENS} were wanted of each")
                if number:
                    wall[kind].append(max(answer.wall_s for answer in answers.values()))
            time.sleep(0.3)
    held = [[_memory(names) for _ in range(2)] for names in ([BASE, ADAPTER], [BASE])]
    return [
        Measured("base + adapter together / base alone, wall", wall["both"], wall["alone"], "<= 1.5", "s"),
        Measured("adapter alone / base alone, wall", wall["adapter"], wall["alone"], "-", "s"),
        Measured("worker of base + adapter / of base alone, memory", held[0], held[1], "<= 1.10", "MB"),
    ]


def _memory(names: list[str]) -> float:
    """Resident megabytes of a fresh worker after it has answered."""
    with open_playground(settings()) as playground:
        ask(playground, names, 16)
        return sum(row.memory.ram for row in playground.pool.loaded()) / 2**20
