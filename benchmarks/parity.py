"""How long parity takes for four GGUF levels of the embedded model together, from nothing loaded to the last verdict.

No peer compares a build with its source, so the goal is seconds. The builds are made beforehand and not timed.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Measured, scratch, settings
from playground.catalogue.variants import Gguf
from training.export import gguf
from training.export.merge import merge
from training.export.parity import Verdict, session

LEVELS = ("f16", "q8_0", "q5_k_m", "q4_k_m")
SOURCE = "smollm2:demo"
GOAL_S = 60


def builds(models: Path, folder: Path) -> dict[str, Gguf]:
    """The embedded model's exports at every level."""
    merge(models / "smollm2", models / "smollm2-demo", folder / "merged", "float16")
    files = {level: folder / f"{level}.gguf" for level in LEVELS}
    gguf.convert(folder / "merged", files["f16"])
    for level in LEVELS[1:]:
        gguf.quantize(files["f16"], files[level], level)
    return {level: Gguf(name=f"built-{level}", source=str(file)) for level, file in files.items()}


def verdicts(made: dict[str, Gguf]) -> dict[str, Verdict]:
    """All levels in one session: F16 against the source, the others against F16."""
    found = {}
    with session(settings(), SOURCE) as opened:
        for level, variant in made.items():
            found[level] = opened.check(variant, "gguf", level, None if level == "f16" else made["f16"])
    return found


def run(runs: int) -> Iterator[Measured]:
    """One line: seconds for all four, beside the goal."""
    made, took = builds(settings().models_dir, scratch()), []
    for _ in range(runs):
        began = time.perf_counter()
        for level, verdict in verdicts(made).items():
            steps = {name: row["seconds"] for name, row in verdict.numbers.items()}
            print(f"{level}: {verdict.verdict} {steps}", file=sys.stderr)
            print("  " + "\n  ".join(verdict.lines), file=sys.stderr)
        took.append(time.perf_counter() - began)
    yield Measured("parity of f16, q8_0, q5_k_m and q4_k_m", took, [GOAL_S], "1.0 or less", "s")


if __name__ == "__main__":
    for measured in run(1):
        print(measured.line())
