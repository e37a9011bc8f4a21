"""The folder of a run or an export: its files, its state, what happened in it, and its lock. Knows neither kind."""

import json
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from playground.errors import ConfigError, SetupError, UnknownNameError
from playground.system import progress
from playground.system.atomic import replacing
from playground.system.locks import locked
from playground.values import Value
from playground.wording import Wording

STATE, EVENTS, LOCK = "state.json", "events.jsonl", ".lock"


class State(Value):
    """How the work stands, for the page and the terminal. Times in seconds since 1970; every field has a default."""

    status: str = "preparing"
    started: float = 0.0
    ended: float | None = None
    message: Wording = ""
    hint: Wording = ""


class Event(BaseModel):
    """One thing that happened: a line of events.jsonl. `at` in seconds since 1970, `message` a sentence for people.

    A kind of event writes the fields that it needs; those that a version does not know are passed over.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float = 0.0
    kind: str = ""
    message: Wording = ""
    hint: Wording = ""
    step: int | None = None
    best: int | None = None
    """Of `overfitting`: the step at which the run stopped, and the one whose adapter is kept."""
    before: dict[str, int | bool] = {}
    after: dict[str, int | bool] = {}
    """Of `out_of_memory`: the run's plan, field by field."""
    label: str = ""
    labels: tuple[str, ...] = ()
    repo: str = ""
    url: str = ""
    """Of `parity` and `push`: the artefacts by label, and where they went."""


class Progress(progress.Progress):
    """How far a command of this wing is: its step, the share done, and what it works on or has made, by name."""

    stage: str = ""
    fraction: float = 0.0
    run: str = ""
    export: str = ""
    variant: str = ""


S = TypeVar("S", bound=State)
M = TypeVar("M", bound=BaseModel)
F = TypeVar("F", bound="Folder[Any]")


@dataclass(frozen=True)
class Folder(Generic[S]):
    """Work by its folder; S is the type of its state.json."""

    folder: Path

    noun: ClassVar[str]
    """What the work is called: run, export."""
    asked_in: ClassVar[str]
    """The file that says what was asked for: a folder that has it is work of this kind."""
    taken: ClassVar[str]
    """Refusal to a second process: `The run {name} is being trained`."""
    _state: ClassVar[type[State]]

    @property
    def name(self) -> str:
        """Return its id, the folder's name."""
        return self.folder.name

    def state(self) -> S:
        """Return how the work stands; the state of work just begun where the file cannot be read."""
        kind: type[S] = self._state  # type: ignore[assignment]  # a class variable cannot be typed by S
        with suppress(OSError, ValueError):
            return kind.model_validate_json((self.folder / STATE).read_text(encoding="utf-8"))
        return kind()

    def tell(self, **changes: Any) -> S:
        """Change some fields of the state."""
        state = self.state().model_copy(update=changes)
        self.write(STATE, state.model_dump_json(indent=1))
        return state

    def happened(self, kind: str, message: str, **more: Any) -> None:
        """Add an event; `more` are the fields of its kind. Raises TypeError for one that Event has not."""
        if unknown := more.keys() - Event.model_fields.keys():  # reading passes these over; written, they would be lost
            raise TypeError(f"Event has no field {', '.join(sorted(unknown))}")
        event = Event(at=time.time(), kind=kind, message=message, **more)
        with (self.folder / EVENTS).open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json(exclude_unset=True) + "\n")

    def events(self) -> list[Event]:
        """Return what happened, oldest first; a line that is no event is skipped."""
        found = []
        for row in self.lines(EVENTS):
            with suppress(ValidationError):
                found.append(Event.model_validate(row))
        return found

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the JSON objects of one of its files, one per line; a line that was left half written is skipped."""
        rows = []
        with suppress(OSError):
            for line in (self.folder / name).read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError):
                    row = json.loads(line)
                    if isinstance(row, dict):
                        rows.append(row)
        return rows

    def write(self, name: str, text: str) -> None:
        """Replace one of its files; a reader finds the old text or the new one, never half of it."""
        with replacing(self.folder / name) as part:
            part.write_text(text, encoding="utf-8")

    def read(self, name: str, kind: type[M]) -> M:
        """Return one of its JSON files as a model; ConfigError where it is missing or holds something else."""
        path = self.folder / name
        try:
            return kind.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            remedy = f"The {self.noun} is not complete; begin it again."
            raise ConfigError(f"{path} cannot be read: {error}.", remedy) from error

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder, since two processes at work would spoil it; the system frees it when a process dies."""
        said = self.taken.format(name=self.name)
        refusal = SetupError(f"{said} by another process.", "Wait for it, or stop it first.")
        return locked(self.folder / LOCK, refusal)

    @property
    def held(self) -> bool:
        """Return whether a process is at work in it."""
        try:
            with self.locked():
                return False
        except SetupError:
            return True


def listed(parent: Path, kind: type[F]) -> list[F]:
    """Return the work of one kind below `parent`, the newest first."""
    found = [kind(path.parent) for path in parent.glob(f"*/{kind.asked_in}")]
    return sorted(found, key=lambda work: (work.state().started, work.name), reverse=True)


def find(parent: Path, kind: type[F], name: str) -> F:
    """Return work by its name below `parent`, or by its folder anywhere; UnknownNameError where there is none."""
    if (Path(name) / kind.asked_in).is_file():
        return kind(Path(name).resolve())
    known = {work.name: work for work in listed(parent, kind)}
    if name not in known:
        raise UnknownNameError(kind.noun, name, known, f"{kind.noun.capitalize()}s lie in {parent}.")
    return known[name]


def place(parent: Path, stem: str) -> Path:
    """Return the folder of new work, named after this second, with a number where that is taken. It is not made yet."""
    made = parent / f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    while made.exists():
        number += 1
        made = made.with_name(f"{made.name.partition('+')[0]}+{number}")
    return made
