"""Read suites, which say what is benchmarked: files beside this one, or any lm-eval task by name. Runs nothing.

A suite names lm-eval's tasks; prompts, few-shot and metrics stay lm-eval's own.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from playground.errors import ConfigError, UnknownNameError
from playground.system import documents

FOLDER = Path(__file__).with_name("suites")


class Sampled(BaseModel):
    """A fixed sample of each task's documents, the same on every machine, with its labels as even as they allow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    documents: int = Field(gt=0, description="documents of each task")
    seed: int = Field(ge=0)
    label: str = Field(default="label", description="the field of a document that holds its label")


class Suite(BaseModel):
    """Tasks, numbers of examples before each question, and how many documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    description: str = ""
    tasks: list[str] = Field(min_length=1, description="lm-eval's names of tasks, groups or tags")
    shots: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, description="one run each")
    limit: int | None = Field(default=None, gt=0, description="only the first documents of each task")
    sample: Sampled | None = None

    @field_validator("tasks", "shots")
    @classmethod
    def _no_twins(cls, values: list[Any]) -> list[Any]:
        if len(set(values)) < len(values):
            raise ValueError(f"{', '.join(map(str, values))} has something twice")
        return values

    @property
    def partial(self) -> bool:
        """Return whether it asks only some documents, which is then said wherever its numbers stand."""
        return self.limit is not None or self.sample is not None

    def chosen(
        self, tasks: Sequence[str] | None = None, shots: Sequence[int] | None = None, limit: int | None = None
    ) -> "Suite":
        """Return the same suite with some of its tasks (`copa` or `kobest_copa`), other shots, or a limit."""
        changes: dict[str, Any] = {}
        if tasks:
            changes["tasks"] = [self._task(task) for task in tasks]
        if shots:
            changes["shots"] = list(shots)
        if limit is not None:
            changes |= {"limit": limit, "sample": None}
        return _valid(self.model_dump() | changes, f"The choice from suite {self.name}")

    def _task(self, name: str) -> str:
        """Return a task by its full name, or by what stands after the first underscore."""
        for task in self.tasks:
            if name in (task, task.partition("_")[2]):
                return task
        raise UnknownNameError(f"task in suite {self.name}", name, [*self.tasks, *map(_short, self.tasks)])


def _short(task: str) -> str:
    return task.partition("_")[2] or task


def names() -> list[str]:
    """Return the names of the suites that have a file."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def read(path: Path) -> Suite:
    """Read one suite's file; all its faults in one error."""
    return _valid({"name": path.stem} | documents.read_fields(path, "suite", FOLDER), str(path))


def _valid(row: dict[str, Any], what: str) -> Suite:
    try:
        return Suite.model_validate(row)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise ConfigError(f"{what} has faults: {faults}.", f"The suites in {FOLDER} show the fields.") from error


def find(name: str) -> Suite:
    """Return a suite by name, by its file's path, or one made of an lm-eval task, group or tag of that name."""
    if name in names():
        return read(FOLDER / f"{name}.yaml")
    if name.endswith((".yaml", ".yml")):
        return read(Path(name))
    if name not in known_tasks():
        remedy = "`lm-eval ls tasks` lists them all."
        error = UnknownNameError("suite or lm-eval task", name, {*names(), *known_tasks()}, remedy)
        if not error.near:  # lm-eval knows thousands: listing them all helps nobody
            error.hint = f"Suites: {', '.join(names())}. {remedy}"
        raise error
    return Suite(name=name, description=f"lm-eval's {name}", tasks=[name], shots=[0])


@cache
def known_tasks() -> tuple[str, ...]:
    """Return every task, group and tag that lm-eval knows; the first call takes seconds."""
    from lm_eval.tasks import TaskManager

    return tuple(TaskManager().all_tasks)


def balanced(labels: Sequence[Hashable], documents: int, seed: int) -> list[int]:
    """Return the sorted places of a sample, every label as often as the rarest allow; the same on every machine.

    Order comes from SHA-256 of seed, label and place, since random number generators may change between versions.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        rows[str(label)].append(place)
    ranked = [sorted(rows[label], key=lambda place: _rank(seed, label, place)) for label in sorted(rows)]
    turns = [
        place for turn in range(max(map(len, ranked), default=0)) for row in ranked for place in row[turn : turn + 1]
    ]
    return sorted(turns[:documents])


def _rank(seed: int, label: str, place: int) -> bytes:
    return sha256(f"{seed}/{label}/{place}".encode()).digest()


def samples(suite: Suite, documents: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[int]] | None:
    """Return lm-eval's `samples` argument for a suite that samples: task -> places; None for one that does not.

    `documents` are each task's own, in lm-eval's order (`task.eval_docs`), which the places count.
    """
    if suite.sample is None:
        return None
    chosen = {}
    for task, rows in documents.items():
        if rows and suite.sample.label not in rows[0]:
            raise ConfigError(
                f"{task} has no field {suite.sample.label!r} to balance suite {suite.name} by.",
                f"Its fields are {', '.join(rows[0])}.",
            )
        chosen[task] = balanced([row[suite.sample.label] for row in rows], suite.sample.documents, suite.sample.seed)
    return chosen
