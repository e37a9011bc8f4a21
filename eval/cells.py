"""Compute one cell of the leaderboard: score, macro-F1, difference to the base, and loss against the parent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from eval.joining import join
from eval.paired import Difference, Loss, Score, Table, accuracy, difference, loss, macro_f1, mean_accuracy
from eval.results import Result
from eval.samples import ResultsError, labels, rights
from eval.sentences import reason

MEAN = "mean"


@dataclass(frozen=True)
class Cell:
    """One variant on one task, or its mean over tasks; `why_not` says what stands in the way of a comparison.

    `unasked` is the task that its base was not asked, or that has no right and wrong (`reason`), where that is the
    reason: it can be said in any language.
    """

    task: str
    value: float
    score: Score | None
    f1: Score | None = None
    error: float | None = None
    higher: bool | None = True
    n: int = 0
    total: int | None = None
    partial: bool = False
    difference: Difference | None = None
    loss: Loss | None = None
    why_not: str | None = None
    unasked: str | None = None
    reason: str = "unasked"
    result: Result | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Comparison:
    """A variant's results beside those of its base and, for builds, of what they were built from."""

    base: Mapping[str, Result]
    parent: Mapping[str, Result]
    margin: float
    alpha: float
    base_name: str | None = None

    def cell(self, result: Result) -> Cell:
        """Return the cell of one task; where a comparison is not possible, the cell holds the reason."""
        right, pairs, why = None, None, None
        try:
            right = result.rights
            pairs = labels(result.documents.marks) if result.metric == "acc,none" else None
        except ResultsError as error:
            why = error.message
        found = Cell(
            task=result.column,
            value=result.value,
            score=accuracy(right) if right and result.is_share else _from_summary(result),
            f1=macro_f1(*pairs) if pairs else None,
            error=result.error,
            higher=result.higher,
            n=result.n,
            total=result.total,
            partial=result.partial,
            why_not=None if result.is_group else why,
            result=result,
        )
        if self.base_name and result.column not in self.base:
            found = replace(found, unasked=result.column, why_not=reason(self.base_name, result.column))
        try:
            base, parent = self._table(self.base, result), self._table(self.parent, result)
        except ResultsError as error:
            return replace(found, why_not=error.message)
        if base is None and not why and not result.is_group and result.column in self.base:
            said = reason(self.base_name or "", result.column, why="untested")
            found = replace(found, unasked=result.column, why_not=said, reason="untested")
        return replace(
            found,
            difference=difference([base], self.alpha) if base else None,
            loss=loss([parent], self.margin, self.alpha) if parent else None,
        )

    def mean(self, cells: Sequence[Cell], needed: int) -> Cell | None:
        """Return the unweighted mean over the tasks that count; None where the variant lacks one of the `needed`."""
        scores = [cell.score for cell in cells if cell.score]
        if not scores or len(scores) < needed:
            return None
        results = [cell.result for cell in cells if cell.result]
        tables = [self._tables(other, results) for other in (self.base, self.parent)]
        reasons = [cell for cell in cells if cell.why_not] if self.base_name and not tables[0] else []
        score = mean_accuracy(scores)
        return Cell(
            task=MEAN,
            value=score.value,
            score=score,
            n=score.n,
            total=sum(cell.total or cell.n for cell in cells),
            partial=any(cell.partial for cell in cells),
            difference=difference(tables[0], self.alpha) if tables[0] else None,
            loss=loss(tables[1], self.margin, self.alpha) if tables[1] else None,
            why_not=reasons[0].why_not if reasons else None,
            unasked=reasons[0].unasked if reasons else None,
            reason=reasons[0].reason if reasons else "unasked",
        )

    def _tables(self, others: Mapping[str, Result], results: Sequence[Result]) -> list[Table]:
        """Return one table per task, or none at all where one task cannot be compared: half a mean is no mean."""
        try:
            tables = [self._table(others, result) for result in results]
        except ResultsError:
            return []
        found = [table for table in tables if table]
        return found if len(found) == len(results) else []

    def _table(self, others: Mapping[str, Result], result: Result) -> Table | None:
        """Return who was right where, of a result and the other's on the same task; None where there is no other."""
        other = others.get(result.column)
        if other is None or other is result or result.is_group:
            return None
        if other.rights is None or result.rights is None:
            return None  # loss of a language model, BLEU: no document is right or wrong
        joined = join(other, result)
        before, after = rights(joined.base, result.metric), rights(joined.variant, result.metric)
        return Table.of(before, after) if before is not None and after is not None else None


def _from_summary(result: Result) -> Score | None:
    """Return a score from lm-eval's own accuracy and n, for results whose documents are missing.

    An accuracy of n documents is a whole number of right answers, so rounding recovers it and Wilson's interval holds;
    one that is not has documents that are right in part, and stands as it is.
    """
    right = round(result.value * result.n)
    if result.n < 1 or not result.is_share or result.higher is not True or abs(right / result.n - result.value) > 1e-6:
        return None
    return accuracy([True] * right + [False] * (result.n - right))
