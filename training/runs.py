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
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from playground.errors import ConfigError, SetupError, UnknownNameError
from playground.settings import Settings
from training import recipe as recipes
from training.export.atomic import replacing
from training.recipe import Recipe

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
class Run:
    """A run by its folder."""

    folder: Path

    @property
    def name(self) -> str:
        """Its id: what the folder is called."""
        return self.folder.name

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

    def state(self) -> State:
        """How things stand; a run whose file cannot be read is preparing still."""
        with suppress(ConfigError):
            return _model(self.folder / "state.json", State)
        return State()

    def tell(self, **changes: Any) -> State:
        """Write down a change of state."""
        state = self.state().model_copy(update=changes)
        self.write("state.json", state.model_dump_json(indent=1))
        return state

    def happened(self, kind: str, message: str, **more: Any) -> None:
        """Add an event: `message` is a sentence for people."""
        row = {"at": time.time(), "kind": kind, "message": message, **more}
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def events(self) -> list[dict[str, Any]]:
        """What happened, oldest first."""
        return _lines(self.folder / "events.jsonl")

    def metrics(self) -> list[dict[str, Any]]:
        """Logged steps, oldest first; where a step was computed twice after a resume, the last one counts."""
        kept: dict[tuple[int, str], dict[str, Any]] = {}
        for row in _lines(self.folder / "metrics.jsonl"):
            kind = next((name for name in ("loss", "eval_loss") if name in row), "")
            kept[int(row.get("step", 0)), kind] = row
        return sorted(kept.values(), key=lambda row: int(row.get("step", 0)))

    def write(self, name: str, text: str) -> None:
        """Replace one of its files, whole or not at all."""
        with replacing(self.folder / name) as part:
            part.write_text(text, encoding="utf-8")

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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run: two processes that train it would spoil it. The system frees it when a process dies."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise SetupError(
                f"The run {self.name} is being trained by another process.", "Wait for it, or stop it first."
            ) from error
        try:
            yield
        finally:
            lock.release()


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that a checkpoint has behind it."""
    found = CHECKPOINT.fullmatch(checkpoint.name)
    return int(found[1]) if found else 0


def mark_whole(checkpoint: Path) -> None:
    """Say that a checkpoint is complete, once its bytes are on the disk."""
    files = {str(path.relative_to(checkpoint)): path for path in sorted(checkpoint.rglob("*")) if path.is_file()}
    for path in files.values():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
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
    made = folder(settings) / f"{safe}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    while made.exists():
        number += 1
        made = made.with_name(f"{made.name.partition('+')[0]}+{number}")
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


def _lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines; what a killed process wrote half is left out."""
    rows = []
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict):
                    rows.append(row)
    return rows
