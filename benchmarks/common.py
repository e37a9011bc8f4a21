"""What the benchmarks share: a measured ratio with its spread, peers in processes of their own, the demo's folder."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.catalogue.variants import Catalogue, Stored
from playground.compare import Playground, Question
from playground.events import Delta, Failed, Finished
from playground.messages import Message
from playground.presets import sampling
from playground.settings import Settings
from training.cli.demo import ensure

ROOT = Path(__file__).resolve().parent.parent
RUNS = 5
ANSWERS = "MADANG_BENCH_ANSWERS"
"""The environment variable that tells a peer its pipe."""
PROMPT = "Write a long story about a courtyard in Seoul where the neighbours meet."


@dataclass(frozen=True)
class Measured:
    """Medians of interleaved runs of ours and a peer's, the same quantity in the same unit."""

    what: str
    ours: list[float]
    peer: list[float]
    goal: str
    unit: str

    @property
    def ratio(self) -> float:
        """Median of ours over median of the peer's."""
        return statistics.median(self.ours) / statistics.median(self.peer)

    def line(self) -> str:
        """One line for people."""
        ours, peer = _middle(self.ours), _middle(self.peer)
        return f"{self.what:<58} {ours:>22} {peer:>22} {self.unit:<9} ratio {self.ratio:5.2f}   goal {self.goal}"


def _middle(values: list[float]) -> str:
    digits = 1 if statistics.median(values) >= 10 else 3
    spread = f"{min(values):.{digits}f}-{max(values):.{digits}f}"
    return f"{statistics.median(values):.{digits}f} ({spread})"


def settings() -> Settings:
    """Settings whose models folder holds the embedded models."""
    chosen = Settings()
    ensure(chosen)
    return chosen


def source(name: str, chosen: Settings | None = None) -> str:
    """Where the files of a variant lie."""
    variant = Catalogue.load(chosen or settings()).get(name)
    assert isinstance(variant, Stored)
    return variant.source


@dataclass(frozen=True)
class Answer:
    """One variant's answer, timed from outside: seconds from the question to its first text and to its end."""

    text: str
    tokens: int
    first_s: float
    wall_s: float


def ask(
    playground: Playground, names: list[str], tokens: int, preset: str = "factual", prompt: str = PROMPT
) -> dict[str, Answer]:
    """Ask all variants at once and time each, as a page would see them."""
    message = (Message(role="user", content=prompt),)
    chosen = sampling(preset, seed=7, max_new_tokens=tokens)
    first: dict[str, float] = {}
    start, answers = time.perf_counter(), {}
    for event in playground.ask([Question(variant=name, messages=message, sampling=chosen) for name in names]):
        now = time.perf_counter() - start
        if isinstance(event, Delta):
            first.setdefault(event.variant, now)
        elif isinstance(event, Finished):
            answers[event.variant] = Answer(event.text, event.stats.tokens, first.get(event.variant, now), now)
        elif isinstance(event, Failed):
            raise SystemExit(f"{event.variant} failed: {event.message} {event.hint}")
    return answers


class Peer:
    """A program that answers a line of JSON for every line it is sent, in a process of its own."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        read, write = os.pipe()  # libraries greet on stdout: answers have a pipe of their own
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            pass_fds=[write],
            env=os.environ | {ANSWERS: str(write)},
        )
        os.close(write)
        self._answers = os.fdopen(read)
        self.call({})

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._answers.readline()
        if not line:
            raise SystemExit(f"the peer {self._process.args!r} ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()
        self._answers.close()


def serve_peer(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The other side of Peer: answer each line until stdin closes; an empty request asks whether it is ready."""
    out = os.fdopen(int(os.environ[ANSWERS]), "w")
    for line in sys.stdin:
        request = json.loads(line)
        out.write(json.dumps(handle(request) if request else {}) + "\n")
        out.flush()


@contextmanager
def open_playground(chosen: Settings) -> Iterator[Playground]:
    """A playground whose workers end with the block."""
    playground = Playground(chosen)
    try:
        yield playground
    finally:
        playground.close()


@contextmanager
def peak_memory(pids: Callable[[], list[int]]) -> Iterator[list[int]]:
    """Watch the summed resident bytes of some processes; the list's only item is the peak."""
    import psutil

    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            total = 0
            for pid in pids():
                try:
                    total += psutil.Process(pid).memory_info().rss
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def scratch() -> Path:
    """A folder for a benchmark's own files; the operating system clears it."""
    return Path(tempfile.mkdtemp(prefix="madang-bench-"))
