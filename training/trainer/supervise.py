"""Run the trainer as a process, watch it, and go down the ladder when memory runs out. Imports no engine.

The trainer can die in any way, by the kernel's hand, too: what it did is in the run's folder, and the next try goes on
from the last whole checkpoint.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from playground.errors import MadangError, SetupError
from playground.settings import Environment, child_environment
from playground.system import hardware
from playground.system.logs import tail
from playground.system.ports import free_port
from playground.system.processes import ProcessId, ending, kill, tree
from training.passthrough import tracker_keys
from training.recipe import Recipe
from training.run.runs import Run, step_of
from training.trainer import ladder
from training.trainer.process import NO_ROOM, Outcome

POLL_S = 0.3
DEFAULTS = {
    # Threads that spin while they wait for each other lose a third of the speed once a core is shared; alone it makes
    # next to no difference.
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}
"""What a trainer's environment says where the user's does not."""
TAIL = 12
OOM_KILLS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
ORDER = ("out_of_memory", "not_finite", "error", "stopped", "done")
"""Of several processes' outcomes the first of these counts."""
Watcher = Callable[[], bool]
"""Called now and then while it trains; True asks the run to stop."""


def train(run: Run, watch: Watcher = lambda: False, threads: int | None = None) -> str:
    """Train a prepared run to its end; return `done` or `stopped`, raise the trainer's own error or what it died of."""
    recipe = run.recipe()
    run.plan()  # a broken one is said now, not after a trainer has loaded its engine
    run.stop_file.unlink(missing_ok=True)
    while True:
        for name in run.forget_broken_checkpoints():
            run.happened("broken", f"{name} was half written and is removed.")
        outcome = _attempt(run, recipe, watch, threads)
        if outcome.status in ("done", "stopped"):
            run.tell(status=outcome.status, step=outcome.step, ended=time.time(), message="", hint="")
            return outcome.status
        if outcome.status == "out_of_memory" and _step_down(run, recipe, outcome):
            continue
        raise _error(run, recipe, outcome)


def _attempt(run: Run, recipe: Recipe, watch: Watcher, threads: int | None) -> Outcome:
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
        finally:  # whatever happened to us, no trainer stays behind
            if process.poll() is None:
                kill(tree(process.pid))
                process.wait()
    watch()
    written = [path.read_text(encoding="utf-8") for path in run.folder.glob("outcome-*.json")]
    if written:
        return min(map(Outcome.model_validate_json, written), key=lambda outcome: ORDER.index(outcome.status))
    if _oom_kills() > killed_before:
        return Outcome(status="out_of_memory", message="the system ended the trainer for want of RAM")
    if process.returncode == NO_ROOM:
        hint = f"Free some space there, then `madang train --resume {run.name}`: the last good checkpoint is kept."
        return Outcome(status="error", message=f"The disk is full at {run.folder}.", hint=hint)
    return Outcome(status="died", message=f"The trainer ended with {ending(process.returncode)}.")


def command(run: Run, recipe: Recipe) -> list[str]:
    """Return the command of one process, or of accelerate's launcher for several."""
    trainer = ["-m", "training.trainer.process", str(run.folder)]
    if recipe.devices == 1 and recipe.deepspeed is None:
        return [sys.executable, *trainer]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(recipe.devices)]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher += ["--main_process_port", str(free_port())]
    if recipe.devices > 1:  # on CPUs, too: with --cpu accelerate starts one process alone, unless there is MPI
        launcher += ["--multi_gpu"]
    return [*launcher, *trainer]


def environment(recipe: Recipe, threads: int | None = None) -> dict[str, str]:
    """Return what a trainer finds in its environment: its share of the threads, one card where one is asked for."""
    me = ProcessId.of()
    each = max(1, (threads or hardware.usable_cores()) // recipe.devices)
    changes = {
        "MADANG_SUPERVISOR": f"{me.pid}:{me.born}",
        "OMP_NUM_THREADS": str(each),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if recipe.devices == 1 and hardware.vram_total():  # several visible cards would make Trainer split every batch
        first = Environment().cuda_visible_devices.split(",")[0]
        changes["CUDA_VISIBLE_DEVICES"] = first or "0"
    return child_environment(changes, DEFAULTS, tracker_keys(recipe))


def _step_down(run: Run, recipe: Recipe, outcome: Outcome) -> bool:
    """Write down the next lower plan, if there is one."""
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
        f"Out of memory ({outcome.message}): {said}. It goes on {where}.",
        before=plan.model_dump(),
        after=lower.model_dump(),
    )
    run.write("plan.json", lower.model_dump_json(indent=1))
    return True


def _error(run: Run, recipe: Recipe, outcome: Outcome) -> MadangError:
    """Write down what ended the run, and return it to be raised."""
    plan, message, hint = run.plan(), outcome.message, outcome.hint
    if outcome.status == "out_of_memory":
        message = f"Out of memory at batch {plan.batch}, length {plan.max_length}, rank {plan.rank}: {message}."
        hint = ladder.nothing_left(plan, recipe)
    elif outcome.status == "died":
        log = run.folder / "log.txt"
        message = "\n".join([message, *tail(log, TAIL)])
        hint = f"`madang train --resume {run.name}` goes on; log: {log}"
    error = SetupError(message, hint)
    kept = run.whole_checkpoints()
    step = step_of(kept[-1]) if kept else 0
    with suppress(OSError):  # a disk that is full takes no words either, and they are raised all the same
        run.happened("failed", error.message, hint=error.hint)
        run.tell(status="failed", step=step, ended=time.time(), message=error.message, hint=error.hint)
    return error


def _oom_kills() -> int:
    """Count the processes that the kernel ended for want of memory: in this container, else on this machine."""
    for path in OOM_KILLS:
        with suppress(OSError, ValueError):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0
