"""Suites: every shipped file, faults all at once, near matches, and a sample that is the same everywhere."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import kobest, suites
from eval.suites import Suite, balanced
from playground.errors import ConfigError, MadangError, UnknownNameError


def test_the_shipped_suites() -> None:
    assert suites.names() == ["kobest", "quick"]
    whole, quick = suites.find("kobest"), suites.find("quick")
    assert whole.tasks == quick.tasks == list(kobest.LAYOUTS)
    assert (whole.shots, whole.partial, quick.shots, quick.partial) == ([0, 5], False, [0], True)
    assert whole.description


def test_some_tasks_other_shots_a_limit() -> None:
    chosen = suites.find("kobest").chosen(tasks=["copa", "kobest_wic"], shots=[3], limit=50)
    assert (chosen.tasks, chosen.shots, chosen.limit, chosen.partial) == (["kobest_copa", "kobest_wic"], [3], 50, True)
    assert suites.find("quick").chosen(limit=10).sample is None
    assert suites.find("kobest").chosen() == suites.find("kobest")


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_nothing_is_refused(limit: int) -> None:
    with pytest.raises(ConfigError, match=f"limit = {limit}"):
        suites.find("kobest").chosen(limit=limit)


def test_negative_shots_and_twins_are_refused_together() -> None:
    with pytest.raises(ConfigError) as error:
        suites.find("kobest").chosen(tasks=["copa", "copa"], shots=[-1])
    assert "shots.0 = -1" in error.value.message
    assert "twice" in error.value.message


def test_a_task_that_the_suite_lacks() -> None:
    with pytest.raises(UnknownNameError) as error:
        suites.find("kobest").chosen(tasks=["copas"])
    assert "copa" in error.value.near


def test_any_task_of_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "known_tasks", lambda: ("kmmlu", "haerae", "kobest", "kobest_copa"))
    assert suites.find("kmmlu") == Suite(name="kmmlu", description="lm-eval's kmmlu", tasks=["kmmlu"], shots=[0])
    with pytest.raises(UnknownNameError) as error:
        suites.find("kmmmlu")
    assert "Did you mean kmmlu" in error.value.hint
    with pytest.raises(UnknownNameError) as error:
        suites.find("kobes")
    assert error.value.near.count("kobest") == 1  # a suite and a group of lm-eval
    with pytest.raises(UnknownNameError) as error:
        suites.find("zzzzzz")
    assert "Suites: kobest, quick." in error.value.hint
    assert "haerae" not in error.value.hint


def test_lm_evals_index_is_only_built_for_names_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "known_tasks", lambda: pytest.fail("the index was built"))
    suites.find("kobest")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("tasks: [kmmlu]\nshots: [0]\n")
    assert suites.find(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tasks: []\nshots: [0]\ncolour: red\n", ["tasks", "colour"]),
        ("tasks: [a]\nshots: [x]\nlimit: 0\n", ["shots.0 = 'x'", "limit = 0"]),
        ("tasks: [a]\nshots: [0]\nsample: {documents: 0, seed: 1}\n", ["sample.documents = 0"]),
        ("- a\n", ["holds no suite"]),
        ("a: [\n", ["not valid YAML"]),
    ],
)
def test_faults_of_a_file_come_together(tmp_path: Path, text: str, said: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        suites.find(str(path))
    assert "mine.yaml" in error.value.message
    assert all(word in error.value.message for word in said)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MadangError, match="cannot be read"):
        suites.find(str(tmp_path / "none.yaml"))


def test_the_sample_is_this_one() -> None:
    """Numbers written down: another machine, another Python, must draw the same."""
    assert balanced([0, 1] * 20, 8, seed=3407) == WRITTEN_DOWN


WRITTEN_DOWN = [2, 14, 16, 21, 23, 24, 29, 39]


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=80), st.integers(1, 60), st.integers(0, 5))
def test_the_sample_is_balanced_and_sorted(labels: list[int], documents: int, seed: int) -> None:
    places = balanced(labels, documents, seed)
    assert places == sorted(set(places))
    assert len(places) == min(documents, len(labels))
    have, drawn = Counter(labels), Counter(labels[place] for place in places)
    most = max(drawn.values(), default=0)
    for label, count in have.items():
        assert drawn[label] >= min(count, most - 1)


def test_another_seed_draws_others() -> None:
    labels = [0, 1] * 200
    assert balanced(labels, 50, 1) != balanced(labels, 50, 2)
    assert balanced(labels, 50, 1) == balanced(labels, 50, 1)


def test_lm_evals_samples_argument() -> None:
    rows = {"kobest_copa": [{"label": index % 2} for index in range(300)]}
    chosen = suites.samples(suites.find("quick"), rows)
    assert chosen is not None
    assert Counter(place % 2 for place in chosen["kobest_copa"]) == {0: 25, 1: 25}
    assert suites.samples(suites.find("kobest"), rows) is None
    with pytest.raises(ConfigError, match="no field 'label'"):
        suites.samples(suites.find("quick"), {"other": [{"gold": 1}]})


@pytest.mark.parametrize("task", kobest.LAYOUTS)
def test_quick_on_the_real_rows(real_kobest: Path, task: str) -> None:
    rows = kobest.read(real_kobest, task, "test")
    chosen = suites.samples(suites.find("quick"), {task: rows})
    assert chosen is not None
    counts = Counter(rows[place]["label"] for place in chosen[task])
    assert sum(counts.values()) == 50
    assert max(counts.values()) - min(counts.values()) <= 1
