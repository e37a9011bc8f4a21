"""How far a call of `madang eval` is, in a file that another process reads: the page. Decides nothing."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.system.atomic import write_beside

if TYPE_CHECKING:  # the page imports this module through eval.cli, and the runner takes its time
    from eval.runner import Progress

EVERY_S = 0.3


class ProgressFile:
    """One JSON object, replaced at once: run and runs, variant, shots, step, done, total, left_s, at."""

    def __init__(self, path: Path | None, runs: int = 1) -> None:
        self._path = path
        self._row: dict[str, Any] = {"run": 0, "runs": runs}
        self._written = 0.0

    def begin(self, variant: str, shots: int) -> None:
        """The next run."""
        begun = {"run": self._row["run"] + 1, "runs": self._row["runs"], "variant": variant, "shots": shots}
        self._write(begun | {"step": "loading", "done": 0, "total": 0, "left_s": None})

    def tell(self, progress: "Progress") -> None:
        """A runner's Progress; steps that follow each other too fast are left out."""
        row = {"step": progress.step, "done": progress.done, "total": progress.total, "left_s": progress.left_s}
        soon = time.monotonic() - self._written < EVERY_S
        if soon and row["step"] == self._row.get("step") and progress.done < progress.total:
            return
        self._write(self._row | row)

    def _write(self, row: dict[str, Any]) -> None:
        self._row, self._written = row, time.monotonic()
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_beside(self._path, json.dumps(row | {"at": time.time()}, ensure_ascii=False))
