"""The trainer as a process: every way it can end, the ladder, and what becomes of it when its supervisor dies."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground.errors import SetupError
from playground.settings import Settings
from tests.places import ROOT
from tests.training.conftest import Write
from tests.training.trained import begin, losses
from training import recipe as recipes
from training.run import runs
from training.run.runs import Plan, Run
from training.trainer import supervise

STUB = Path(__file__).with_name("stub_trainer.py")
OOM = json.dumps({"status": "out_of_memory", "message": "CUDA out of memory."})
DONE = json.dumps({"status": "done", "step": 6})


@pytest.fixture
def scripted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """A run whose trainer is the stub, with a line for each try."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(supervise, "command", lambda run, recipe: [sys.executable, str(STUB), str(run.folder)])

    def make(*lines: str, **guards: bool) -> Run:
        shipped = recipes.resolved(recipes.load(recipes.find("sft")), on_card=False)
        changed = shipped.model_copy(update={"guards": recipes.Guards(**guards)})
        run = runs.create(settings, changed)
        plan = Plan(batch=2, accumulation=4, checkpointing=False, max_length=300, rank=8)
        run.write("plan.json", plan.model_dump_json())
        run.write("script", "\n".join(lines))
        return run

    return make


def tries(run: Run) -> list[Plan]:
    return [Plan.model_validate_json(line) for line in (run.folder / "tries").read_text().splitlines()]


def test_a_run_that_ends_well(scripted: Callable[..., Run]) -> None:
    run = scripted(DONE)
    assert supervise.train(run) == "done"
    assert (run.state().status, run.state().step) == ("done", 6)
    assert run.state().ended is not None


def test_out_of_memory_goes_down_the_ladder_and_the_run_ends_well(scripted: Callable[..., Run]) -> None:
    run = scripted("checkpoint", OOM, DONE)
    assert supervise.train(run) == "done"
    assert [(plan.batch, plan.accumulation, plan.checkpointing) for plan in tries(run)] == [
        (2, 4, False),
        (1, 8, False),
        (1, 8, True),
    ]
    said = [event.message for event in run.events()]
    assert said[0].startswith("Out of memory (CUDA out of memory.): batch 2 x accumulation 4 became 1 x 8")
    assert said[0].endswith("It goes on from checkpoint-2.")
    assert said[1] == "checkpoint-3 was half written and is removed."
    assert "gradient checkpointing is on" in said[2]
    assert [path.name for path in run.whole_checkpoints()] == ["checkpoint-2"]


def test_a_lower_rank_is_a_fresh_start_and_said_plainly(scripted: Callable[..., Run]) -> None:
    run = scripted("checkpoint", OOM, OOM, DONE, lower_rank=True)
    supervise.train(run)
    assert [plan.rank for plan in tries(run)] == [8, 8, 8, 4]
    last = run.events()[-1].message
    assert "it starts afresh at rank 4 instead of 8: what was learnt so far is given up. It goes on from the" in last
    assert run.whole_checkpoints() == []


def test_at_the_bottom_the_error_says_what_may_still_be_allowed(scripted: Callable[..., Run]) -> None:
    run = scripted(OOM, OOM, OOM)
    with pytest.raises(SetupError, match="Out of memory at batch 1, length 300, rank 8") as caught:
        supervise.train(run)
    assert "guards.shorten: true" in caught.value.hint
    assert run.state().status == "failed"
    assert run.state().message == caught.value.message


def test_loss_not_finite_is_raised_with_its_remedy(scripted: Callable[..., Run]) -> None:
    run = scripted(json.dumps({"status": "not_finite", "message": "Step 3 is not finite.", "hint": "Look."}))
    with pytest.raises(SetupError, match="Step 3 is not finite.") as caught:
        supervise.train(run)
    assert caught.value.hint == "Look."


def test_a_disk_too_full_for_the_end_is_said_all_the_same(
    scripted: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scripted(json.dumps({"status": "error", "message": "The disk is full.", "hint": "madang train --resume"}))

    def full(self: Run, **changes: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Run, "tell", full)
    with pytest.raises(SetupError, match="The disk is full.") as caught:
        supervise.train(run)
    assert "--resume" in caught.value.hint


def test_a_trainer_that_is_killed_is_said_and_can_go_on(scripted: Callable[..., Run]) -> None:
    run = scripted("kill", DONE)
    with pytest.raises(SetupError, match="The trainer ended with SIGKILL") as caught:
        supervise.train(run)
    assert f"--resume {run.name}" in caught.value.hint
    assert supervise.train(run) == "done"


def test_killed_by_the_kernel_for_want_of_memory_counts_as_out_of_memory(
    scripted: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = iter([0, 1, 1, 1])
    monkeypatch.setattr(supervise, "_oom_kills", lambda: next(kills))
    run = scripted("kill", DONE)
    assert supervise.train(run) == "done"
    assert "for want of RAM" in run.events()[0].message


def test_a_stop_is_asked_for_through_a_file(scripted: Callable[..., Run]) -> None:
    run = scripted("sleep")
    assert supervise.train(run, lambda: (run.folder / "pid").exists()) == "stopped"
    assert (run.state().status, run.state().step) == ("stopped", 4)


SUPERVISOR = """
import sys
from pathlib import Path
from training.trainer import supervise
from training.run.runs import Run
supervise.command = lambda run, recipe: [sys.executable, sys.argv[2], str(run.folder)]
supervise.train(Run(Path(sys.argv[1])))
"""


def test_the_trainer_dies_with_its_supervisor(scripted: Callable[..., Run]) -> None:
    run = scripted("sleep")
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(run.folder), str(STUB)], cwd=ROOT)
    wait_for(lambda: (run.folder / "pid").exists())
    trainer = psutil.Process(int((run.folder / "pid").read_text()))
    supervisor.kill()
    supervisor.wait()
    wait_for(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)


def wait_for(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def test_several_devices_go_through_accelerate(settings: Settings, recipe: Write) -> None:
    chosen = recipes.load(recipe("sft", devices=4, deepspeed="zero2"))
    run = Run(settings.data)
    command = supervise.command(run, chosen)
    assert command[1:5] == ["-m", "accelerate.commands.launch", "--num_processes", "4"]
    assert command[-3:] == ["-m", "training.trainer.process", str(settings.data)]
    made = supervise.environment(chosen, threads=8)
    assert made["OMP_NUM_THREADS"] == "2"
    assert made["OMP_WAIT_POLICY"] == os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
    alone = supervise.command(run, chosen.model_copy(update={"devices": 1, "deepspeed": None}))
    assert alone == [sys.executable, "-m", "training.trainer.process", str(settings.data)]


@pytest.mark.slow
def test_two_cpu_processes_compute_the_gradients_of_one(settings: Settings, recipe: Write) -> None:
    path = str(recipe("sft"))
    sets = ["trainer.per_device_train_batch_size=2", "trainer.gradient_accumulation_steps=2"]
    one = begin(settings, path, "trainer.per_device_train_batch_size=4", "trainer.gradient_accumulation_steps=2")
    two = begin(settings, path, *sets, "devices=2")
    assert one.recipe().effective_batch == two.recipe().effective_batch == 8
    for run in (one, two):
        assert supervise.train(run, threads=settings.threads) == "done"
    assert {path.name for path in two.folder.glob("outcome-*")} == {"outcome-0.json", "outcome-1.json"}
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    assert losses(two, "grad_norm") == pytest.approx(losses(one, "grad_norm"), rel=1e-3)
    weights = [load(run) for run in (one, two)]
    assert all(abs(weights[0][name] - weights[1][name]).max() < 1e-4 for name in weights[0])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="the extra deepspeed is not installed")
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_deepspeed_on_two_cpu_processes_computes_the_losses_of_one(
    stage: str, settings: Settings, recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    path = str(recipe("sft"))
    one = begin(settings, path)
    two = begin(settings, path, "trainer.per_device_train_batch_size=1", "devices=2", f"deepspeed={stage}")
    for run in (one, two):
        assert supervise.train(run, threads=settings.threads) == "done"
    assert losses(two) == pytest.approx(losses(one), abs=1e-3)
    assert load(two).keys() == load(one).keys()
    assert all(abs(load(one)[name] - load(two)[name]).max() < 1e-3 for name in load(one))


def load(run: Run) -> dict[str, Any]:
    """The adapter's tensors."""
    from safetensors.numpy import load_file

    found: dict[str, Any] = load_file(run.adapter / "adapter_model.safetensors")
    return found


def _has_step(run: Run, aim: int) -> bool:
    return max([row["step"] for row in run.metrics()], default=0) >= aim


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_again_and_again_it_ends_with_the_losses_of_one_go(settings: Settings, recipe: Write) -> None:
    path = str(recipe("sft", trainer={"max_steps": 24, "save_steps": 2}))
    whole, run = begin(settings, path), begin(settings, path)
    supervise.train(whole, threads=settings.threads)
    reached = 0
    for aim in (3, 11, 19):
        process = subprocess.Popen(
            supervise.command(run, run.recipe()), cwd=ROOT, env=supervise.environment(run.recipe(), settings.threads)
        )
        wait_for(partial(_has_step, run, aim), 120)
        process.send_signal(signal.SIGKILL)
        process.wait()
        run.forget_broken_checkpoints()
        kept = run.whole_checkpoints()
        assert kept, "a checkpoint is left"
        assert runs.step_of(kept[-1]) >= reached
        reached = runs.step_of(kept[-1])
    supervise.train(run, threads=settings.threads)
    assert losses(run) == pytest.approx(losses(whole), abs=1e-4)
    assert len(losses(run)) == 24


@pytest.mark.long
@pytest.mark.timeout(600)
def test_memory_that_really_runs_out_makes_the_batch_smaller(
    settings: Settings, recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses the trainer more address space than a small batch takes: PyTorch's allocator raises."""
    rows = [{"instruction": f"Say {n}", "output": "word " * 900} for n in range(256)]
    sets = ["trainer.per_device_train_batch_size=256", "trainer.gradient_accumulation_steps=1", "trainer.max_steps=1"]
    run = begin(settings, str(recipe("sft", rows=rows)), *sets)
    plain = supervise.command(run, run.recipe())
    limited = ["prlimit", f"--as={9 * 2**30}", *plain]
    monkeypatch.setattr(supervise, "command", lambda run, recipe: limited)
    assert supervise.train(run, threads=2) == "done"
    events = [event for event in run.events() if event.kind == "out_of_memory"]
    assert events
    assert run.plan().batch * run.plan().accumulation == 256
    assert run.plan().batch < 256
