"""Chat on an NVIDIA card, as its users see it, beside `generate`: many rows, adapters, a long prompt.

The model has random weights in the shape of Llama 3.2 1B, bf16, made at the start; MADANG_BENCH_SHAPE names another.
"""

import os
import platform
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.common import Measured, Peer, open_playground, scratch
from playground.compare import Playground, Question
from playground.events import Delta, Failed, Finished
from playground.messages import Message
from playground.presets import Sampling, sampling
from playground.settings import Settings

PROMPT, NEW, LONG = 128, 128, 2000
ROWS = [1, 8, 32]
GOALS = {1: ">= 4.8", 8: ">= 3.5", 32: "-"}
WORDS = "the courtyard of a house in Seoul where neighbours meet "


@dataclass
class Bench:
    """The playground, the peer and the runs of both."""

    playground: Playground
    peer: Peer
    runs: int
    numbers: int = 0

    def times(self, ours: Any, theirs: dict[str, Any] | None) -> tuple[list[float], list[float]]:
        """Return seconds of interleaved runs, the first of each left out: kernels are loaded there."""
        mine, peers = [], []
        for number in range(self.runs + 1):
            took = ours()
            other = self.peer.call(theirs)["wall_s"] if theirs else 1.0
            if number:
                mine.append(took)
                peers.append(other)
        return mine, peers

    def wall(self, names: list[str], rows: int, chosen: Sampling, prompt: int = PROMPT) -> float:
        """Return the seconds until `rows` questions, asked at once, have their answers."""
        return max(end for _, end in self._all(names, rows, chosen, prompt))

    def first(self, prompt: int) -> float:
        """Return the seconds to the first word of an answer."""
        return self._all(["base"], 1, sampling("balanced", seed=1, max_new_tokens=8), prompt)[0][0]

    def _all(self, names: list[str], rows: int, chosen: Sampling, prompt: int) -> list[tuple[float, float]]:
        """Return first word and end of every answer; each of the rows is one question to all the names."""
        times: list[tuple[float, float]] = []
        begin = time.perf_counter()
        threads = [threading.Thread(target=self._one, args=(names, chosen, prompt, begin, times)) for _ in range(rows)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(times) < rows * len(names):
            raise SystemExit("an answer is missing")
        return times

    def _one(
        self, names: list[str], chosen: Sampling, prompt: int, begin: float, times: list[tuple[float, float]]
    ) -> None:
        self.numbers += 1
        text = (f"{self.numbers} " + WORDS * (prompt // len(WORDS) + 1))[: prompt - 8]
        message = (Message(role="user", content=text),)
        first: dict[str, float] = {}
        for event in self.playground.ask([Question(variant=name, messages=message, sampling=chosen) for name in names]):
            now = time.perf_counter() - begin
            if isinstance(event, Delta):
                first.setdefault(event.variant, now)
            elif isinstance(event, Failed):
                raise SystemExit(f"{event.message} {event.hint}")
            elif isinstance(event, Finished) and event.stats.tokens == chosen.max_new_tokens:
                times.append((first.get(event.variant, now), now))


def run(runs: int) -> Iterator[Measured]:
    """Tokens/s of whole answers, the prompt's reading in them."""
    return measured(runs, os.environ.get("MADANG_BENCH_SHAPE", "1b"))


def measured(runs: int, shape: str, nf4: bool = False) -> Iterator[Measured]:
    """Make a model of a shape, and measure chat and `generate` in turn."""
    from benchmarks.card_models import make, make_adapter

    _say_where()
    folder = scratch()
    base = make(shape, folder / "base")
    adapter = make_adapter(base, folder / "adapter")
    chosen = Settings(data=folder / "data")
    chosen.catalogue.parent.mkdir(parents=True, exist_ok=True)
    chosen.catalogue.write_text(_rows(base, adapter, nf4))
    with open_playground(chosen) as playground:
        peer = Peer("peer_card", str(base), *(["nf4"] if nf4 else []))
        try:
            yield from _table(Bench(playground, peer, runs), f"{shape}{' nf4' if nf4 else ''}", nf4)
        finally:
            peer.close()


def _rows(base: Path, adapter: Path, nf4: bool) -> str:
    return (
        f'[[variant]]\nname = "base"\nkind = "base"\nsource = "{base}"\nload_in_4bit = {str(nf4).lower()}\n'
        f'[[variant]]\nname = "adapter"\nkind = "adapter"\nbase = "base"\nsource = "{adapter}"\n'
    )


def _table(bench: Bench, shape: str, nf4: bool) -> Iterator[Measured]:
    greedy = sampling("factual", temperature=0.0, repetition_penalty=1.0, seed=1, max_new_tokens=NEW)
    balanced = sampling("balanced", seed=1, max_new_tokens=NEW)
    goals = {1: ">= 2.0"} if nf4 else GOALS
    drawn = {}
    for rows in ROWS:
        yield _beside(bench, f"{shape}, batch {rows}, greedy / generate", rows, greedy, "-")
        drawn[rows] = _beside(
            bench, f"{shape}, batch {rows}, balanced / generate", rows, balanced, goals.get(rows, "-")
        )
        yield drawn[rows]
    yield Measured(f"{shape}, balanced: batch 32 / 8", drawn[32].ours, drawn[8].ours, ">= 2.5", "tokens/s")
    yield from _more(bench, shape, balanced)
    if not nf4 and torch.cuda.is_available():
        for rows in ROWS[:2]:  # compiled at the first call: some 30 s, once for each number of rows
            what = f"{shape}, batch {rows}, balanced / generate, compiled"
            yield _beside(bench, what, rows, balanced, "-", static=True)


def _beside(bench: Bench, what: str, rows: int, chosen: Sampling, goal: str, static: bool = False) -> Measured:
    """Tokens/s of so many answers asked at once, ours and those of one batch."""
    call = {"rows": rows, "prompt": PROMPT, "new": NEW, "static": static}
    ours, theirs = bench.times(lambda: bench.wall(["base"], rows, chosen), call)
    speeds = [[rows * NEW / took for took in side] for side in (ours, theirs)]
    return Measured(what, speeds[0], speeds[1], goal, "tokens/s")


def _more(bench: Bench, shape: str, chosen: Sampling) -> Iterator[Measured]:
    """Seconds with adapters, and to the first word of a long prompt."""
    both, _ = bench.times(lambda: bench.wall(["base", "adapter"], 1, chosen), None)
    alone, _ = bench.times(lambda: bench.wall(["base"], 1, chosen), None)
    adapter, _ = bench.times(lambda: bench.wall(["adapter"], 1, chosen), None)
    yield Measured(f"{shape}, base + adapter / base alone, wall", both, alone, "<= 1.25", "s")
    yield Measured(f"{shape}, adapter / base alone, wall", adapter, alone, "-", "s")
    first, bare = bench.times(lambda: bench.first(LONG), {"rows": 1, "prompt": LONG, "new": 0})
    yield Measured(f"{shape}, first word of {LONG} tokens / bare prefill", first, bare, "<= 1.2", "s")


def _say_where() -> None:
    """Print card, driver and versions."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    on_card = torch.cuda.is_available()
    card = subprocess.run(query, capture_output=True, text=True).stdout.strip() if on_card else platform.machine()
    print(f"{card}, torch {torch.__version__}, transformers {transformers.__version__}\n", flush=True)
