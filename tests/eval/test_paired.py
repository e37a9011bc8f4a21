"""Paired statistics against scipy, statsmodels and scikit-learn, at their edges, and by simulation."""

import time
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from eval import paired
from eval.paired import Table

counts = st.integers(0, 300)


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.01, 0.05, 0.1]))
def test_wilson_is_statsmodels(n: int, share: float, alpha: float) -> None:
    right = round(share * n)
    low, high = proportion_confint(right, n, alpha=alpha, method="wilson")
    mine = paired.wilson(right, n, alpha)
    assert (mine.low, mine.high) == pytest.approx((max(low, 0), min(high, 1)), abs=1e-12)


@settings(deadline=None)
@given(counts, counts)
def test_mcnemar_is_statsmodels(lost: int, gained: int) -> None:
    if lost + gained:
        expected = reference_mcnemar([[5, lost], [gained, 7]], exact=True).pvalue
        assert paired.mcnemar(lost, gained) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    with patch("gc.collect"):  # statsmodels calls it each time: a third of a second after all that tests import
        expected = multipletests(p_values, method="holm")[1].tolist()
    assert paired.holm(p_values) == pytest.approx(expected, abs=1e-12)


def answers(lost: int, gained: int, both: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    base = np.repeat([1, 0, 1, 0], [lost, gained, both, neither])
    variant = np.repeat([0, 1, 1, 0], [lost, gained, both, neither])
    return base.astype(bool), variant.astype(bool)


def test_table_counts_who_was_right() -> None:
    table = Table.of(*answers(lost=3, gained=5, both=7, neither=2))
    assert table == Table(both=7, lost=3, gained=5, neither=2)
    with pytest.raises(ValueError, match="equal length"):
        Table.of([True], [True, False])


def test_bootstrap_of_the_difference_is_scipys() -> None:
    base, variant = answers(lost=14, gained=26, both=60, neither=40)
    reference = scipy_bootstrap(
        (variant.astype(float) - base.astype(float),), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    mine = paired.difference([Table.of(base, variant)], resamples=20_000)
    assert mine.method == "bootstrap"
    assert (mine.interval.low, mine.interval.high) == pytest.approx((reference.low, reference.high), abs=0.008)
    assert mine.value == pytest.approx(12 / 140)


def test_macro_f1_is_sklearns_and_its_interval_scipys() -> None:
    random = np.random.default_rng(0)
    gold, guess = random.integers(0, 4, 200), random.integers(0, 4, 200)
    guess[:120] = gold[:120]
    mine = paired.macro_f1(gold, guess, resamples=3000)
    assert mine.value == pytest.approx(f1_score(gold, guess, average="macro"))
    reference = scipy_bootstrap(
        (gold, guess),
        lambda g, p: f1_score(g, p, average="macro"),
        n_resamples=400,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=1,
    ).confidence_interval
    assert (mine.interval.low, mine.interval.high) == pytest.approx((reference.low, reference.high), abs=0.02)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_macro_f1_counts_the_classes_sklearn_counts(pairs: list[tuple[int, int]]) -> None:
    gold, guess = [g for g, _ in pairs], [p for _, p in pairs]
    expected = f1_score(gold, guess, average="macro", zero_division=0)
    assert paired.macro_f1(gold, guess, resamples=2).value == pytest.approx(expected)


def test_a_resample_without_a_class_is_scored_without_it() -> None:
    assert paired._f1(np.array([[[3, 0, 0], [0, 2, 0], [0, 0, 0]], [[1, 1, 0], [0, 0, 0], [0, 0, 2]]])) == (
        pytest.approx([1.0, f1_score([0, 0, 2, 2], [0, 1, 2, 2], average="macro", zero_division=0)])
    )


def test_a_whole_kobest_takes_about_a_second() -> None:
    random = np.random.default_rng(0)
    begin = time.process_time()
    for n, classes in ((1404, 2), (1000, 2), (500, 4), (397, 2), (1260, 2)):
        gold, guess = random.integers(0, classes, n), random.integers(0, classes, n)
        paired.macro_f1(gold, guess)
        paired.difference([Table.of(gold == guess, random.integers(0, 2, n))])
    assert time.process_time() - begin < 10


def test_same_seed_same_numbers() -> None:
    tables = [Table(40, 20, 30, 10), Table(10, 9, 3, 5)]
    assert paired.difference(tables) == paired.difference(tables)
    assert paired.macro_f1([0, 1, 1], [0, 0, 1]) == paired.macro_f1([0, 1, 1], [0, 0, 1])


class TestEdges:
    def test_no_documents(self) -> None:
        none = paired.accuracy([])
        assert np.isnan(none.value)
        assert (none.interval.low, none.interval.high, none.n) == (0, 1, 0)
        assert np.isnan(paired.macro_f1([], []).value)
        for tables in ([], [Table(0, 0, 0, 0)]):
            assert paired.difference(tables).verdict == "undecided"
            assert paired.loss(tables).verdict == "undecided"

    def test_one_document_shows_nothing(self) -> None:
        only = paired.difference([Table(0, 0, 1, 0)])
        assert (only.value, only.p, only.smallest, only.verdict) == (1.0, 1.0, None, "undecided")
        assert paired.accuracy([True]).interval.low == pytest.approx(0.2065, abs=1e-4)

    def test_no_discordant_pair_is_not_certainty(self) -> None:
        same = paired.difference([Table(3, 0, 0, 2)])
        assert (same.value, same.p, same.verdict, same.method) == (0, 1, "undecided", "adjusted wald")
        assert same.interval.low < -0.3
        assert paired.loss([Table(3, 0, 0, 2)]).verdict == "undecided"
        assert paired.loss([Table(3000, 0, 0, 1000)]).verdict == "shown"

    def test_all_discordant(self) -> None:
        assert paired.difference([Table(0, 0, 50, 0)]).verdict == "better"
        worse = paired.difference([Table(0, 50, 0, 0)])
        assert (worse.value, worse.verdict) == (-1.0, "worse")
        assert paired.loss([Table(0, 50, 0, 0)]).verdict == "refuted"
        even = paired.difference([Table(0, 25, 25, 0)])
        assert (even.value, even.p, even.verdict) == (0, 1, "undecided")

    @pytest.mark.parametrize(("right", "n", "ends"), [(0, 40, (0, None)), (40, 40, (None, 1))])
    def test_accuracy_none_or_all(self, right: int, n: int, ends: tuple[int | None, int | None]) -> None:
        score = paired.accuracy([True] * right + [False] * (n - right))
        low, high = score.interval.low, score.interval.high
        assert 0 <= low < high <= 1
        assert ends[0] in (None, low)
        assert ends[1] in (None, high)

    def test_a_margin_is_a_share(self) -> None:
        for margin in (0, 1, -0.01, 1.5):
            with pytest.raises(ValueError, match="share between 0 and 1"):
                paired.loss([Table(1, 1, 1, 1)], margin)


def test_smallest_difference_has_the_power_it_says() -> None:
    random = np.random.default_rng(3)
    n, discordant = 1404, 240
    smallest = paired.smallest_difference([Table(600, discordant // 2, discordant // 2, n - 600 - discordant)])
    assert smallest is not None
    share = discordant / n
    cells = [0.4, (share - smallest) / 2, (share + smallest) / 2, 0.6 - share]
    draws = random.multinomial(n, cells, size=1500)
    power = np.mean([paired.mcnemar(lost, gained) <= 0.05 for _, lost, gained, _ in draws])
    assert 0.74 < power < 0.84


def test_smallest_difference_of_few_and_of_like_documents() -> None:
    assert paired.smallest_difference([Table(5, 0, 0, 0)]) is None
    like = paired.smallest_difference([Table(100, 0, 0, 0)])
    assert like is not None
    assert 0.05 < like < 0.09
    more = paired.smallest_difference([Table(10_000, 0, 0, 0)])
    assert more is not None
    assert more < like


def test_adjusted_wald_covers_what_it_says_even_with_few_documents() -> None:
    random = np.random.default_rng(5)
    for n, cells in ((30, [0.6, 0.08, 0.04, 0.28]), (200, [0.5, 0.02, 0.03, 0.45])):
        truth = cells[2] - cells[1]
        draws = [Table(*(int(c) for c in row)) for row in random.multinomial(n, cells, size=2000)]
        intervals = [paired.adjusted_wald([table]) for table in draws]
        assert np.mean([i.low <= truth <= i.high for i in intervals]) > 0.93


def test_loss_is_seldom_shown_where_the_margin_was_lost() -> None:
    random = np.random.default_rng(7)
    draws = random.multinomial(1000, [0.5, 0.04, 0.03, 0.43], size=2000)  # exactly one point lost
    verdicts = [paired.loss([Table(*(int(c) for c in row))], margin=0.01).verdict for row in draws]
    assert verdicts.count("shown") / len(verdicts) < 0.035
    assert verdicts.count("refuted") / len(verdicts) < 0.035


def test_loss_and_its_bound_agree() -> None:
    for table in (Table(900, 10, 12, 78), Table(900, 30, 8, 62), Table(900, 90, 2, 8)):
        found = paired.loss([table], margin=0.01)
        assert (found.verdict == "shown") == (found.bound < 0.01)


def test_the_mean_of_one_task_is_that_task() -> None:
    one = Table(40, 21, 38, 11)
    assert paired._randomization([one], seed=1) == pytest.approx(paired.mcnemar(21, 38), abs=0.004)


def test_the_mean_weighs_tasks_alike_and_resamples_within_them() -> None:
    tables = [Table(900, 10, 20, 70), Table(20, 20, 10, 50)]
    mean = paired.difference(tables)
    assert mean.value == pytest.approx((0.01 - 0.1) / 2)
    assert mean.n == 1100
    random = np.random.default_rng(1)
    rows = [np.repeat([0, -1, 1, 0], [t.both, t.lost, t.gained, t.neither]) for t in tables]
    means = [np.mean([random.choice(row, row.size).mean() for row in rows]) for _ in range(4000)]
    expected = np.quantile(means, [0.025, 0.975])
    assert (mean.interval.low, mean.interval.high) == pytest.approx(tuple(expected), abs=0.006)


def test_the_mean_score_is_unweighted_with_an_interval() -> None:
    tasks = [paired.accuracy([True] * 60 + [False] * 40), paired.accuracy([True] * 5 + [False] * 15)]
    mean = paired.mean_accuracy(tasks)
    assert mean.value == pytest.approx(0.425)
    assert mean.n == 120
    assert mean.interval.low < 0.425 < mean.interval.high
    alone = paired.mean_accuracy(tasks[:1])
    assert (alone.interval.low, alone.interval.high) == pytest.approx((tasks[0].interval.low, tasks[0].interval.high))


def test_holm_recomputes_the_verdicts() -> None:
    near = paired.difference([Table(400, 40, 62, 498)])  # p = 0.037
    assert near.verdict == "better"
    family = paired.correct_differences([near, near, paired.difference([Table(400, 10, 90, 500)])])
    assert [one.verdict for one in family] == ["undecided", "undecided", "better"]
    assert family[0].p_adjusted == pytest.approx(2 * near.p)
    assert {one.family for one in family} == {3}
    assert paired.correct_differences([near]) == [near]


def test_holm_recomputes_losses_too() -> None:
    # one side at p = 0.02: shown alone (0.025), not as one of two
    close = next(
        found
        for lost in range(200)
        if 0.0126 < (found := paired.loss([Table(3000, lost, 100, 1000)], 0.01)).p_shown < 0.025
    )
    assert close.verdict == "shown"
    assert [one.verdict for one in paired.correct_losses([close, close])] == ["undecided", "undecided"]


def test_what_holm_leaves_undecided_does_not_contradict_itself() -> None:
    random = np.random.default_rng(11)
    for _ in range(40):
        tables = [Table(*(int(c) for c in random.multinomial(600, [0.5, 0.06, 0.09, 0.35]))) for _ in range(6)]
        for one in paired.correct_differences([paired.difference([table]) for table in tables]):
            if one.verdict == "undecided":
                assert one.smallest is not None
                assert abs(one.value) < one.smallest
        for found in paired.correct_losses([paired.loss([table], 0.02) for table in tables]):
            if found.verdict == "undecided":
                assert found.bound > found.margin


def test_a_family_needs_larger_differences() -> None:
    alone = paired.difference([Table(500, 50, 60, 390)])
    assert alone.smallest is not None
    family = paired.correct_differences([alone] * 6)
    assert family[0].smallest == paired.smallest_difference(alone.tables, 0.05 / 6)
    assert family[0].smallest is not None
    assert family[0].smallest > alone.smallest
