"""kill -9 at random moments for ten minutes: what was told as done is there, whole, and nothing else has its name.

Seven programs take turns on one data folder, as many at once as there are cores: two that change the catalogue, the
page with its API and workers, a run, an export, an evaluation, an engine with its keeper. A program's time runs from
when it works, not from its start, or a busy machine kills nothing but imports. MADANG_KILLS_SEED says which process
dies when; MADANG_KILLS_S for how long; MADANG_KILLS_LANES which programs.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue

import httpx
import psutil

from benchmarks.common import ROOT, Measured, settings
from benchmarks.serving import free_port
from eval.results import load
from playground.catalogue import files, gguf_files
from playground.catalogue.variants import Catalogue, Gguf
from playground.settings import Settings
from training.export import exports
from training.run import runs

CHANGES = """
import sys
from pathlib import Path
from playground.catalogue import variants
from playground.settings import Settings
settings, name = Settings(data=Path(sys.argv[1])), sys.argv[2]
for number in range(int(sys.argv[3]), 10**9):
    variants.add(settings, variants.Base(name=f"{name}-{number}", source="fake:x"))
    print("+", number, flush=True)
    if number % 3:
        variants.remove(settings, f"{name}-{number}")
        print("-", number, flush=True)
"""
KOBEST = ROOT / "tests" / "eval" / "data" / "kobest"
GGUF = "smollm2:demo:Q4_K_M"


@dataclass
class Soak:
    """The data folder, what was told as done, and what turned out otherwise."""

    at: Settings
    until: float
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.until

    def start(self, words: Sequence[str], out: Path) -> subprocess.Popen[bytes]:
        """Start a program of ours, its output going into a file."""
        with out.open("ab") as log:
            command = [sys.executable, *words]
            environment = os.environ | {"MADANG_EVAL_PIECE_TOKENS": "1", "MADANG_DATA": str(self.at.data)}
            return subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def kill_one(
        self, lane: str, process: subprocess.Popen[bytes], longest_s: float, works: Callable[[], bool] = lambda: True
    ) -> int | None:
        """Kill one of a program's processes some time after it `works`, unless it ends before; return its code then.

        The kind that died least is chosen. Where a child was killed, the program may go on: it is given as long again,
        and then killed itself.
        """
        while process.poll() is None and not self.over and not works():
            time.sleep(0.2)
        for whole in (False, True):
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(max(0.1, min(self.chance.uniform(0, longest_s), self.until - time.monotonic())))
                self.check(lane, whole or code == 0, f"it ended with {code}, and nobody had killed it")
                return code
            with suppress(psutil.Error):
                root = psutil.Process(process.pid)
                family = {f"{lane}: {_called(one)}": one for one in (root, *root.children(recursive=True))}
                kind = f"{lane}: {_called(root)}" if whole else min(family, key=lambda one: self.kills[one])
                family[kind].send_signal(signal.SIGKILL)
                self.kills[kind] += not self.over
        process.wait()
        return None

    def check(self, lane: str, sound: bool, what: str) -> None:
        """Count what is as it should be, and write down what is not."""
        if sound:
            self.done[lane] += 1
        else:
            self.faults.append(f"{lane}: {what}")


def _called(process: psutil.Process) -> str:
    words = process.cmdline()
    return words[words.index("-m") + 1] if "-m" in words else Path(next(iter(words[1:2]), "?")).name


def changing(soak: Soak, name: str) -> Iterator[None]:
    """Add and remove rows; whatever was told is so, whoever was killed and whoever wrote beside it."""
    told, number, unsure = soak.at.data / f"told-{name}.txt", 0, set[int]()
    while not soak.over:
        before = told.stat().st_size if told.exists() else 0
        process = soak.start(["-c", CHANGES, str(soak.at.data), name, str(number)], told)
        soak.kill_one("catalogue", process, 5, lambda: told.stat().st_size > before)  # noqa: B023
        rows = [line.split() for line in told.read_text().splitlines() if line[:1] in "+-"]
        last = {int(number): sign for sign, number in rows}
        names = set(Catalogue.load(soak.at).names)
        for one, sign in last.items():
            if sign == "+" and one == max(last) and one % 3:
                unsure.add(one)  # its removal may have been done, and not told
            elif one not in unsure:
                soak.check("rows", (sign == "+") == (f"{name}-{one}" in names), f"{name}-{one} is {sign}")
        number = max(last, default=-1) + 1
        if f"{name}-{number}" in names:
            number += 1  # it was added, and nobody was told
        yield


def asking(soak: Soak) -> Iterator[None]:
    """Ask the API while the page or one of its workers dies: the next page answers."""
    while not soak.over:
        port = free_port()
        process = soak.start(["app.py", "--no-open", "--port", str(port)], soak.at.data / "page.txt")
        clients = [threading.Thread(target=_client, args=(soak, process, port), daemon=True) for _ in range(2)]
        for client in clients:
            client.start()
        before = soak.done["answers"]
        soak.kill_one("page", process, 15, lambda: soak.done["answers"] > before)  # noqa: B023
        for client in clients:
            client.join()
        yield


def _client(soak: Soak, process: subprocess.Popen[bytes], port: int) -> None:
    body = {"model": GGUF, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
    while process.poll() is None:
        try:
            answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=120, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.5)
            continue
        soak.check("answers", answer.status_code == 200 or "error" in answer.json(), answer.text[:300])


def training(soak: Soak) -> Iterator[None]:
    """Train, and go on with `--resume`: whole checkpoints stay, and the run ends."""
    sets = [word for pair in ("max_steps=20", "save_steps=2", "eval_steps=2") for word in ("--set", f"trainer.{pair}")]
    while not soak.over:
        words, reached = ["app.py", "train", "sft", *sets], 0
        while not soak.over:
            known = {run.name for run in runs.listed(soak.at)}
            before = _written(soak.at.data / "runs", "metrics.jsonl")
            process = soak.start(words, soak.at.data / "train.txt")
            works = lambda: _written(soak.at.data / "runs", "metrics.jsonl") > before  # noqa: B023, E731
            code = soak.kill_one("train", process, 30, works)
            yield
            run = next(iter(runs.listed(soak.at)), None)
            if run is None or (words[2] == "sft" and run.name in known):
                continue
            kept = max((runs.step_of(path) for path in run.whole_checkpoints()), default=0)
            for path in run.whole_checkpoints():
                files.safetensors_header(path / "adapter_model.safetensors")
            soak.check("checkpoints", kept >= reached, f"{run.name} is back at {kept} after {reached}")
            words, reached = ["app.py", "train", "--resume", run.name], kept
            if code == 0:
                soak.check("runs", run.state().status == "done", f"{run.name} is {run.state().status}")
                break


def exporting(soak: Soak) -> Iterator[None]:
    """Export over and over: what has its final name is whole, and what was told as made has its row."""
    words = ["app.py", "export", "smollm2:demo", "--to", "gguf:q8_0", "--no-parity", "--out"]
    number = 0
    while not soak.over:
        where = soak.at.data / "exports" / f"e{number}"
        process = soak.start([*words, str(where)], soak.at.data / "export.txt")
        code = soak.kill_one("export", process, 20, lambda: _has(process, "training.export.process"))  # noqa: B023
        for made in where.glob("*.gguf"):
            gguf_files.check(made)
            soak.check("artefacts", True, "")
        if code == 0:
            rows = [row.path for row in Catalogue.load(soak.at) if isinstance(row, Gguf)]
            state = exports.Export(where).state()
            soak.check("exports", state.status == "done", f"{where} is {state.status}")
            soak.check("exports", any(path.is_relative_to(where.resolve()) for path in rows), f"{where} has no row")
            number += 1
        yield


def evaluating(soak: Soak) -> Iterator[None]:
    """Score over and over: each result that is there can be read with its samples, and none goes away."""
    out, before = soak.at.data / "results", 0
    out.mkdir()
    words = ["app.py", "eval", "kobest", "-v", "slow", "--tasks", "copa", "--shots", "0", "--data", str(KOBEST)]
    while not soak.over:
        process = soak.start([*words, "--out", str(out)], soak.at.data / "eval.txt")
        soak.kill_one("eval", process, 20, lambda: _has(process, "playground.backends.program"))  # noqa: B023
        found = list(out.rglob("results_*.json"))
        for path in found:
            date = path.stem.removeprefix("results_")
            json.loads(path.read_text())
            samples = list(path.parent.glob(f"samples_*_{date}.jsonl"))
            whole = samples and all(json.loads(line) for one in samples for line in one.read_text().splitlines())
            soak.check("results", bool(whole), f"{path} lacks its samples")
        soak.check(
            "results", len(found) >= before and not (found and load(out).faults), f"{len(found)} results after {before}"
        )
        before = len(found)
        yield


def serving(soak: Soak) -> Iterator[None]:
    """Start llama.cpp's server: when a program or its keeper dies, the engine goes, and its row with the next look."""
    while not soak.over:
        port = free_port()
        words = ["app.py", "serve", GGUF, "--engine", "llama-server", "--port", str(port)]
        process = soak.start(words, soak.at.data / "engine.txt")
        family: list[psutil.Process] = []
        watch = threading.Thread(target=_family, args=(process, family), daemon=True)
        watch.start()
        soak.kill_one("engine", process, 10, lambda: _answers(port))  # noqa: B023
        watch.join()
        _, alive = psutil.wait_procs(family, timeout=60)
        soak.check("engines", not alive, f"{[one.pid for one in alive]} outlived {process.pid}")
        yield


def _written(folder: Path, name: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"*/{name}"))


def _has(process: subprocess.Popen[bytes], module: str) -> bool:
    with suppress(psutil.Error):
        return module in map(_called, psutil.Process(process.pid).children(recursive=True))
    return False


def _answers(port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
    return False


def _family(process: subprocess.Popen[bytes], family: list[psutil.Process]) -> None:
    while process.poll() is None:
        with suppress(psutil.Error):
            family += [one for one in psutil.Process(process.pid).children(recursive=True) if one not in family]
        time.sleep(0.2)


LANES: dict[str, Callable[[Soak], Iterator[None]]] = {
    "catalogue a": lambda soak: changing(soak, "a"),
    "catalogue b": lambda soak: changing(soak, "b"),
    "page": asking,
    "train": training,
    "export": exporting,
    "eval": evaluating,
    "engine": serving,
}


def soak(seconds: float, seed: int) -> Soak:
    """Work and kill for so long in a data folder of its own; return what was seen."""
    shared = settings().models_dir
    with tempfile.TemporaryDirectory(prefix="madang-kills-") as folder:
        at = Settings(data=Path(folder))
        at.models_dir.symlink_to(shared, target_is_directory=True)
        at.catalogue.write_text('[[variant]]\nname = "slow"\nkind = "base"\nsource = "fake:slow"\n', encoding="utf-8")
        seen = Soak(at, time.monotonic() + seconds, random.Random(seed))

        turns: Queue[tuple[str, Iterator[None]]] = Queue()
        for name in os.environ.get("MADANG_KILLS_LANES", ",".join(LANES)).split(","):
            turns.put((name, LANES[name](seen)))

        def turn() -> None:
            with suppress(Empty):
                while not seen.over:
                    name, lane = turns.get_nowait()
                    try:
                        next(lane, None)
                        turns.put((name, lane))
                    except Exception as error:  # noqa: BLE001 - a lane that ends so is a fault, and the others go on
                        seen.faults.append(f"{name}: {type(error).__name__}: {error}")

        threads = [threading.Thread(target=turn) for _ in range(max(2, os.cpu_count() or 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return seen


def run(times: int) -> list[Measured]:
    """Faults, of what was looked at, after so many kills; whatever `times` says, once."""
    seconds = float(os.environ.get("MADANG_KILLS_S", "600"))
    seen = soak(seconds, int(os.environ.get("MADANG_KILLS_SEED", "1")))
    for line in (*seen.faults, dict(seen.kills), dict(seen.done)):
        sys.stderr.write(f"{line}\n")
    kills, looks = [float(seen.kills.total())], [float(seen.done.total())]
    return [
        Measured("kill -9 everywhere: faults / things looked at", [float(len(seen.faults))], looks, "0", ""),
        Measured("kill -9 everywhere: kills / kinds of process", kills, [float(len(seen.kills))], "any", ""),
    ]
