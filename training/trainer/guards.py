"""Guard a run against a loss that is not finite and against overfitting; record its metrics; stop it when asked to.

Nothing here asks the device for a number that the trainer does not ask for anyway: the guards cost no time.
"""

import json
import math
import os
import time
from collections.abc import Sequence
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

from playground.errors import MadangError, causes
from training.run.runs import Run

SKIPPED_IN_A_ROW = 20
"""fp16 skips a step whose gradients overflow and halves its scale, which is no fault; so many in a row are one."""
NAMED_ROWS = 16


class NotFinite(MadangError):
    """Loss or gradient is NaN or infinite: the weights are still those of the step before."""


class Watch:
    """Sees every micro-batch of a step, and refuses the step when its loss or gradient is not finite."""

    def __init__(self, run: Run, scaled: bool = False) -> None:
        self._run = run
        self._scaled = scaled
        self._seen: list[tuple[list[int], torch.Tensor]] = []
        self._overflows = 0

    def saw(self, rows: torch.Tensor | None, loss: torch.Tensor) -> None:
        """Remember a micro-batch: the numbers of its rows, and its loss, still on the device."""
        numbers = [] if rows is None else sorted({int(row) for row in rows.flatten().tolist() if row >= 0})
        self._seen.append((numbers, loss.detach()))

    def step(self, step: int, gradient: float | None) -> None:
        """Judge the step before the optimizer takes it: raise NotFinite, or forget what was seen.

        The gradient's norm tells of the loss, too: where a loss is NaN, so is its gradient. The trainer computes that
        norm for clipping anyway, while reading each loss would make the card wait.
        """
        seen, self._seen = self._seen, []
        if gradient is None or math.isfinite(gradient):
            self._overflows = 0
            return
        bad = [(rows, float(loss)) for rows, loss in seen if not math.isfinite(float(loss))]
        self._overflows += 1
        if self._scaled and not bad and self._overflows < SKIPPED_IN_A_ROW:
            return
        what = f"the loss is {bad[0][1]}" if bad else f"the gradient's norm is {gradient}"
        rows = sorted({row for numbers, _ in (bad or seen) for row in numbers})
        raise not_finite(step, what, rows)


def not_finite(step: int, what: str, rows: Sequence[int]) -> NotFinite:
    """Return the error of a step that is not finite, with its first rows."""
    named = ", ".join(map(str, rows[:NAMED_ROWS])) + (
        f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
    )
    return NotFinite(
        f"Step {step + 1} is not finite: {what}. Its rows: {named or 'unknown'}.",
        "Look at these rows (`madang data check`), lower trainer.learning_rate (2e-4 to 1e-5), keep "
        "trainer.max_grad_norm at 0.3, and use bf16 instead of fp16 where the card has it. "
        "The last good checkpoint is kept.",
    )


class Recorder(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Writes metrics.jsonl and state.json, and stops the run when it is asked to. On the main process alone."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tokens: torch.Tensor | int = 0
        self._since = time.perf_counter()
        self._file: Any = None

    def count(self, tokens: torch.Tensor | int) -> None:
        """Count tokens that were trained on, padding left out; the number stays on the device."""
        self._tokens = self._tokens + tokens

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the metrics; the number of steps is known now."""
        self._since = time.perf_counter()
        if state.is_world_process_zero:
            self._file = (self._run.folder / "metrics.jsonl").open("a", encoding="utf-8")
            self._run.tell(status="running", step=state.global_step, steps=state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Write one line for a logged step."""
        now, tokens = time.perf_counter(), int(self._tokens)
        row: dict[str, Any] = {"step": state.global_step, "at": time.time(), **(logs or {})}
        if "loss" in row:
            row |= {"tokens": tokens, "tokens_per_s": tokens / max(now - self._since, 1e-9), **memory()}
            self._tokens, self._since = 0, now
        if self._file is not None:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock again: time spent on evaluating is not time spent on training."""
        self._since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Stop after this step, with a checkpoint, when someone asked."""
        if self._run.stop_file.exists():
            control.should_training_stop = True
            control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write down from which step a resume would go on; saving does not count as training either."""
        self._since = time.perf_counter()
        if state.is_world_process_zero:
            self._run.tell(step=state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the metrics."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Overfitting(TrainerCallback):  # type: ignore[misc]
    """Stops when the evaluation loss has not got better for `patience` evaluations while the training loss fell.

    `figure`: loss, or reward, which gets better by rising.
    """

    def __init__(self, run: Run, patience: int, figure: str = "loss") -> None:
        self._run = run
        self._patience = patience
        self._figure, self._sign = figure, 1 if figure == "loss" else -1

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Have the last step evaluated, too: it may be the best."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = True
        return control

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **kwargs: Any
    ) -> Any:
        """Save a checkpoint of every best figure; stop, and say why, once the run learns its rows by heart.

        A worse evaluation loss alone may be noise or too high a learning rate. With a training loss that still falls it
        means overfitting.
        """
        name, key = self._figure, f"eval_{self._figure}"
        history = [(row["step"], row[key]) for row in state.log_history if row.get(key) is not None and row["step"]]
        if not history:
            return control
        best_step, best = min(history, key=lambda row: self._sign * row[1])
        if best_step == state.global_step:
            control.should_save = True
            return control
        worse = [row for row in history if row[0] > best_step]
        before, after = (_training(state, name, step) for step in (best_step, state.global_step))
        if len(worse) >= self._patience and self._sign * after < self._sign * before:
            control.should_training_stop = True
            worse_by, better_by = ("rose", "fell") if name == "loss" else ("fell", "rose")
            if state.is_world_process_zero:
                self._run.happened(
                    "overfitting",
                    f"The evaluation {name} {worse_by} from {best:.4f} (step {best_step}) to {history[-1][1]:.4f} "
                    f"while the training {name} {better_by} from {before:.4f} to {after:.4f}: it began to learn its "
                    "rows by heart. "
                    f"Stopped at step {state.global_step}; the adapter is that of step {best_step}.",
                    step=state.global_step,
                    best=best_step,
                )
        return control


def _training(state: Any, figure: str, step: int, over: int = 20) -> float:
    """Return the mean training loss or reward of the last logged steps up to `step`."""
    found = [row[figure] for row in state.log_history if row.get(figure) is not None and row["step"] <= step][-over:]
    return sum(found) / len(found) if found else math.inf


def memory() -> dict[str, float]:
    """Return the peak on the card so far, or what this process holds of RAM, in GiB."""
    if torch.cuda.is_available():
        return {"gpu_gib": torch.cuda.max_memory_allocated() / 2**30}
    return {"ram_gib": psutil.Process(os.getpid()).memory_info().rss / 2**30}


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether this error, or one that led to it, says that memory ran out: on a card or in RAM."""
    said = ("out of memory", "can't allocate memory", "not enough memory")
    return any(
        isinstance(cause, MemoryError | torch.OutOfMemoryError)
        or (isinstance(cause, RuntimeError) and any(words in str(cause) for words in said))
        for cause in causes(error)
    )
