"""Every format is found and read; traps in which one looks like another."""

from typing import Any

import pytest

from playground.errors import ConfigError, UnknownNameError
from tests.training.data.rows import (
    ALPACA,
    KOALPACA,
    KTO,
    LIST_PREFERENCE,
    MESSAGES,
    PREFERENCE,
    SHAREGPT,
    TEXT,
    data,
    table,
)
from training.data import report
from training.data.examples import Turn
from training.data.formats import check_method, convert, detect
from training.methods import METHODS

ALL: dict[str, list[dict[str, Any]]] = {
    "alpaca": ALPACA,
    "koalpaca": KOALPACA,
    "sharegpt": SHAREGPT,
    "messages": MESSAGES,
    "preference": PREFERENCE,
    "kto": KTO,
    "text": TEXT,
}


@pytest.mark.parametrize("name", ALL)
def test_each_is_found_and_every_row_read(name: str) -> None:
    made = data(ALL[name])
    assert (made.format, len(made), made.findings) == (name, len(ALL[name]), [])
    assert [example.row for example in made.examples] == list(range(1, len(made) + 1))


TRAPS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "alpaca's own file repeats each row as text": ("alpaca", [row | {"text": "Below is …"} for row in ALPACA]),
    "only one row has an input": ("alpaca", [*KOALPACA, ALPACA[0]]),
    "the first row is odd": ("koalpaca", [{"note": "header"}, *KOALPACA * 10]),
    "conversations with roles": ("messages", [{"conversations": MESSAGES[0]["messages"]}]),
    "messages with from": ("sharegpt", [{"messages": SHAREGPT[0]["conversations"]}]),
    "ultrafeedback brings messages, too": ("preference", LIST_PREFERENCE),
    "pairs without a prompt column": (
        "preference",
        [{name: LIST_PREFERENCE[0][name] for name in ("chosen", "rejected")}],
    ),
    "a prompt of messages": (
        "preference",
        [{"prompt": [{"role": "user", "content": "왜?"}], "chosen": "그래서", "rejected": "글쎄"}],
    ),
    "a label of something else": ("messages", [MESSAGES[0] | {"label": "travel"}]),
    "messages without a label among labelled ones": ("messages", [MESSAGES[0] | {"label": None}]),
    "turns as JSON in a CSV cell": ("messages", [{"messages": '[{"role": "user", "content": "a"}]'}]),
    "text beside other columns": ("text", [row | {"url": "x", "messages": None} for row in TEXT]),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_traps(trap: str) -> None:
    name, rows = TRAPS[trap]
    assert detect(table(rows)) == name


def test_alpaca_joins_the_input_after_a_blank_line() -> None:
    first, second = data(ALPACA).examples
    assert first.turns[0].content == "다음 문장을 영어로 옮기세요.\n\n마당에 감나무가 있다."
    assert second.turns[0].content == "Tell a joke."
    as_koalpaca = data(ALPACA, "koalpaca")
    assert as_koalpaca.examples[0].turns[0].content == "다음 문장을 영어로 옮기세요."
    assert [(finding.check, finding.severity) for finding in as_koalpaca.findings] == [("left-out", "warning")]


def test_speakers_become_roles_and_parts_one_text() -> None:
    assert [turn.role for turn in data(SHAREGPT).examples[0].turns] == [
        "system",
        *("user", "assistant", "user", "assistant"),
    ]
    assert data(MESSAGES).examples[1].turns[0] == Turn("user", "이 글을 줄여 줘.")


def test_a_pairs_shared_beginning_is_its_prompt() -> None:
    only = data(LIST_PREFERENCE).examples[0]
    assert only.turns == (Turn("user", "하늘은 왜 파란가요?"),)
    assert (only.chosen, only.rejected) == ("빛이 산란하기 때문입니다.", "몰라요.")
    bare = {name: LIST_PREFERENCE[0][name][1:] for name in ("chosen", "rejected")} | {"prompt": "왜?"}
    assert data([bare]).examples[0].turns == (Turn("user", "왜?"),)


@pytest.mark.parametrize(
    ("label", "good"),
    [
        *((label, True) for label in (True, 1, 1.0, "1", "true", "True", " TRUE ", "chosen")),
        *((label, False) for label in (False, 0, 0.0, "0", "false", "False", "rejected")),
        *((label, None) for label in (None, float("nan"), 2, -1, "", "maybe", [True])),
    ],
)
def test_a_label_is_good_or_bad_or_a_fault_of_its_row(label: Any, good: bool | None) -> None:
    made = data([KTO[0] | {"label": label}, KTO[1]], "kto")
    assert [example.good for example in made.examples] == [*([] if good is None else [good]), False]
    assert [finding.rows for finding in made.findings] == [(1,)] * (good is None)


def test_a_rated_answer_stands_behind_its_prompt() -> None:
    first, _, third, fourth = data(KTO).examples
    assert first.turns == (Turn("user", "하늘은 왜 파란가요?"), Turn("assistant", "빛이 산란하기 때문입니다."))
    assert [turn.role for turn in third.turns] == ["system", "user", "assistant"]
    assert (fourth.turns[-1], fourth.good) == (Turn("assistant", "What?"), False)
    named = convert(
        table([{"질문": "왜?", "답": "몰라", "평가": "0"}]),
        columns=dict(zip(("prompt", "completion", "label"), ("질문", "답", "평가"), strict=True)),
    )
    assert (named.format, named.examples[0].good) == ("kto", False)
    several = {"completion": [*KTO[2]["completion"], *KTO[2]["prompt"][1:], *KTO[2]["completion"]]}
    assert [finding.rows for finding in data([KTO[0], KTO[2] | several]).findings] == [(2,)]


def test_equal_conversations_keep_their_answer() -> None:
    pair = {name: LIST_PREFERENCE[0]["chosen"] for name in ("chosen", "rejected")}
    assert data([pair]).examples[0].chosen == data([pair]).examples[0].rejected == "빛이 산란하기 때문입니다."


def test_pairs_that_part_before_the_last_answer() -> None:
    other = [{"role": "user", "content": "다른 질문"}, {"role": "assistant", "content": "답"}]
    made = data([LIST_PREFERENCE[0] | {"rejected": other}, LIST_PREFERENCE[0]])
    assert [(f.check, f.rows) for f in made.findings if f.severity == "fatal"] == [("unreadable", (1,))]


def test_columns_of_other_names() -> None:
    rows = [{"질문": "왜?", "답": "그래서."}]
    made = convert(table(rows), columns={"instruction": "질문", "output": "답"})
    assert (made.format, made.examples[0].turns[1]) == ("koalpaca", Turn("assistant", "그래서."))


def test_numbers_and_gaps_are_texts() -> None:
    made = data([{"instruction": 3, "output": None}, {"instruction": "a", "output": float("nan")}])
    assert [example.turns[0].content for example in made.examples] == ["3", "a"]
    assert [example.turns[1].content for example in made.examples] == ["", ""]


@pytest.mark.parametrize(
    "broken",
    [
        {"messages": "no list"},
        {"messages": ["text"]},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": "user", "content": {"a": 1}}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [1]}]},
        {"other": 1},
    ],
)
def test_a_row_of_another_shape_is_named_and_the_rest_read(broken: dict[str, Any]) -> None:
    made = data([*MESSAGES, broken], "messages")
    assert len(made) == 2
    assert [(f.check, f.severity, f.rows) for f in made.findings if f.severity == "fatal"] == [
        ("unreadable", "fatal", (3,))
    ]


@pytest.mark.parametrize(
    ("broken", "check", "said"),
    [
        ({"prompt": "q", "completion": "a", "label": float("nan")}, "unreadable", "no label"),
        ({"prompt": "q", "completion": "a", "label": ""}, "unreadable", "no label"),
        ({"prompt": "q", "completion": None, "label": True}, "missing-answers", "without an answer"),
        ({"prompt": "q", "completion": " ", "label": True}, "missing-answers", "without an answer"),
    ],
)
def test_what_a_rated_row_lacks_is_said(broken: dict[str, Any], check: str, said: str) -> None:
    made = data([{"prompt": "q", "completion": "a", "label": True}, broken])
    assert made.format == "kto"
    found = [f for f in report.inspect(made).findings if f.severity == "fatal"]
    assert [(f.check, f.rows) for f in found] == [(check, (2,))]
    assert said in found[0].message


def test_remedies_of_a_method_fit_it() -> None:
    rated = data([{"messages": MESSAGES[0]["messages"], "label": True}])
    for method, wanted in (("sft", "--format messages"), ("orpo", "or give preference data.")):
        with pytest.raises(ConfigError) as error:
            check_method(rated, method)
        assert wanted in str(error.value.hint)
    with pytest.raises(ConfigError) as error:
        check_method(data([{"prompt": "q", "completion": "a", "label": "good"}]), "kto")
    assert "label is true for a good answer" in str(error.value.hint)


@pytest.mark.parametrize(("method", "name"), [(m, n) for m in METHODS for n in ALL])
def test_what_each_way_of_training_learns_from(method: str, name: str) -> None:
    made = data(ALL[name])
    if made.kind in METHODS[method].kinds:
        check_method(made, method)
    else:
        with pytest.raises(ConfigError) as error:
            check_method(made, method)
        assert method in error.value.message
        assert error.value.hint


def test_near_matches_of_names() -> None:
    with pytest.raises(UnknownNameError, match="alpacca"):
        data(ALPACA, "alpacca")
    with pytest.raises(UnknownNameError) as error:
        convert(table(KOALPACA), columns={"instruction": "instructoin"})
    assert "instruction" in error.value.near
