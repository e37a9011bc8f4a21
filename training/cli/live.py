"""Show a run under way in the terminal: step, loss, speed, memory and time left. Reads the run's files alone."""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from playground.cli.context import say
from training.run.runs import Run, seconds_left

REWARDED = (
    ("reward", "reward", ".3f"),
    ("eval_reward", "eval reward", ".3f"),
    ("kl", "KL", ".4f"),
    ("completions/mean_length", "length", ".0f"),
)
"""What GRPO is followed by, and its name."""
SAY_EVERY_S = 15.0
"""Where there is no terminal, a line so often."""


class Live:
    """Shows a progress bar on a terminal, elsewhere a line now and then; events as they come."""

    def __init__(self, run: Run, console: Console) -> None:
        self._run, self._console = run, console
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("Loading the model", total=None, left="")
        self._events = len(run.events())
        self._said = 0.0

    def __enter__(self) -> "Live":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def refresh(self) -> None:
        """Look at the run's files again, and show what is new."""
        events = self._run.events()
        for event in events[self._events :]:
            if event.kind != "failed":  # that one is raised, too
                say(self._console, event.message, "yellow")
        self._events = len(events)
        state = self._run.state()
        rows = self._run.metrics()
        if not rows or state.status != "running":
            return
        line = described(rows)
        step = rows[-1]["step"]
        self._bar.update(
            self._task, description=line, completed=step, total=state.steps or None, left=left(rows, state.steps)
        )
        if not self._console.is_terminal and time.monotonic() - self._said > SAY_EVERY_S:
            self._said = time.monotonic()
            said = (f"step {step}/{state.steps}", line, left(rows, state.steps))
            say(self._console, " · ".join(part for part in said if part))


def described(rows: Iterable[dict[str, Any]]) -> str:
    """Return loss, learning rate, tokens/s and memory of the newest steps, and the last evaluation, in one line."""
    parts: dict[str, str] = {}
    for row in rows:
        if "loss" in row:
            parts["loss"] = f"loss {row['loss']:.3f}"
            parts["lr"] = f"lr {row['learning_rate']:.1e}"
            parts["speed"] = f"{row['tokens_per_s']:.0f} tok/s"
            memory = row.get("gpu_gib", row.get("ram_gib"))
            parts["memory"] = f"{memory:.1f} GiB"
        for name, said, written in REWARDED:
            if row.get(name) is not None:
                parts.pop("loss", None)  # that of GRPO is about nought, whatever is learnt
                parts[said] = f"{said} {row[name]:{written}}"
        if "rewards/margins" in row:
            parts["margin"] = f"margin {row['rewards/margins']:.3f}"
        if "eval_loss" in row and "eval_reward" not in row:
            parts["eval"] = f"eval {row['eval_loss']:.3f}"
    return " · ".join(parts.values())


def left(rows: list[dict[str, Any]], steps: int) -> str:
    """Return the time left in words; nothing where it cannot be told yet."""
    seconds = seconds_left(rows, steps)
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min left" if hours else f"{minutes} min {rest:02d} s left"
