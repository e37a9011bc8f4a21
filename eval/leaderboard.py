"""Build the leaderboard: each variant under its base, task by task, with what may be said of the difference.

tables.py writes it down. All comparisons of one setting (shots and chat template) are one family for
Holm's correction, whatever of them is looked at later: filtering a board changes no verdict.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from eval import columns, lineage
from eval import results as files
from eval.cells import MEAN, Cell, Comparison
from eval.lineage import Lineage
from eval.origin import Pairs, is_quantized, named
from eval.paired import ALPHA, MARGIN, correct_differences, correct_losses
from eval.results import Facts, Result, Results
from eval.samples import ResultsError, labels
from playground.catalogue.variants import Catalogue
from playground.errors import ConfigError, UnknownNameError

Setting = tuple[int, bool, str | None]
"""Shots, whether a chat template was applied, and the system instruction."""


@dataclass(frozen=True)
class Row:
    """One variant at one setting. `parent` is what it was built from, `base` the model `depth` steps up, at the root;
    both by the names of their rows. `differs`: arguments that tell it from other rows of its variant; `behind`: how
    many older or partial runs of the same arguments are not shown.

    `cells` holds its columns and, under `mean`, their mean, if it was asked all of those that count. `disk` is the
    bytes it takes to run it: an adapter's files and its base's.
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
    differs: Pairs = ()
    behind: int = 0

    @property
    def name(self) -> str:
        """Return its variant, with what tells it from other rows of that."""
        return named(self.variant, self.differs)

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
        return sum(one.n for one in self._tasks)

    @property
    def total(self) -> int:
        """Return how many documents its tasks have, asked or not."""
        return sum(one.total or one.n for one in self._tasks)

    @property
    def _tasks(self) -> Iterable[Result]:
        """Return one result of each task: its metrics are of the same documents."""
        return {one.task: one for cell in self.cells.values() if (one := cell.result)}.values()

    @property
    def setting(self) -> Setting:
        """Return what rows must share to be compared."""
        return self.shots, self.chat, self.system


Column = Callable[[Row], float | None]
Place = tuple[str, Pairs]
"""A variant, and what tells a row from others of it."""


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
            if not any(_is_of(column, task) for column in self.tasks):
                raise UnknownNameError("task on this leaderboard", task, {*self.tasks, *map(self.short, self.tasks)})
        rows = [
            row
            for row in self.rows
            if (
                not variants
                or any(name == one or fnmatchcase(name, one) for name in (row.variant, row.name) for one in variants)
            )
            and (not kinds or row.kind in kinds)
            and shots in (None, row.shots)
            and not (whole and row.partial)
        ]
        return replace(
            self,
            rows=rows,
            tasks=[column for column in self.tasks if not tasks or any(_is_of(column, task) for task in tasks)],
        )

    def short(self, column: str) -> str:
        """Return a column's name without KoBEST's, unless that is another task's: English BoolQ stands beside it."""
        plain = column.removeprefix("kobest_")
        return column if plain in self.tasks else plain

    def higher(self, column: str) -> bool | None:
        """Return whether higher is better in a column; None where a row does not say, or rows say different things."""
        said = {row.cells[column].higher for row in self.rows if column in row.cells}
        return said.pop() if len(said) == 1 else None

    def sorted(self, by: str, descending: bool = True) -> "Leaderboard":
        """Sort rows by `variant`, `mean`, a task, `difference`, `size`, `speed`, `drift` or `n`. Gaps come last.

        A column of scores has its best first, where `descending`; one that nobody gave a direction cannot be ranked.
        """
        columns = {"variant", *COLUMNS, *self.tasks}
        if by not in columns:
            raise UnknownNameError("column to sort by", by, columns)
        if by in self.tasks and (higher := self.higher(by)) is not True:
            if higher is None:
                raise ConfigError(f"Nobody says whether higher is better in {by}.", "Sort by another column.")
            descending = not descending
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


def _is_of(column: str, task: str) -> bool:
    return column == task or column.startswith(f"{task} ")


def build(
    results: Results, catalogue: Catalogue | None = None, margin: float = MARGIN, alpha: float = ALPHA
) -> Leaderboard:
    """Return the leaderboard of a folder's results."""
    current = columns.placed([one for one in results.current if not _is_in_another(one)])
    known = _facts(current)
    family = lineage.of(sorted({result.variant for result in current}), known, catalogue)
    order, heads = columns.ordered(current), columns.heads(current)
    runs: dict[Setting, dict[Place, dict[str, Result]]] = {}
    for result in current:
        setting = (result.shots, result.chat, result.system)
        runs.setdefault(setting, {}).setdefault((result.variant, result.differs), {})[result.column] = result
    rows = []
    for setting, places in runs.items():
        for place, own in places.items():
            line = _line(family[place[0]], place)
            beside = {who: _beside(place, who, line, places) for who in {line.base, line.parent} - {None}}
            cells = _cells(own, line, places, beside, (order, heads), (margin, alpha))
            row = _row(place, line, setting, cells, known)
            names = {who: named(*found) for who, found in beside.items() if found}
            base, parent = (names.get(one, one) for one in (row.base, row.parent))
            rows.append(replace(row, base=base, parent=parent, behind=_behind(results.older, place, setting)))
    rows.sort(key=lambda row: (family[row.variant].path, row.differs, row.chat, row.system or "", row.shots))
    return Leaderboard(order, _corrected(rows, alpha), margin, alpha, results.faults)


def _is_in_another(result: Result) -> bool:
    """Return whether it is macro-F1 over documents that are there: it stands with the accuracy, and its interval."""
    try:
        return result.metric == "f1,none" and labels(result.documents.marks) is not None
    except ResultsError:
        return False


def _line(line: Lineage, place: Place) -> Lineage:
    """Return a row's lineage: of a model that was quantized on loading, the same model is the parent."""
    variant, differs = place
    if line.kind != "base" or not is_quantized(differs):
        return line
    return Lineage("quantized", variant, variant, (*line.path, named(*place)))


def _beside(place: Place, who: str | None, line: Lineage, places: Iterable[Place]) -> Place | None:
    """Return the row to compare one with, of a variant: the one that was run most like it."""
    mine = set(place[1])
    same = [one for one in places if one[0] == who and one != place]
    if line.kind == "quantized":
        same = [one for one in same if not is_quantized(one[1])]
    return max(same, key=lambda one: (len(mine & set(one[1])), -len(one[1])), default=None)


def _behind(older: Iterable[Result], place: Place, setting: Setting) -> int:
    same = [one for one in older if (one.variant, one.differs) == place]
    return len({one.file for one in same if (one.shots, one.chat, one.system) == setting})


def _row(place: Place, line: Lineage, setting: Setting, cells: dict[str, Cell], known: Mapping[str, Facts]) -> Row:
    facts = known.get(place[0])
    own, base = (one.size_bytes if one else None for one in (facts, known.get(line.base or "")))
    disk = own if line.kind != "adapter" else own + base if own and base else None
    depth = len(line.path) - 1
    return Row(place[0], line.kind, line.base, line.parent, *setting, cells, facts, depth, disk, place[1])


def load(folder: Path, catalogue: Catalogue | None = None, margin: float = MARGIN) -> Leaderboard:
    """Return the leaderboard of a folder of lm-eval's files, wherever they were made."""
    return build(files.load(folder), catalogue, margin)


def _cells(  # noqa: PLR0913 - one place calls it
    own: Mapping[str, Result],
    line: Lineage,
    places: Mapping[Place, Mapping[str, Result]],
    beside: Mapping[str | None, Place | None],
    names: tuple[list[str], list[str]],
    limits: tuple[float, float],
) -> dict[str, Cell]:
    """Return a row's cells; the mean is KoBEST's where any of its tasks is on the board."""
    order, heads = names
    base, parent = (beside.get(who) for who in (line.base, line.parent))
    compare = Comparison(
        base=places[base] if base else {},
        parent=places[parent] if parent and line.is_build else {},
        margin=limits[0],
        alpha=limits[1],
        base_name=named(*base) if base else line.base,
    )
    cells = {column: compare.cell(own[column]) for column in order if column in own}
    counted = [column for column in order if column in columns.KOBEST] or heads
    mean = compare.mean([cells[column] for column in counted if column in cells], len(counted))
    return cells | ({MEAN: mean} if mean and len(counted) > 1 else {})


def _facts(results: Iterable[Result]) -> dict[str, Facts]:
    """Return the facts of each variant: of several runs, each fact from the newest that has it."""
    found: dict[str, dict[str, object]] = {}
    for result in sorted((r for r in results if r.facts), key=lambda r: r.date):
        told = result.facts.model_dump(exclude_none=True) if result.facts else {}
        found.setdefault(result.variant, {}).update(told)
    return {variant: Facts.model_validate(told) for variant, told in found.items()}


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
