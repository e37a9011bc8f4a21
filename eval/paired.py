"""Compute paired statistics: what two variants' answers to the same documents can and cannot show. Words: sentences.py.

Everything follows from a 2 x 2 table per task (who was right where), so that a resample of documents is one multinomial
draw of its cells, and 10,000 resamples cost milliseconds. Shares are fractions of 1, never points of 100.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, norm

ALPHA = 0.05
POWER = 0.8
MARGIN = 0.01
RESAMPLES = 10_000
SEED = 1234
FEW = 10
"""Where the two differ on fewer documents, resampling sees too few of them, and its interval is too narrow (where
they differ on none, it has no width at all): the adjusted Wald interval stands in."""

Change = Literal["better", "worse", "undecided"]
Kept = Literal["shown", "refuted", "undecided"]


@dataclass(frozen=True)
class Interval:
    """Both ends of an interval: of 95 % unless another alpha was asked for."""

    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """A share or a macro-F1 with its interval over n documents; not a number where n is 0."""

    value: float
    interval: Interval
    n: int


@dataclass(frozen=True)
class Table:
    """Documents of one task by who was right: both, the base alone (lost), the variant alone (gained), neither."""

    both: int
    lost: int
    gained: int
    neither: int

    @classmethod
    def of(cls, base: ArrayLike, variant: ArrayLike) -> "Table":
        """Count two rows of right (true) and wrong (false), document by document."""
        one, other = np.asarray(base, dtype=bool), np.asarray(variant, dtype=bool)
        if one.shape != other.shape or one.ndim != 1:
            raise ValueError(f"two rows of equal length are needed, not {one.shape} and {other.shape}")
        both, lost, gained = ((one & other).sum(), (one & ~other).sum(), (~one & other).sum())
        return cls(int(both), int(lost), int(gained), int(one.size - both - lost - gained))

    @property
    def n(self) -> int:
        """Return the number of documents."""
        return self.both + self.lost + self.gained + self.neither

    @property
    def discordant(self) -> int:
        """Return the number of documents on which one was right and the other wrong."""
        return self.lost + self.gained


@dataclass(frozen=True)
class Difference:
    """Variant minus base on the same documents; the mean over tasks where there are several tables."""

    n: int
    base: float
    variant: float
    value: float
    interval: Interval
    method: Literal["bootstrap", "adjusted wald"]
    lost: int
    gained: int
    p: float
    smallest: float | None
    verdict: Change
    tables: tuple[Table, ...] = ()
    p_adjusted: float | None = None
    family: int = 1


@dataclass(frozen=True)
class Loss:
    """Whether a build lost no more than `margin`: two one-sided tests at alpha / 2, from the adjusted Wald interval.

    `bound` is the largest loss that these documents leave possible: the interval's end, so at 97.5 %.
    """

    n: int
    margin: float
    value: float
    bound: float
    p_shown: float
    p_refuted: float
    verdict: Kept
    tables: tuple[Table, ...] = ()
    p_shown_adjusted: float | None = None
    p_refuted_adjusted: float | None = None
    family: int = 1


def wilson(right: int, n: int, alpha: float = ALPHA) -> Interval:
    """Return Wilson's score interval of a share (Wilson 1927); [0, 1] where there is no document.

    Unlike the textbook interval it stays inside [0, 1] and keeps its coverage near both ends, where easy tasks lie.
    """
    if not n:
        return Interval(0.0, 1.0)
    z, share = _z(alpha / 2), right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if right == 0 else max(0.0, float(centre - half))
    return Interval(low, 1.0 if right == n else min(1.0, float(centre + half)))


def accuracy(right: ArrayLike, alpha: float = ALPHA) -> Score:
    """Return the share of right answers with Wilson's interval."""
    row = np.asarray(right, dtype=bool)
    share = float(row.mean()) if row.size else float("nan")
    return Score(share, wilson(int(row.sum()), row.size, alpha), row.size)


def mean_accuracy(scores: Sequence[Score]) -> Score:
    """Return the unweighted mean over tasks; its interval joins theirs (MOVER, Zou and Donner 2008).

    Not lm-eval's group score, which weights tasks by their size.
    """
    if not scores:
        return Score(float("nan"), Interval(0.0, 1.0), 0)
    value = float(np.mean([score.value for score in scores]))
    below = np.sqrt(sum((s.value - s.interval.low) ** 2 for s in scores)) / len(scores)
    above = np.sqrt(sum((s.interval.high - s.value) ** 2 for s in scores)) / len(scores)
    return Score(value, Interval(float(value - below), float(value + above)), sum(score.n for score in scores))


def macro_f1(
    gold: Sequence[int] | NDArray[np.int_],
    predicted: Sequence[int] | NDArray[np.int_],
    alpha: float = ALPHA,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Score:
    """Return macro-F1 as scikit-learn has it, with a percentile bootstrap interval over documents."""
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} labels and {len(predicted)} answers")
    if not len(gold):
        return Score(float("nan"), Interval(0.0, 1.0), 0)
    classes, codes = np.unique(np.concatenate([np.asarray(gold), np.asarray(predicted)]), return_inverse=True)
    k, n = len(classes), len(gold)
    counts = np.bincount(codes[:n] * k + codes[n:], minlength=k * k)
    draws = np.random.default_rng(seed).multinomial(n, counts / n, size=resamples).reshape(resamples, k, k)
    return Score(float(_f1(counts.reshape(1, k, k))[0]), _percentiles(_f1(draws), alpha), n)


def _f1(confusion: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return macro-F1 of each confusion matrix [r, gold, predicted]; a class without gold or answers does not count."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    used = confusion.sum(axis=1) + confusion.sum(axis=2)
    each = np.divide(2.0 * hits, used, out=np.zeros(hits.shape), where=used > 0)
    return np.asarray(each.sum(axis=1) / np.maximum((used > 0).sum(axis=1), 1), dtype=np.float64)


def difference(
    tables: Sequence[Table], alpha: float = ALPHA, resamples: int = RESAMPLES, seed: int = SEED
) -> Difference:
    """Compare a variant with its base: one task, or the unweighted mean over several (resampled within each task).

    p is exact McNemar's for one task. For a mean it is the paired randomization test: under the null each discordant
    document could as well have flipped the other way, so gained ~ Binomial(discordant, 1/2) in each task.
    """
    tables = [table for table in tables if table.n]
    if not tables:
        nothing = float("nan")
        return Difference(0, nothing, nothing, nothing, Interval(-1, 1), "adjusted wald", 0, 0, 1.0, None, "undecided")
    base, variant = (_mean([getattr(t, who) + t.both for t in tables], tables) for who in ("lost", "gained"))
    value = _mean([t.gained - t.lost for t in tables], tables)
    few = sum(table.discordant for table in tables) < FEW
    p = mcnemar(tables[0].lost, tables[0].gained) if len(tables) == 1 else _randomization(tables, seed)
    return Difference(
        n=sum(table.n for table in tables),
        base=base,
        variant=variant,
        value=value,
        interval=adjusted_wald(tables, alpha) if few else bootstrap(tables, alpha, resamples, seed),
        method="adjusted wald" if few else "bootstrap",
        lost=sum(table.lost for table in tables),
        gained=sum(table.gained for table in tables),
        p=p,
        smallest=smallest_difference(tables, alpha),
        verdict=_change(value, p, alpha),
        tables=tuple(tables),
    )


def bootstrap(tables: Sequence[Table], alpha: float = ALPHA, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Return the percentile bootstrap interval of the mean difference.

    Documents are resampled in pairs, so that what is hard for both cancels out, and within their task, whose size is
    fixed.
    """
    random = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for t in tables:
        cells = np.array([t.both, t.lost, t.gained, t.neither]) / t.n
        draws = random.multinomial(t.n, cells, size=resamples)
        total += (draws[:, 2] - draws[:, 1]) / t.n
    return _percentiles(total / len(tables), alpha)


def adjusted_wald(tables: Sequence[Table], alpha: float = ALPHA) -> Interval:
    """Return Bonett and Price's adjusted Wald interval of a paired difference (2012), its variances summed over tasks.

    One document is added to each discordant cell, so that few or no discordant documents do not pass for certainty
    (recommended by Fagerland, Lydersen and Laake, Statistics in Medicine 2014).
    """
    centre, error = _adjusted(tables)
    z = _z(alpha / 2)
    return Interval(max(-1.0, centre - z * error), min(1.0, centre + z * error))


def mcnemar(lost: int, gained: int) -> float:
    """Return McNemar's exact two-sided p; 1 where no document is discordant.

    Documents that both got right, or both wrong, say nothing of the difference. Of the others, were there none, each
    would fall to either side like a fair coin.
    """
    return float(binomtest(gained, lost + gained, 0.5).pvalue) if lost + gained else 1.0


def smallest_difference(tables: Sequence[Table], alpha: float = ALPHA, power: float = POWER) -> float | None:
    """Return the smallest true difference that so many documents would show with 80 % power; None where none would.

    Solves n = (z_a sqrt(D) + z_b sqrt(D - d^2))^2 / d^2 for d, D the share of discordant documents observed (Connor,
    Biometrics 1987), where D cannot be less than d itself. A mean over tasks takes d = (z_a + z_b) SE with
    SE^2 = sum((D + 2/n) / n) / T^2.
    """
    if len(tables) > 1:
        spread = sum((t.discordant + 2) / (t.n + 2) / (t.n + 2) for t in tables) ** 0.5 / len(tables)
        needed = float((_z(alpha / 2) + _z(1 - power)) * spread)
        return needed if needed <= 1 else None
    (t,) = tables
    if 2 * binom.pmf(0, t.n, 0.5) > alpha:
        return None  # even if every document flipped the same way, exact McNemar would not see it

    def missing(d: float) -> float:
        share = max(t.discordant / t.n, d)
        root = _z(alpha / 2) * share**0.5 + _z(1 - power) * max(share - d * d, 0.0) ** 0.5
        return float(d * t.n**0.5 - root)

    return float(brentq(missing, 1e-9, 1.0)) if missing(1.0) >= 0 else None


def loss(tables: Sequence[Table], margin: float = MARGIN, alpha: float = ALPHA) -> Loss:
    """Test non-inferiority: was no more than `margin` lost? Shown, refuted, or not decided by these documents.

    No significant difference does not mean no loss: few documents show no difference either. Here the loss must be
    shown to lie below the margin.

    The margin is compared with the two-sided 1 - alpha interval, that is each side tested at alpha / 2 (ICH E9, 3.3.2).
    """
    if not 0 < margin < 1:
        raise ValueError(f"the margin is a share between 0 and 1, not {margin}")
    tables = [table for table in tables if table.n]
    if not tables:
        return Loss(0, margin, float("nan"), 1.0, 1.0, 1.0, "undecided")
    centre, error = _adjusted(tables)
    z = (centre + margin) / error
    shown, refuted = float(norm.sf(z)), float(norm.cdf(z))
    return Loss(
        n=sum(table.n for table in tables),
        margin=margin,
        value=_mean([t.gained - t.lost for t in tables], tables),
        bound=_bound(tables, alpha),
        p_shown=shown,
        p_refuted=refuted,
        verdict=_kept(shown, refuted, alpha),
        tables=tuple(tables),
    )


def _bound(tables: Sequence[Table], alpha: float) -> float:
    return max(0.0, -adjusted_wald(tables, alpha).low)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values (1979), in the order given.

    The smallest of m is multiplied by m, the next by m - 1, and so on, and none may fall below the one before it. The
    chance of one false alarm in the whole family stays below alpha, whatever the comparisons have in common.
    """
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def correct_differences(differences: Sequence[Difference], alpha: float = ALPHA) -> list[Difference]:
    """Return the same differences as one family: p adjusted by Holm, and verdicts from it. One alone stays as it is.

    The smallest difference that could be shown is then that of Holm's first step, alpha / m: a difference left
    undecided is always smaller. Intervals stay those of each comparison alone.
    """
    if len(differences) < 2:
        return list(differences)
    size = len(differences)
    return [
        replace(
            one,
            p_adjusted=p,
            family=size,
            verdict=_change(one.value, p, alpha),
            smallest=smallest_difference(one.tables, alpha / size) if one.tables else None,
        )
        for one, p in zip(differences, holm([one.p for one in differences]), strict=True)
    ]


def correct_losses(losses: Sequence[Loss], alpha: float = ALPHA) -> list[Loss]:
    """Return the same losses as one family: each side adjusted by Holm, verdicts from it, bounds at alpha / m."""
    if len(losses) < 2:
        return list(losses)
    size = len(losses)
    shown, refuted = holm([one.p_shown for one in losses]), holm([one.p_refuted for one in losses])
    return [
        replace(
            one,
            p_shown_adjusted=s,
            p_refuted_adjusted=r,
            family=size,
            verdict=_kept(s, r, alpha),
            bound=_bound(one.tables, alpha / size) if one.tables else one.bound,
        )
        for one, s, r in zip(losses, shown, refuted, strict=True)
    ]


def _randomization(tables: Sequence[Table], seed: int, draws: int = 100_000) -> float:
    """Return the two-sided p of the stratified paired randomization test, counted over seeded draws (never 0)."""
    random = np.random.default_rng(seed)
    observed = abs(sum((t.gained - t.lost) / t.n for t in tables))
    if not any(table.discordant for table in tables):
        return 1.0
    drawn = sum((2 * random.binomial(t.discordant, 0.5, draws) - t.discordant) / t.n for t in tables)
    # The observed outcome counts as one draw, so that p is never 0; the slack keeps ties from being lost to rounding.
    return float((1 + np.count_nonzero(np.abs(drawn) >= observed - 1e-12)) / (1 + draws))


def _adjusted(tables: Sequence[Table]) -> tuple[float, float]:
    """Return Bonett and Price's estimate of the mean difference, and its standard error."""
    centre = variance = 0.0
    for t in tables:
        lost, gained = (t.lost + 1) / (t.n + 2), (t.gained + 1) / (t.n + 2)
        centre += gained - lost
        variance += (lost + gained - (gained - lost) ** 2) / (t.n + 2)
    return centre / len(tables), float(variance**0.5 / len(tables))


def _mean(counts: Sequence[int], tables: Sequence[Table]) -> float:
    return sum(count / table.n for count, table in zip(counts, tables, strict=True)) / len(tables)


def _percentiles(values: NDArray[np.float64], alpha: float) -> Interval:
    low, high = np.quantile(values, [alpha / 2, 1 - alpha / 2])
    return Interval(float(low), float(high))


def _z(tail: float) -> float:
    return float(norm.isf(tail))


def _change(value: float, p: float, alpha: float) -> Change:
    if p > alpha or not value:
        return "undecided"
    return "better" if value > 0 else "worse"


def _kept(shown: float, refuted: float, alpha: float) -> Kept:
    if shown <= alpha / 2:
        return "shown"
    return "refuted" if refuted <= alpha / 2 else "undecided"
