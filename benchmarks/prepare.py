"""Preparing the embedded models from nothing, against the 60 seconds it may take on two cores."""

import shutil
import time

from benchmarks.common import Measured, scratch
from training.demo.prepare import prepare


def run(runs: int) -> list[Measured]:
    """Seconds from an empty folder to three models; fewer runs than elsewhere, since each takes long."""
    seconds = []
    for _ in range(min(runs, 3)):
        folder = scratch()
        start = time.perf_counter()
        prepare(folder / "models")
        seconds.append(time.perf_counter() - start)
        shutil.rmtree(folder)
    return [Measured("preparing the embedded models / 60 s", seconds, [60.0], "<= 1.0", "s")]
