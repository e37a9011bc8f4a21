"""The three built-in variants at once against the sum of each asked alone."""

import time

from benchmarks.common import Measured, ask, open_playground, settings

TOKENS = 64
NAMES = ["smollm2", "smollm2:demo", "smollm2:demo:Q4_K_M"]


def run(runs: int) -> list[Measured]:
    """Seconds until the last has answered, all models loaded."""
    together, alone = [], []
    with open_playground(settings()) as playground:
        for number in range(runs + 1):
            once = max(answer.wall_s for answer in ask(playground, NAMES, TOKENS).values())
            each = sum(ask(playground, [name], TOKENS)[name].wall_s for name in NAMES)
            if number:
                together.append(once)
                alone.append(each)
            time.sleep(0.3)
    return [Measured("three panes at once / sum of each alone, wall", together, alone, "<= 0.75", "s")]
