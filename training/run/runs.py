"""The folder of a run: its recipe, what it met, how far it is. Everything that matters is a file; nothing trains here.

recipe.yaml        the recipe with every default written out
plan.json          how it runs now: batch, accumulation, checkpointing, length, rank; the ladder changes it
model.json         which base, where it lies, how it is prompted
versions.json      what it ran on
data/              the tokenized rows, so that a resumed run sees the same ones
metrics.jsonl      a line a logged step
events.jsonl       what happened and why, in words
checkpoints/       TRL's checkpoints; one that is whole says so
adapter/           the finished adapter
state.json         how things stand
"""

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from playground.errors import ConfigError, SetupError, UnknownNameError
from playground.settings import Settings
from playground.system.atomic import replacing, to_disk
from training import recipe as recipes
from training.recipe import Recipe
from training.run.folders import Folder, place

Status = Literal["preparing", "running", "done", "stopped", "failed"]
M = TypeVar("M", bound=BaseModel)
WHOLE = "madang-whole.json"
"""Inside a checkpoint: the size of each of its files, written last."""
CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class Plan(BaseModel):
    """How a run is computed; the effective batch stays what the recipe says, whatever the ladder changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int
    accumulation: int
    checkpointing: bool
    max_length: int
    rank: int
    attempt: int = 1


class Model(BaseModel):
    """The base of a run: its name in the catalogue, its folder, and the format its rows are rendered in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    folder: str
    prompt_format: str | None = None
    context: int


class State(BaseModel):
    """How things stand, for whoever watches. Times in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status = "preparing"
    step: int = 0
    steps: int = 0
    started: float = 0.0
    ended: float | None = None
    variant: str = ""
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Run(Folder[State]):
    """A run by its folder."""

    taken = "The run {name} is being trained"
    _state = State

    @property
    def checkpoints(self) -> Path:
        """TRL's output folder."""
        return self.folder / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The finished adapter."""
        return self.folder / "adapter"

    @property
    def data(self) -> Path:
        """The tokenized rows."""
        return self.folder / "data"

    @property
    def stop_file(self) -> Path:
        """Asks the trainer to stop after its step, when it exists."""
        return self.folder / "stop"

    def recipe(self) -> Recipe:
        """The recipe it runs by."""
        return recipes.load(self.folder / "recipe.yaml")

    def plan(self) -> Plan:
        """How it runs now."""
        return _model(self.folder / "plan.json", Plan)

    def model(self) -> Model:
        """Its base."""
        return _model(self.folder / "model.json", Model)

    def metrics(self) -> list[dict[str, Any]]:
        """Logged steps, oldest first; where a step was computed twice after a resume, the last one counts."""
        kept: dict[tuple[int, str], dict[str, Any]] = {}
        for row in self.lines("metrics.jsonl"):
            kind = next((name for name in ("loss", "eval_loss") if name in row), "")
            kept[int(row.get("step", 0)), kind] = row
        return sorted(kept.values(), key=lambda row: int(row.get("step", 0)))

    def whole_checkpoints(self) -> list[Path]:
        """Checkpoints that were written to their end, by step."""
        found = [path for path in self.checkpoints.glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name)]
        return sorted((path for path in found if is_whole(path)), key=step_of)

    def forget_broken_checkpoints(self) -> list[str]:
        """Remove what a killed process or a full disk left half written; their names."""
        broken = [path for path in self.checkpoints.glob("*checkpoint-*") if path.is_dir() and not is_whole(path)]
        for path in broken:
            shutil.rmtree(path, ignore_errors=True)
        return sorted(path.name for path in broken)

    def forget_checkpoints(self) -> None:
        """Remove them all: a fresh start, or a finished run."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that a checkpoint has behind it."""
    found = CHECKPOINT.fullmatch(checkpoint.name)
    return int(found[1]) if found else 0


def mark_whole(checkpoint: Path) -> None:
    """Say that a checkpoint is complete, once its bytes are on the disk."""
    files = {str(path.relative_to(checkpoint)): path for path in sorted(checkpoint.rglob("*")) if path.is_file()}
    to_disk(checkpoint)
    sizes = {name: path.stat().st_size for name, path in files.items() if path.name != WHOLE}
    with replacing(checkpoint / WHOLE) as part:
        part.write_text(json.dumps(sizes, indent=1), encoding="utf-8")


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is there with its length."""
    try:
        sizes = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
        return bool(sizes) and all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def folder(settings: Settings) -> Path:
    """Where runs live, a folder each."""
    return settings.data / "runs"


def create(settings: Settings, recipe: Recipe) -> Run:
    """A new run with its recipe in it."""
    safe = re.sub(r"[^\w.-]+", "-", recipe.name)
    made = place(folder(settings), safe)
    try:
        made.mkdir(parents=True)
    except OSError as error:
        raise SetupError(f"{made} cannot be made: {error.strerror}.", "Choose a folder with MADANG_DATA.") from error
    run = Run(made)
    run.write("recipe.yaml", recipes.dump(recipe))
    run.tell(status="preparing", started=time.time())
    return run


def listed(settings: Settings) -> list[Run]:
    """Every run, the newest first."""
    found = [Run(path.parent) for path in folder(settings).glob("*/recipe.yaml")]
    return sorted(found, key=lambda run: (run.state().started, run.name), reverse=True)


def find(settings: Settings, name: str = "") -> Run:
    """A run by its id or its folder; without a name the newest that is not done."""
    runs = listed(settings)
    if not name:
        open_ = [run for run in runs if run.state().status != "done"]
        if not open_:
            raise ConfigError("There is no run to go on with.", "`madang train RECIPE` begins one.")
        return open_[0]
    if (Path(name) / "recipe.yaml").is_file():
        return Run(Path(name).resolve())
    known = {run.name: run for run in runs}
    if name not in known:
        raise UnknownNameError("run", name, known, f"Runs lie in {folder(settings)}.")
    return known[name]


def _model(path: Path, kind: type[M]) -> M:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "The run is not complete; begin it again.") from error
