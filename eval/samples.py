"""Read the documents of lm-eval's samples_<task>_<iso>.jsonl: what was asked, answered and earned. Not whole runs."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from playground.errors import MadangError
from playground.system.paths import refuse_special


class ResultsError(MadangError):
    """A results file is broken, empty or not lm-eval's, or two runs cannot be compared."""


class Mark(BaseModel):
    """One document's hashes and the scores that it earned: all that statistics need, and small enough to keep."""

    model_config = ConfigDict(frozen=True)

    doc_id: int
    filter: str = "none"
    doc_hash: str
    prompt_hash: str
    target_hash: str
    values: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _collect_values(cls, row: Any) -> Any:
        """Collect the scores, which stand among the other keys under the names of their metrics."""
        if not isinstance(row, dict):
            return row
        named = row.get("metrics")
        names = named if isinstance(named, list) else [key for key in row if key not in Sample.model_fields]
        return row | {"values": {name: row[name] for name in names if name in row}}


class Sample(Mark):
    """One document with its prompt, choices and answers, for a person to read."""

    doc: dict[str, Any]
    target: str
    arguments: Any = None
    resps: Any = None
    filtered_resps: Any = None

    @property
    def prompt(self) -> str:
        """Return the context as it was sent, before the choices."""
        return str(self._sent[0][0]) if self._sent else ""

    @property
    def choices(self) -> list[str]:
        """Return the continuations that were scored, in order; none for tasks that generate."""
        return [str(sent[1]) for sent in self._sent if len(sent) > 1 and isinstance(sent[1], str)]

    @property
    def scores(self) -> list[float]:
        """Return the log-likelihood of each choice in nats; none for tasks that generate."""
        pairs = self.filtered_resps if self.choices else []
        return [float(pair[0]) for pair in pairs if isinstance(pair, list)]

    def answer(self, metric: str = "acc") -> int | None:
        """Return the choice that a metric looks at, counted from 0: the likeliest, or that by length; or None."""
        long = LENGTHS.get(metric)
        if not self.scores or long is None:
            return None
        pairs = zip(self.scores, self.choices, strict=False)
        scores = [score / (long(choice.removeprefix(" ")) or 1) for score, choice in pairs]
        return max(range(len(scores)), key=scores.__getitem__)

    @property
    def _sent(self) -> list[list[Any]]:
        arguments = self.arguments or {}
        rows = arguments.values() if isinstance(arguments, dict) else arguments
        return [list(row.values()) if isinstance(row, dict) else list(row) for row in rows]


LENGTHS: dict[str, Callable[[str], int]] = {
    "acc": lambda text: 1,
    "acc_norm": len,
    "acc_bytes": lambda text: len(text.encode()),
}
"""What lm-eval divides the score of a choice by, by metric."""
M = TypeVar("M", bound=Mark)


def read(path: Path, kind: type[M]) -> list[M]:
    """Read a samples file as marks or whole samples; ResultsError names the first broken line."""
    found = [_parsed(path, number, line, kind) for number, line in enumerate(_lines(path), start=1) if line.strip()]
    if not found:
        raise ResultsError(f"{path} is empty.", "Its run was cut off: run the benchmark again.")
    return found


def _lines(path: Path) -> Iterator[str]:
    refuse_special(path, ResultsError)
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            if path.suffix == ".json":  # lm-eval 0.4.3 alone wrote a list
                yield from map(json.dumps, json.load(file))
            else:
                yield from file
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ResultsError(f"{path} cannot be read: {error}.", "Restore it, or run the benchmark again.") from error


def _parsed(path: Path, number: int, line: str, kind: type[M]) -> M:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "JSON"
        hint = "The run may have been cut off: run it again."
        if place.endswith("_hash"):
            hint = "Old versions of lm-eval wrote no hashes: run it again with 0.4.3 or newer."
        raise ResultsError(f"{path}, line {number}: {place}: {fault['msg']}.", hint) from error


def rights(marks: Iterable[Mark], metric: str) -> list[bool] | None:
    """Return right or wrong by a metric with its filter (`acc,none`); None where a value is neither 0 nor 1."""
    name, _, chosen = metric.partition(",")
    values = [mark.values.get(name) for mark in marks if mark.filter == chosen]
    return [bool(value) for value in values] if values and all(value in (0, 1) for value in values) else None


def labels(marks: Iterable[Mark]) -> tuple[list[int], list[int]] | None:
    """Return gold and given labels, as lm-eval's macro-F1 takes them; None for tasks without it."""
    rows = [mark.values.get("f1") for mark in marks if mark.filter == "none"]
    pairs = [row for row in rows if isinstance(row, list) and len(row) == 2]
    if not pairs or len(pairs) < len(rows):
        return None
    return [int(gold) for gold, _ in pairs], [int(given) for _, given in pairs]


def by_document(marks: Sequence[M], chosen: str) -> dict[tuple[str, int], M]:
    """Return the marks of one filter by document hash and by how often that hash occurred before."""
    seen: dict[str, int] = defaultdict(int)
    found = {}
    for mark in marks:
        if mark.filter == chosen:
            found[mark.doc_hash, seen[mark.doc_hash]] = mark
            seen[mark.doc_hash] += 1
    return found
