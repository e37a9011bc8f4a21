"""Runs the trainer as a process, watches it, and goes down the ladder when memory runs out. Imports no engine.

The trainer can die in any way, by the kernel's hand, too: what it did is in the run's folder, and the next try goes on
from the last whole checkpoint.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from playground.errors import MadangError, SetupError
from playground.system import hardware
from training.recipe import Recipe
from training.run.runs import Run
from training.trainer import ladder
from training.trainer.process import SUPERVISOR

POLL_S = 0.3
TAIL = 12
OOM_KILLS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
ORDER = ("out_of_memory", "not_finite", "error", "stopped", "done")
"""Of several processes' outcomes the first of these counts."""
Watcher = Callable[[], bool]
"""Called now and then while it trains; True asks the run to stop."""


def train(run: Run, watch: Watcher = lambda: False, threads: int | None = None) -> str:
    """Train a prepared run to its end; `done` or `stopped`. Raises the trainer's own error, or what it died of."""
    recipe = run.recipe()
    run.plan()  # a broken one is said now, not after a trainer has loaded its engine
    run.stop_file.unlink(missing_ok=True)
    while True:
        for name in run.forget_broken_checkpoints():
            run.happened("broken", f"{name} was half written and is removed.")
        outcome = _attempt(run, recipe, watch, threads)
        status = outcome["status"]
        if status in ("done", "stopped"):
            run.tell(status=status, step=outcome["step"], ended=time.time(), message="", hint="")
            return str(status)
        if status == "out_of_memory" and _step_down(run, recipe, outcome):
            continue
        raise _error(run, recipe, outcome)


def _attempt(run: Run, recipe: Recipe, watch: Watcher, threads: int | None) -> dict[str, Any]:
    for old in run.folder.glob("outcome-*.json"):
        old.unlink()
    killed_before = _oom_kills()
    with (run.folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command(run, recipe),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(recipe, threads),
            cwd=Path(__file__).resolve().parents[2],
            start_new_session=True,  # Ctrl-C is ours: the trainer is asked through a file
        )
        try:
            while process.poll() is None:
                if watch():
                    run.stop_file.touch()
                time.sleep(POLL_S)
        finally:
            _end(process)
    watch()
    found = [json.loads(path.read_text(encoding="utf-8")) for path in run.folder.glob("outcome-*.json")]
    if found:
        return min(found, key=lambda outcome: ORDER.index(outcome["status"]))
    if _oom_kills() > killed_before:
        return {"status": "out_of_memory", "message": "the system ended the trainer for want of RAM"}
    return {"status": "died", "code": process.returncode}


def command(run: Run, recipe: Recipe) -> list[str]:
    """One process, or accelerate's launcher for several."""
    trainer = ["-m", "training.trainer.process", str(run.folder)]
    if recipe.devices == 1 and recipe.deepspeed is None:
        return [sys.executable, *trainer]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(recipe.devices)]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher += ["--main_process_port", str(_free_port())]
    if recipe.devices > 1:  # on CPUs, too: with --cpu accelerate starts one process alone, unless there is MPI
        launcher += ["--multi_gpu"]
    return [*launcher, *trainer]


def environment(recipe: Recipe, threads: int | None = None) -> dict[str, str]:
    """Threads shared out among the processes, one card where one is asked for, no word to anyone outside."""
    mine = psutil.Process()
    each = max(1, (threads or hardware.usable_cores()) // recipe.devices)
    made = os.environ | {
        SUPERVISOR: f"{mine.pid}:{mine.create_time()}",
        "OMP_NUM_THREADS": str(each),
        # Threads that spin while they wait for each other lose a third of the speed once a core is shared; alone it
        # makes next to no difference.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTORCH_ALLOC_CONF": os.environ.get("PYTORCH_ALLOC_CONF", "expandable_segments:True"),
    }
    if recipe.devices == 1 and hardware.vram_total():  # several visible cards would make Trainer split every batch
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        made["CUDA_VISIBLE_DEVICES"] = first or "0"
    return made


def _step_down(run: Run, recipe: Recipe, outcome: dict[str, Any]) -> bool:
    plan = run.plan()
    step = ladder.down(plan, recipe)
    if step is None:
        return False
    lower, said, afresh = step
    kept = run.whole_checkpoints()
    if afresh:
        run.forget_checkpoints()
    where = "from the beginning" if afresh or not kept else f"from {kept[-1].name}"
    run.happened(
        "out_of_memory",
        f"Out of memory ({outcome.get('message', '')}): {said}. It goes on {where}.",
        before=plan.model_dump(),
        after=lower.model_dump(),
    )
    run.write("plan.json", lower.model_dump_json(indent=1))
    return True


def _error(run: Run, recipe: Recipe, outcome: dict[str, Any]) -> MadangError:
    plan = run.plan()
    if outcome["status"] == "out_of_memory":
        error: MadangError = SetupError(
            f"Out of memory at batch {plan.batch}, length {plan.max_length}, rank {plan.rank}: "
            f"{outcome.get('message', '')}.",
            ladder.nothing_left(plan, recipe),
        )
    elif outcome["status"] == "died":
        log = run.folder / "log.txt"
        code = outcome["code"]
        died = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:])
        error = SetupError(f"The trainer {died}.\n{tail}", f"`madang train --resume {run.name}` goes on; log: {log}")
    else:
        error = SetupError(str(outcome["message"]), str(outcome.get("hint", "")))
    run.happened("failed", error.message, hint=error.hint)
    kept = run.whole_checkpoints()
    step = int(kept[-1].name.rpartition("-")[2]) if kept else 0
    run.tell(status="failed", step=step, ended=time.time(), message=error.message, hint=error.hint)
    return error


def _oom_kills() -> int:
    """How often the kernel ended a process for want of memory: in this container, else on this machine."""
    for path in OOM_KILLS:
        with suppress(OSError, ValueError):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Whatever happened to us, no trainer stays behind."""
    if process.poll() is not None:
        return
    with suppress(psutil.Error):
        tree = psutil.Process(process.pid)
        for one in [*tree.children(recursive=True), tree]:
            with suppress(psutil.Error):
                one.kill()
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
