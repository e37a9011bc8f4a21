"""Build the leaderboard: each variant under its base, task by task, with what may be said of the difference.

tables.py writes it down. All comparisons of one setting (shots and chat template) are one family for
Holm's correction, whatever of them is looked at later: filtering a board changes no verdict.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from eval import lineage
from eval import results as files
from eval.cells import MEAN, Cell, Comparison
from eval.kobest import LAYOUTS
from eval.lineage import Lineage
from eval.paired import ALPHA, MARGIN, correct_differences, correct_losses
from eval.results import Facts, Result, Results
from eval.samples import ResultsError
from playground.catalogue.variants import Catalogue
from playground.errors import UnknownNameError

Setting = tuple[int, bool, str | None]
"""Shots, whether a chat template was applied, and the system instruction."""
KOBEST = tuple(LAYOUTS)


@dataclass(frozen=True)
class Row:
    """One variant at one setting. `parent` is what it was built from, `base` the model `depth` steps up, at the root.

    `cells` holds its tasks and, under `mean`, their mean, if it was asked all of those that count. `disk` is the bytes
    it takes to run it: an adapter's files and its base's.
    """

    variant: str
    kind: str
    base: str | None
    parent: str | None
    shots: int
    chat: bool
    system: str | None
    cells: dict[str, Cell]
    facts: Facts | None = None
    depth: int = 0
    disk: int | None = None

    @property
    def mean(self) -> Cell | None:
        """Return the mean over the tasks that count."""
        return self.cells.get(MEAN)

    @property
    def main(self) -> Cell | None:
        """Return the cell that stands for the row: its mean, or its one task where there is no more."""
        return self.mean or (next(iter(self.cells.values())) if len(self.cells) == 1 else None)

    @property
    def partial(self) -> bool:
        """Return whether any of its tasks was asked in part only."""
        return any(cell.partial for cell in self.cells.values())

    @property
    def n(self) -> int:
        """Return the number of documents over all its tasks."""
        return sum(cell.n for task, cell in self.cells.items() if task != MEAN)

    @property
    def setting(self) -> Setting:
        """Return what rows must share to be compared."""
        return self.shots, self.chat, self.system


Column = Callable[[Row], float | None]


@dataclass(frozen=True)
class Leaderboard:
    """Rows grouped under their bases, the tasks in order, and what could not be read."""

    tasks: list[str]
    rows: list[Row]
    margin: float = MARGIN
    alpha: float = ALPHA
    faults: list[ResultsError] = field(default_factory=list)

    def only(
        self,
        variants: Sequence[str] = (),
        kinds: Sequence[str] = (),
        shots: int | None = None,
        tasks: Sequence[str] = (),
        whole: bool = False,
    ) -> "Leaderboard":
        """Return fewer rows or columns: variants by name or pattern, kinds, shots, tasks, or whole runs alone."""
        for task in tasks:
            if task not in self.tasks:
                short = [one.removeprefix("kobest_") for one in self.tasks]
                raise UnknownNameError("task on this leaderboard", task, {*self.tasks, *short})
        rows = [
            row
            for row in self.rows
            if (not variants or any(fnmatchcase(row.variant, pattern) for pattern in variants))
            and (not kinds or row.kind in kinds)
            and shots in (None, row.shots)
            and not (whole and row.partial)
        ]
        return replace(self, rows=rows, tasks=[task for task in self.tasks if not tasks or task in tasks])

    def sorted(self, by: str, descending: bool = True) -> "Leaderboard":
        """Sort rows by `variant`, `mean`, a task, `difference`, `size`, `speed`, `drift` or `n`. Gaps come last."""
        columns = {"variant", *COLUMNS, *self.tasks}
        if by not in columns:
            raise UnknownNameError("column to sort by", by, columns)
        if by == "variant":
            return replace(self, rows=sorted(self.rows, key=lambda row: row.variant, reverse=descending))
        key: Column = COLUMNS.get(by, lambda row: row.cells[by].value if by in row.cells else None)
        found = [(value, row) for row in self.rows if (value := key(row)) is not None]
        ranked = [row for _, row in sorted(found, key=lambda pair: pair[0], reverse=descending)]
        return replace(self, rows=[*ranked, *(row for row in self.rows if key(row) is None)])


COLUMNS: dict[str, Column] = {
    "mean": lambda row: row.mean.value if row.mean else None,
    "difference": lambda row: row.main.difference.value if row.main and row.main.difference else None,
    "size": lambda row: row.facts.size_bytes if row.facts else None,
    "speed": lambda row: row.facts.decode_tokens_per_s if row.facts else None,
    "drift": lambda row: row.facts.drift.mean_kl if row.facts and row.facts.drift else None,
    "n": lambda row: row.n,
}


def build(
    results: Results, catalogue: Catalogue | None = None, margin: float = MARGIN, alpha: float = ALPHA
) -> Leaderboard:
    """Return the leaderboard of a folder's results."""
    known = _facts(results.current)
    family = lineage.of(sorted({result.variant for result in results.current}), known, catalogue)
    tasks = _tasks(results.current)
    runs: dict[Setting, dict[str, dict[str, Result]]] = {}
    for result in results.current:
        setting = (result.shots, result.chat, result.system)
        runs.setdefault(setting, {}).setdefault(result.variant, {})[result.task] = result
    rows = []
    for setting, variants in runs.items():
        for variant, own in variants.items():
            line = family[variant]
            cells = _cells(own, line, variants, tasks, margin, alpha)
            rows.append(_row(variant, line, setting, cells, known))
    rows.sort(key=lambda row: (family[row.variant].path, row.chat, row.system or "", row.shots))
    return Leaderboard(tasks, _corrected(rows, alpha), margin, alpha, results.faults)


def _row(variant: str, line: Lineage, setting: Setting, cells: dict[str, Cell], known: Mapping[str, Facts]) -> Row:
    facts = known.get(variant)
    own, base = (one.size_bytes if one else None for one in (facts, known.get(line.base or "")))
    disk = own if line.kind != "adapter" else own + base if own and base else None
    path = len(line.path) - 1
    return Row(variant, line.kind, line.base, line.parent, *setting, cells, facts, path, disk)


def load(folder: Path, catalogue: Catalogue | None = None, margin: float = MARGIN) -> Leaderboard:
    """Return the leaderboard of a folder of lm-eval's files, wherever they were made."""
    return build(files.load(folder), catalogue, margin)


def _cells(  # noqa: PLR0913 - one place calls it
    own: Mapping[str, Result],
    line: Lineage,
    variants: Mapping[str, Mapping[str, Result]],
    tasks: Sequence[str],
    margin: float,
    alpha: float,
) -> dict[str, Cell]:
    """Return a variant's cells at one setting; the mean is KoBEST's where any of its tasks is on the board."""
    compare = Comparison(
        base=variants.get(line.base or "", {}),
        parent=variants.get(line.parent or "", {}) if line.is_build else {},
        margin=margin,
        alpha=alpha,
        base_name=line.base,
    )
    cells = {task: compare.cell(own[task]) for task in tasks if task in own}
    counted = [task for task in tasks if task in KOBEST] or list(tasks)
    mean = compare.mean([cells[task] for task in counted if task in cells], len(counted))
    return cells | ({MEAN: mean} if mean and len(counted) > 1 else {})


def _facts(results: Iterable[Result]) -> dict[str, Facts]:
    """Return the facts of each variant: of several runs, each fact from the newest that has it."""
    found: dict[str, dict[str, object]] = {}
    for result in sorted((r for r in results if r.facts), key=lambda r: r.date):
        told = result.facts.model_dump(exclude_none=True) if result.facts else {}
        found.setdefault(result.variant, {}).update(told)
    return {variant: Facts.model_validate(told) for variant, told in found.items()}


def _tasks(results: Iterable[Result]) -> list[str]:
    """Return KoBEST's tasks in their order, then the others by name."""
    have = {result.task for result in results}
    return [*(task for task in KOBEST if task in have), *sorted(have - set(KOBEST))]


def _corrected(rows: Sequence[Row], alpha: float) -> list[Row]:
    """Return the rows with Holm's correction over all comparisons of their setting, differences and losses apart.

    Each new comparison is one more chance of a false alarm: a table of ten variants would show one by luck alone.
    """
    cells = {(index, task): cell for index, row in enumerate(rows) for task, cell in row.cells.items()}
    for setting in {row.setting for row in rows}:
        inside = {place: cell for place, cell in cells.items() if rows[place[0]].setting == setting}
        differences = {place: cell.difference for place, cell in inside.items() if cell.difference}
        for place, one in zip(differences, correct_differences(list(differences.values()), alpha), strict=True):
            cells[place] = replace(cells[place], difference=one)
        losses = {place: cell.loss for place, cell in inside.items() if cell.loss}
        for place, other in zip(losses, correct_losses(list(losses.values()), alpha), strict=True):
            cells[place] = replace(cells[place], loss=other)
    return [replace(row, cells={task: cells[index, task] for task in row.cells}) for index, row in enumerate(rows)]
