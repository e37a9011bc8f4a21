"""The watchers alone, with losses and states made by hand."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from training.trainer.guards import SKIPPED_IN_A_ROW, NotFinite, Overfitting, Watch, is_out_of_memory


class Told:
    """A run that only remembers what happened."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def happened(self, kind: str, message: str, **more: Any) -> None:
        self.events.append(message)


def watch(scaled: bool = False) -> Watch:
    return Watch(Told(), scaled)  # type: ignore[arg-type]


def test_a_finite_step_passes_and_is_forgotten() -> None:
    guard = watch()
    guard.saw(torch.tensor([[3, -1], [4, 5]]), torch.tensor(1.5))
    guard.step(0, 0.7)
    guard.saw(torch.tensor([[9]]), torch.tensor(math.nan))
    with pytest.raises(NotFinite) as caught:
        guard.step(1, math.nan)
    assert caught.value.message == "Step 2 is not finite: the loss is nan. Its rows: 9."


def test_only_the_rows_of_the_bad_micro_batch_are_named() -> None:
    guard = watch()
    guard.saw(torch.tensor([[1], [2]]), torch.tensor(1.5))
    guard.saw(torch.tensor([[7, 8], [30, -1]]), torch.tensor(math.inf))
    with pytest.raises(NotFinite) as caught:
        guard.step(11, math.inf)
    assert caught.value.message == "Step 12 is not finite: the loss is inf. Its rows: 7, 8, 30."
    assert "learning_rate" in caught.value.hint


def test_a_gradient_alone_can_be_the_fault() -> None:
    guard = watch()
    guard.saw(torch.tensor([[1]]), torch.tensor(1.5))
    with pytest.raises(NotFinite, match="the gradient's norm is inf. Its rows: 1"):
        guard.step(0, math.inf)


def test_fp16_may_overflow_now_and_then_but_not_for_ever() -> None:
    guard = watch(scaled=True)
    for step in range(SKIPPED_IN_A_ROW - 1):
        guard.saw(torch.tensor([[1]]), torch.tensor(1.5))
        guard.step(step, math.inf)
    with pytest.raises(NotFinite):
        guard.step(SKIPPED_IN_A_ROW, math.inf)


def evaluated(history: list[dict[str, float]], patience: int = 3) -> tuple[SimpleNamespace, Told]:
    """What the guard decides after the last evaluation of a history."""
    run = Told()
    step = int(history[-1]["step"])
    state = SimpleNamespace(log_history=history, global_step=step, is_world_process_zero=True, max_steps=100)
    control = SimpleNamespace(should_training_stop=False, should_save=False)
    guard = Overfitting(run, patience)  # type: ignore[arg-type]
    decided = guard.on_evaluate(None, state, control)
    return decided, run


def history(evaluations: list[float], training: list[float]) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = [{"step": 0, "eval_loss": 9.0}]
    for number, (seen, own) in enumerate(zip(evaluations, training, strict=True), start=1):
        rows += [{"step": 10 * number, "loss": own}, {"step": 10 * number, "eval_loss": seen}]
    return rows


def test_learning_by_heart_is_stopped_and_said() -> None:
    decided, run = evaluated(history([2.0, 2.1, 2.2, 2.3], [2.5, 2.0, 1.5, 1.0]))
    assert decided.should_training_stop
    assert "rose from 2.0000 (step 10) to 2.3000" in run.events[0]
    assert "the adapter is that of step 10" in run.events[0]


def test_a_reward_gets_better_by_rising() -> None:
    rows = history([0.7, 0.6, 0.5, 0.4], [0.5, 0.6, 0.7, 0.8])
    named = [{name.replace("loss", "reward"): value for name, value in row.items()} for row in rows[1:]]
    run, control = Told(), SimpleNamespace(should_training_stop=False, should_save=False)
    state = SimpleNamespace(log_history=named, global_step=40, is_world_process_zero=True)
    assert Overfitting(run, 3, "reward").on_evaluate(None, state, control).should_training_stop  # type: ignore[arg-type]
    assert "evaluation reward fell from 0.7000 (step 10) to 0.4000 while the training reward rose" in run.events[0]


@pytest.mark.parametrize(
    ("seen", "own"),
    [
        ([2.0, 2.1, 2.2], [2.5, 2.0, 1.5]),  # not patient enough yet
        ([2.0, 1.9, 2.2, 1.8], [2.5, 2.0, 1.5, 1.0]),  # the last is the best
        ([2.0, 2.1, 2.2, 2.3], [2.5, 2.6, 2.7, 2.8]),  # training gets worse, too: that is something else
    ],
)
def test_what_is_no_overfitting_goes_on(seen: list[float], own: list[float]) -> None:
    decided, run = evaluated(history(seen, own))
    assert not decided.should_training_stop
    assert run.events == []


def test_every_best_is_kept() -> None:
    decided, _ = evaluated(history([2.0, 1.9], [2.5, 2.0]))
    assert decided.should_save
    decided, _ = evaluated(history([2.0, 2.1], [2.5, 2.0]))
    assert not decided.should_save


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), True),
        (MemoryError(), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("out of memory of an elephant"), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error: BaseException, memory: bool) -> None:
    assert is_out_of_memory(error) is memory
    wrapped = ValueError("while training")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped) is memory
