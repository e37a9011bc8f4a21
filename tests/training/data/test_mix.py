"""Mixing and holding out: shares, the same order everywhere, and no question on both sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.errors import ConfigError
from tests.training.data.rows import TEXT, data, talks
from training.data.faults import prompt_key
from training.data.findings import Finding
from training.data.formats import Data
from training.data.mix import held_out, mixed

WRITTEN_DOWN = [4, 7, 5, 8, 6, -2, 1, 3, 2, -5]


def numbered(count: int, word: str = "질문", name: str = "task.jsonl") -> Data:
    rows = talks(*((f"{word} {number}", f"답 {number}") for number in range(1, count + 1)))
    return Data(rows.examples, "messages", name)


def test_general_rows_are_a_fifth_of_the_whole() -> None:
    whole = mixed(numbered(80), numbered(500, "일반", "general.jsonl"))
    general = [example for example in whole.examples if example.turns[0].content.startswith("일반")]
    assert (len(whole), len(general)) == (100, 20)
    assert {e.turns[0].content for e in whole.examples} >= {f"질문 {number}" for number in range(1, 81)}
    assert whole.name == "task.jsonl + general.jsonl"
    assert whole.findings == []


def test_the_order_is_this_one() -> None:
    """Numbers written down: another machine, another Python, must draw the same."""
    whole = mixed(numbered(8), numbered(5, "일반"))
    order = [e.row if e.turns[0].content.startswith("질문") else -e.row for e in whole.examples]
    assert order == WRITTEN_DOWN
    assert mixed(numbered(8), numbered(5, "일반"), seed=1).examples != whole.examples


def test_too_few_general_rows_are_all_used_and_it_says_so() -> None:
    whole = mixed(numbered(80), numbered(5, "일반", "general.jsonl"))
    assert len(whole) == 85
    assert [(f.check, f.severity) for f in whole.findings] == [("mix", "note")]
    assert "5 rows of general.jsonl make 6% of the mix; 20% takes 20" in whole.findings[0].message


def test_what_was_found_in_general_rows_is_told_with_their_file() -> None:
    general = numbered(20, "일반", "general.jsonl")
    general.findings.append(Finding("unreadable", "fatal", (3,), "messages is missing", "Write it.", True))
    found = mixed(numbered(80), general).findings
    assert [(f.severity, f.message) for f in found if f.rows] == [("fatal", "general.jsonl: messages is missing")]


@pytest.mark.parametrize("share", [0, 1, -0.2, 20])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(ConfigError, match=str(share)):
        mixed(numbered(2), numbered(2), share)


def test_other_kinds_do_not_mix() -> None:
    with pytest.raises(ConfigError, match="conversation rows and .* text rows"):
        mixed(numbered(2), data(TEXT))


@given(st.lists(st.integers(0, 12), min_size=3, max_size=60), st.integers(0, 3))
def test_held_out_questions_are_on_one_side(asked: list[int], seed: int) -> None:
    rows = talks(*((f"질문 {number}", f"답 {place}") for place, number in enumerate(asked)))
    try:
        train, evaluation = held_out(rows, max(1, len(asked) // 4), seed)
    except ConfigError:
        return
    assert sorted(e.row for e in [*train.examples, *evaluation.examples]) == [e.row for e in rows.examples]
    assert 0 < len(evaluation) <= max(1, len(asked) // 4)
    assert not {prompt_key(e) for e in train.examples} & {prompt_key(e) for e in evaluation.examples}


def test_a_share_or_a_number_and_the_order_of_rows_does_not_matter() -> None:
    rows = numbered(100)
    train, evaluation = held_out(rows, 0.05)
    assert (len(train), len(evaluation)) == (95, 5)
    assert held_out(rows, 5)[1].examples == evaluation.examples
    turned = Data(rows.examples[::-1], "messages", "x")
    assert {e.row for e in held_out(turned, 5)[1].examples} == {e.row for e in evaluation.examples}
    assert {e.row for e in held_out(rows, 5, seed=1)[1].examples} != {e.row for e in evaluation.examples}


@pytest.mark.parametrize("part", [0, 100, 1000, -1])
def test_one_side_would_be_empty(part: int) -> None:
    with pytest.raises(ConfigError, match=f"Holding out {part} of 100 rows"):
        held_out(numbered(100), part)


def test_the_same_question_throughout_cannot_be_parted() -> None:
    with pytest.raises(ConfigError, match="asks the same"):
        held_out(talks(*[("같은 질문", f"답 {number}") for number in range(10)]), 2)
