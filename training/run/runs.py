"""The folder of a training run. Everything that matters is a file in it, so that a killed run goes on. Trains nothing.

recipe.yaml        the recipe with every default written out
plan.json          how it runs now: batch, accumulation, checkpointing, length, rank; the ladder changes it
reward-1.py        a copy of the file of GRPO's first reward, for the record
model.json         which base, where it lies, how it is prompted
versions.json      what it ran on
data/              the tokenized rows, so that a resumed run sees the same ones
metrics.jsonl      one line for each logged step
events.jsonl       what happened and why, in words
checkpoints/       TRL's checkpoints; one that is whole says so
adapter/           the finished adapter
state.json         how the run stands
outcome-0.json     how the trainer of this rank ended
"""

import json
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from playground.errors import ConfigError, SetupError
from playground.settings import Settings
from playground.system.atomic import has_sizes, replacing, sizes, to_disk
from playground.values import Value
from training import recipe as recipes
from training.recipe import Recipe
from training.run import folders
from training.run.folders import Folder

Status = Literal["preparing", "running", "done", "stopped", "failed"]
WHOLE = "madang-whole.json"
"""Inside a checkpoint: the size of each of its files, written last."""
PAUSE_S, PAUSE = 30.0, 20
"""Longer than this, and than so many usual steps, a step waited for someone to resume the run."""
CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class Plan(Value):
    """How a run is computed; the effective batch stays what the recipe says, whatever the ladder changes."""

    batch: int
    accumulation: int
    checkpointing: bool
    max_length: int
    rank: int
    whole_logits: bool = False
    """Whether the loss takes all logits at once: TRL's loss in chunks passes over an adapter on the output layer."""
    attempt: int = 1


class Model(Value):
    """The base of a run: its name in the catalogue, its folder, and the format its rows are rendered in."""

    name: str
    source: str
    folder: str
    prompt_format: str | None = None
    context: int


class State(folders.State):
    """How a run stands: its optimizer steps, how many there will be, and the variant that it became."""

    status: Status = "preparing"
    step: int = 0
    steps: int = 0
    variant: str = ""


@dataclass(frozen=True)
class Run(Folder[State]):
    """A run by its folder."""

    noun, asked_in = "run", "recipe.yaml"
    taken = "The run {name} is being trained"
    _state = State

    @property
    def checkpoints(self) -> Path:
        """Return TRL's output folder."""
        return self.folder / "checkpoints"

    @property
    def adapter(self) -> Path:
        """Return the folder of the finished adapter."""
        return self.folder / "adapter"

    @property
    def data(self) -> Path:
        """Return the folder of the tokenized rows."""
        return self.folder / "data"

    @property
    def stop_file(self) -> Path:
        """Return the file that asks the trainer to stop after its step, when it exists."""
        return self.folder / "stop"

    def recipe(self) -> Recipe:
        """Return the recipe that it runs by."""
        return recipes.load(self.folder / "recipe.yaml")

    def plan(self) -> Plan:
        """Return how it is computed now."""
        return self.read("plan.json", Plan)

    def model(self) -> Model:
        """Return its base."""
        return self.read("model.json", Model)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the logged steps, oldest first; of a step that was computed twice after a resume, the last line."""
        kept: dict[tuple[int, str], dict[str, Any]] = {}
        for row in self.lines("metrics.jsonl"):
            kind = next((name for name in ("loss", "eval_loss") if name in row), "")
            kept[int(row.get("step", 0)), kind] = row
        return sorted(kept.values(), key=lambda row: int(row.get("step", 0)))

    def whole_checkpoints(self) -> list[Path]:
        """Return the checkpoints that were written to their end, in the order of their steps."""
        found = [path for path in self.checkpoints.glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name)]
        return sorted((path for path in found if is_whole(path)), key=step_of)

    def forget_broken_checkpoints(self) -> list[str]:
        """Remove the checkpoints that a killed process or a full disk left half written, and return their names."""
        broken = [path for path in self.checkpoints.glob("*checkpoint-*") if path.is_dir() and not is_whole(path)]
        for path in broken:
            shutil.rmtree(path, ignore_errors=True)
        return sorted(path.name for path in broken)

    def forget_checkpoints(self) -> None:
        """Remove every checkpoint: for a fresh start, or after a finished run."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """Return the number of optimizer steps behind a checkpoint."""
    found = CHECKPOINT.fullmatch(checkpoint.name)
    return int(found[1]) if found else 0


def mark_whole(checkpoint: Path) -> None:
    """Mark a checkpoint as complete, once its bytes are on the disk."""
    to_disk(checkpoint)
    expected = sizes(checkpoint)
    expected.pop(WHOLE, None)
    with replacing(checkpoint / WHOLE) as part:
        part.write_text(json.dumps(expected, indent=1), encoding="utf-8")


def is_whole(checkpoint: Path) -> bool:
    """Return whether every file of a checkpoint is there with its length."""
    try:
        expected = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
        return bool(expected) and has_sizes(checkpoint, expected)
    except (OSError, ValueError, AttributeError):
        return False


def folder(settings: Settings) -> Path:
    """Return the folder that holds one folder for each run."""
    return settings.data / "runs"


def create(settings: Settings, recipe: Recipe) -> Run:
    """Make the folder of a new run, with its recipe in it."""
    safe = re.sub(r"[^\w.-]+", "-", recipe.name)
    made = folders.place(folder(settings), safe)
    try:
        made.mkdir(parents=True)
    except OSError as error:
        raise SetupError(f"{made} cannot be made: {error.strerror}.", "Choose a folder with MADANG_DATA.") from error
    run = Run(made)
    run.write("recipe.yaml", recipes.dump(recipe))
    run.tell(status="preparing", started=time.time())
    return run


def listed(settings: Settings) -> list[Run]:
    """Return every run, the newest first."""
    return folders.listed(folder(settings), Run)


def find(settings: Settings, name: str = "") -> Run:
    """Return a run by its name or its folder; without a name the newest that is not done."""
    if name:
        return folders.find(folder(settings), Run, name)
    unfinished = [run for run in listed(settings) if run.state().status != "done"]
    if not unfinished:
        raise ConfigError("There is no run to go on with.", "`madang train RECIPE` begins one.")
    return unfinished[0]


def seconds_left(rows: Iterable[Mapping[str, Any]], steps: int) -> float | None:
    """Return the time left at the speed of the last steps, evaluations and checkpoints included; None without a speed.

    The pause before a resume is no step.
    """
    logged = [row for row in rows if "loss" in row][-50:]
    if len(logged) < 2 or not steps:
        return None
    paces = [(b["at"] - a["at"]) / max(1, b["step"] - a["step"]) for a, b in pairwise(logged)]
    usual = sorted(paces)[len(paces) // 2]
    kept = [pace for pace in paces if pace <= max(PAUSE_S, PAUSE * usual)]
    return max(0.0, float(sum(kept) / max(1, len(kept)) * (steps - logged[-1]["step"])))
