"""Columns that change what is learnt are read with their meaning, and what nobody reads is told, with its share."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from playground.errors import ConfigError
from tests.training.data.rows import data, table
from training.cli.data import FORMATS as listed
from training.data.checks import check
from training.data.formats import FORMATS, convert
from training.data.sources import read

KIND, ASK, TELL, SAY, REPLY = "존댓말로.", "안녕?", "안녕하세요.", "이름은?", "마당입니다."
PAST = [[SAY, REPLY]]
NAN, INFINITY = float("nan"), float("inf")


def said(*parts: str, kind: str = "") -> list[str]:
    """Roles and texts: a system prompt where there is one, then the sides in turn."""
    system = [f"system: {kind}"] if kind else []
    return [*system, *(f"{('user', 'assistant')[place % 2]}: {part}" for place, part in enumerate(parts))]


def turns(row: dict[str, Any], form: str = "auto") -> list[str]:
    made = data([row], form)
    assert not [finding for finding in made.findings if finding.severity == "fatal"], made.findings
    (example,) = made.examples
    return [f"{turn.role}: {turn.content}" for turn in example.turns]


def spoken(
    *parts: str, keys: tuple[str, str] = ("role", "content"), names: tuple[str, str] = ("user", "assistant")
) -> Any:
    return [{keys[0]: names[place % 2], keys[1]: part} for place, part in enumerate(parts)]


HUMAN = {"keys": ("from", "value"), "names": ("human", "gpt")}
ALPACA = {"instruction": ASK, "input": "", "output": TELL}
CHAT = {"messages": spoken(ASK, TELL)}
PAIR = {"chosen": TELL, "rejected": "ㅎㅇ"}
BOTH = said(ASK, TELL, kind=KIND)

READ: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "alpaca, system": ("alpaca", ALPACA | {"system": KIND}, BOTH),
    "koalpaca, history": (
        "koalpaca",
        {"instruction": ASK, "output": TELL, "history": PAST},
        said(SAY, REPLY, ASK, TELL),
    ),
    "history as JSON": ("alpaca", ALPACA | {"history": f'[["{SAY}", "{REPLY}"]]'}, said(SAY, REPLY, ASK, TELL)),
    "history as Python": ("alpaca", ALPACA | {"history": f"[['{SAY}', '{REPLY}']]"}, said(SAY, REPLY, ASK, TELL)),
    "history as objects": (
        *("alpaca", ALPACA | {"history": [{"instruction": SAY, "output": REPLY}], "system": KIND}),
        said(SAY, REPLY, ASK, TELL, kind=KIND),
    ),
    "history as turns": ("alpaca", ALPACA | {"history": spoken(SAY, REPLY, **HUMAN)}, said(SAY, REPLY, ASK, TELL)),
    **{
        f"nothing: {nothing!r}": ("alpaca", ALPACA | {"system": nothing, "history": nothing}, said(ASK, TELL))
        for nothing in (None, "", "  ", NAN, "None", "nan")
    },
    "the oldest first": (
        *("koalpaca", {"instruction": ASK, "output": TELL, "history": [["1", "2"], ["3", "4"]]}),
        said("1", "2", "3", "4", ASK, TELL),
    ),
    "no history": ("alpaca", ALPACA | {"history": []}, said(ASK, TELL)),
    "no history as JSON": ("alpaca", ALPACA | {"history": "[]"}, said(ASK, TELL)),
    "noinput": ("alpaca", ALPACA | {"input": "<noinput>"}, said(ASK, TELL)),
    "sharegpt, system": ("sharegpt", {"system": KIND, "conversations": spoken(ASK, TELL, **HUMAN)}, BOTH),
    "messages, system": ("messages", CHAT | {"system": KIND}, BOTH),
    "messages, system_prompt": ("messages", CHAT | {"system_prompt": KIND}, BOTH),
    "the same system twice": (
        "messages",
        {"system": KIND, "messages": [{"role": "system", "content": KIND}, *CHAT["messages"]]},
        BOTH,
    ),
    "an empty system turn": (
        "messages",
        {"system": KIND, "messages": [{"role": "system", "content": ""}, *CHAT["messages"]]},
        BOTH,
    ),
    "developer": ("messages", {"messages": [{"role": "developer", "content": KIND}, *CHAT["messages"]]}, BOTH),
    "role and value": ("messages", {"conversations": spoken(ASK, TELL, keys=("role", "value"))}, said(ASK, TELL)),
    "from and content": ("sharegpt", {"messages": spoken(ASK, TELL, keys=("from", "content"))}, said(ASK, TELL)),
    "a column named conversation": ("messages", {"conversation": spoken(ASK, TELL)}, said(ASK, TELL)),
    "turns that Python printed": ("sharegpt", {"conversations": str(spoken(ASK, TELL, **HUMAN))}, said(ASK, TELL)),
    "xtuner": (
        "xtuner",
        {"conversation": [{"system": KIND, "input": SAY, "output": REPLY}, {"input": ASK, "output": TELL}]},
        said(SAY, REPLY, ASK, TELL, kind=KIND),
    ),
    "orca": ("orca", {"id": "1", "system_prompt": KIND, "question": ASK, "response": TELL}, BOTH),
    "trl, texts": ("prompt-completion", {"prompt": ASK, "completion": TELL, "system": KIND}, BOTH),
    "trl, turns": (
        "prompt-completion",
        {"prompt": [{"role": "system", "content": KIND}, *spoken(ASK)], "completion": spoken(ASK, TELL)[1:]},
        BOTH,
    ),
    "trl, turns and text": ("prompt-completion", {"prompt": spoken(ASK), "completion": TELL}, said(ASK, TELL)),
    "pair, system": ("preference", PAIR | {"system": KIND, "prompt": ASK}, said(ASK, kind=KIND)),
    "pair, orca": ("preference", PAIR | {"system": KIND, "question": ASK}, said(ASK, kind=KIND)),
    "pair, alpaca": (
        *("preference", PAIR | {"instruction": SAY, "input": ASK, "history": PAST}),
        said(SAY, REPLY, f"{SAY}\n\n{ASK}"),
    ),
    "pair, messages": ("preference", PAIR | {"messages": spoken(SAY, REPLY, ASK)}, said(SAY, REPLY, ASK)),
    "pair, answers of several turns": (
        "preference",
        {"prompt": spoken(ASK)} | {name: spoken(ASK, TELL, SAY, value)[1:] for name, value in PAIR.items()},
        said(ASK, TELL, SAY),
    ),
    "history, one object": (
        "alpaca",
        ALPACA | {"history": {"user": SAY, "assistant": REPLY}},
        said(SAY, REPLY, ASK, TELL),
    ),
    "pair, messages with the answer": ("preference", PAIR | {"messages": spoken(ASK, TELL)}, said(ASK)),
    "pair, sharegpt": (
        "preference",
        {"conversations": spoken(ASK, **HUMAN), "system": KIND}
        | {name: {"from": "gpt", "value": value} for name, value in PAIR.items()},
        said(ASK, kind=KIND),
    ),
    "pair, as JSON": (
        "preference",
        {"prompt": ASK} | {name: f'[{{"role": "assistant", "content": "{value}"}}]' for name, value in PAIR.items()},
        said(ASK),
    ),
    "pair, whole conversations": (
        "preference",
        {"system": KIND, "prompt": ASK, "messages": spoken(ASK, TELL)}
        | {name: spoken(ASK, value) for name, value in PAIR.items()},
        said(ASK, kind=KIND),
    ),
    "rated, system": ("kto", {"prompt": ASK, "completion": TELL, "label": "1", "system": KIND}, BOTH),
    "rated, LLaMA-Factory": ("kto", ALPACA | {"kto_tag": False, "system": KIND}, BOTH),
}


@pytest.mark.parametrize("case", READ)
def test_it_is_read_with_its_meaning(case: str) -> None:
    form, row, wanted = READ[case]
    made = data([row])
    assert (made.format, turns(row)) == (form, wanted)
    assert {finding.check for finding in made.findings} <= {"empty-cells", "prompt-as-question", "unused"}


def test_an_answer_that_is_json_stays_one() -> None:
    calls = '[{"name": "look_up"}]'
    assert data([{"prompt": ASK, "chosen": calls, "rejected": TELL}]).examples[0].chosen == calls
    assert turns({"prompt": ASK, "completion": calls}) == said(ASK, calls)


def test_columns_of_other_names_and_of_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f'시스템,질문,답,대화\n{KIND},{ASK},{TELL},"[[""{SAY}"", ""{REPLY}""]]"\n')
    names = {"system": "시스템", "instruction": "질문", "output": "답", "history": "대화"}
    (example,) = convert(read(str(tmp_path / "a.csv")), columns=names).examples
    assert [turn.content for turn in example.turns] == [KIND, SAY, REPLY, ASK, TELL]
    import pandas

    pandas.DataFrame([ALPACA | {"history": PAST}, ALPACA | {"history": None}]).to_parquet(tmp_path / "a.parquet")
    assert [len(example.turns) for example in convert(read(str(tmp_path / "a.parquet"))).examples] == [4, 2]


def test_a_prompt_carries_no_loss_and_its_completion_does() -> None:
    row = {"prompt": spoken(SAY, REPLY, ASK), "completion": spoken(ASK, TELL)[1:]}
    assert [turn.learnt for turn in data([row]).examples[0].turns] == [False, False, False, True]


OTHER_NAMES = {
    ("question", "answer"): ("koalpaca", "question → instruction, answer → output"),
    ("Question", "ANSWER"): ("koalpaca", "Question → instruction, ANSWER → output"),
    ("질문", "답변", "시스템"): ("koalpaca", "질문 → instruction, 답변 → output, 시스템 → system"),
    ("instruction", "context", "response"): ("alpaca", "response → output, context → input"),
    ("prompt", "response"): ("prompt-completion", "response → completion"),
    ("user", "assistant"): ("koalpaca", "user → instruction, assistant → output"),
    ("query", "preferred", "dispreferred"): ("preference", "query → prompt, preferred → chosen"),
    ("질문", "답변", "이전대화", "시스템 프롬프트"): ("koalpaca", "시스템 프롬프트 → system, 이전대화 → history"),
    ("본문",): ("text", "본문 → text"),
}
"""Columns -> the format that they are read in, and how."""


@pytest.mark.parametrize("columns", OTHER_NAMES)
def test_columns_whose_names_mean_one_thing_are_read_and_told(columns: tuple[str, ...]) -> None:
    row = dict.fromkeys(columns, "x") | {name: None for name in columns if name == "이전대화"}
    made = data([row])
    (note,) = [one for one in made.findings if one.check == "columns"]
    assert (made.format, len(made)) == (OTHER_NAMES[columns][0], 1)
    assert note.severity == "note"
    assert OTHER_NAMES[columns][1] in note.message
    assert "--column" in note.remedy


SUGGESTED = {
    ("dialogue",): "--column messages=dialogue",
    ("messages",): "A --format says what is wrong",
    ("question", "answer", "reply"): "--column instruction=question --column output=answer",
    ("title", "content"): "--column text=content",
    ("instructions", "outputs"): "--column instruction=instructions --column output=outputs",
}
"""Columns that are not read: one of several may be meant, or a name is only near, or its cells are something else."""


@pytest.mark.parametrize("columns", SUGGESTED)
def test_the_columns_to_name_are_suggested(columns: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        data([dict.fromkeys(columns, "x")])
    assert SUGGESTED[columns] in error.value.hint


def found(*rows: dict[str, Any], form: str = "auto") -> list[tuple[str, str, str]]:
    return [(one.check, one.severity, one.message) for one in check(data(rows, form))]


LEFT: dict[str, tuple[dict[str, Any], str, str]] = {
    "what text cannot have": ({"text": ASK, "system": KIND}, "warning", "system (50.0% of the rows)"),
    "a passage": ({"instruction": ASK, "output": TELL, "지문": "글"}, "warning", "지문 (50.0%"),
    "prose of any name": ({"instruction": ASK, "output": TELL, "비고": "긴 글이 " * 9}, "warning", "비고 (50.0%"),
    "a list of any name": ({**CHAT, "steps": ["a"]}, "warning", "steps (50.0%"),
    "a weight": ({"text": ASK, "weight": 0}, "warning", "weight (50.0%"),
    "a score": ({**CHAT, "score": 0.5}, "warning", "score (50.0%"),
    "a label": ({**CHAT, "label": "good"}, "warning", "label (50.0%"),
    "images": ({**CHAT, "images": ["a.png"]}, "warning", "images (50.0%"),
    "another system": ({**CHAT, "system": KIND, "system_prompt": "반말로."}, "warning", "system_prompt (50.0%"),
    "a source": ({**CHAT, "source": "https://example.com/" + "a" * 80}, "note", "source (50.0%"),
    "an id": ({**CHAT, "id": 3}, "note", "id (50.0%"),
    "a tag": ({**CHAT, "tone": "polite"}, "note", "tone (50.0%"),
    "what repeats the row": ({**CHAT, "prompt": ASK}, "note", "prompt (50.0% of the rows), which repeats"),
    "what wraps the row": ({**ALPACA, "text": f"### Q: {ASK} ### A: {TELL}"}, "note", "text (50.0%"),
    "a thought": (
        {"messages": [*spoken(ASK), {**spoken(ASK, TELL)[1], "cot": "음"}]},
        "warning",
        "cot in turns (50.0%",
    ),
    "a key of a pair in history": (
        {**ALPACA, "history": [{"user": SAY, "assistant": REPLY, "cot": "음"}]},
        *("warning", "cot in turns (50.0%"),
    ),
    "a key beside the messages of a prompt": (
        {**PAIR, "prompt": {"messages": spoken(ASK), "cot": "음"}, "instruction": ""},
        *("warning", "cot (50.0%"),
    ),
    "a name": ({"messages": [*spoken(ASK), {**spoken(ASK, TELL)[1], "name": "a"}]}, "note", "name in turns (50.0%"),
    "a mark of a part": (
        {"messages": [*spoken(ASK), {"role": "assistant", "content": [{"text": TELL, "train": False}]}]},
        *("warning", "content.train in turns (50.0%"),
    ),
    "a key of a part": (
        {
            "messages": [
                {"role": "user", "content": [{"text": ASK, "cache_control": {}, "index": 0}]},
                *CHAT["messages"][1:],
            ]
        },
        *("note", "content.index in turns (50.0%"),
    ),
    "a mark of another name": (
        {"messages": [*spoken(ASK), {**spoken(ASK, TELL)[1], "mask": 0}]},
        *("warning", "mask in turns (50.0%"),
    ),
    "an answer marked as wrong": ({**CHAT, "is_correct": False}, "warning", "is_correct (50.0%"),
    "the same in a sheet": ({"text": ASK, "정답": "False"}, "warning", "정답 (50.0%"),
    "the number of a turn": ({"messages": [*spoken(ASK), {**spoken(ASK, TELL)[1], "turn": 1}]}, "note", "turn in tu"),
    "loss by letters": (
        {"messages": [*spoken(ASK), {**spoken(ASK, TELL)[1], "train_detail": [{"train": False}]}]},
        *("warning", "train_detail in turns (50.0%"),
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left_out_is_told(case: str) -> None:
    row, severity, message = LEFT[case]
    bare = {name: value for name, value in row.items() if name in ("text", "messages", "instruction", "output")}
    bare = {"messages": spoken(SAY, REPLY)} if "messages" in bare else dict.fromkeys(bare, SAY)
    bare.pop("text" if "output" in bare else "", None)
    (one,) = (one for one in data([row, bare]).findings if message in one.message)
    assert (one.severity, one.check) == (severity, "left-out" if severity == "warning" else "unused")
    assert severity == "note" or "Nothing to do" not in one.remedy
    assert message.partition(" (")[0] in one.about


def test_the_remedy_names_the_column() -> None:
    (one,) = data([{"instruction": ASK, "output": TELL, "지문": "글"}]).findings
    assert ("--column input=지문" in one.remedy, one.rows) == (True, (1,))
    assert one.about == "지문 (100.0%) --column input=지문"
    replaced = convert(table([ALPACA | {"질문": SAY}]), columns={"instruction": "질문"}).findings
    assert ["instruction (before --column)" in one.message for one in replaced] == [True]


def test_a_column_that_says_which_rows_are_wrong_is_read_by_its_remedy() -> None:
    rows: list[dict[str, Any]] = [ALPACA | {"정답 여부": right} for right in (True, "False")]
    (one,) = data(rows).findings
    assert "--column 'weight=정답 여부'" in one.remedy
    made = convert(table(rows), columns={"weight": "정답 여부"})
    assert [example.turns[-1].learnt for example in made.examples] == [True, False]


def test_openais_pairs_lose_no_tools() -> None:
    prompt = {"messages": spoken(ASK), "tools": [{"name": "get"}], "parallel_tool_calls": True, "store": ""}
    row = {"prompt": prompt, "chosen": spoken(ASK, TELL)[1:], "rejected": spoken(ASK, SAY)[1:]}
    made = data([row])
    assert [tool["function"]["name"] for tool in made.examples[0].tools] == ["get"]
    assert [(one.check, one.about) for one in made.findings] == [("unused", "parallel_tool_calls (100.0%)")]


@pytest.mark.parametrize("past", [[spoken(SAY, REPLY)], {"user": [SAY], "assistant": [REPLY]}, [[SAY]], "글", 3])
def test_a_history_that_is_none_has_a_remedy_that_works(past: Any) -> None:
    (one,) = data([ALPACA | {"history": past}]).findings
    assert (one.check, 'Write history as [["question", "answer"]' in one.remedy) == ("unreadable", True)


def test_an_input_of_nothing_is_a_finding() -> None:
    rows = [ALPACA | {"instruction": f"{SAY} {value}", "input": value} for value in ("inf", "N/A", "No input", "글")]
    (one,) = check(data(rows))
    assert (one.check, one.rows) == ("placeholders", (1, 2, 3))


def test_empty_columns_are_no_findings() -> None:
    assert data([ALPACA | {"tools": None, "system": "", "images": [], "label": NAN}]).findings == []


VALUES: dict[str, tuple[Any, str | None, str]] = {
    "true": (True, "true", "not-text"),
    "false": (False, "false", "not-text"),
    "a number": (3, "3", "not-text"),
    "a float": (3.0, "3.0", "not-text"),
    "null": (None, "", "missing-answers"),
    "NaN": (NAN, "", "missing-answers"),
    "Infinity": (INFINITY, None, "unreadable"),
    "-Infinity": (-INFINITY, None, "unreadable"),
    "nan in words": ("nan", "nan", "placeholders"),
    "None in words": (" None", " None", "placeholders"),
    "inf in words": ("inf", "inf", "placeholders"),
    "noinput": ("<noinput>", "<noinput>", "placeholders"),
    "a date": (date(2026, 1, 1), None, "unreadable"),
}


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("place", ["output", "content"])
def test_values_are_read_as_they_are_meant_or_told(case: str, place: str) -> None:
    value, text, name = VALUES[case]
    row = ALPACA | {"output": value} if place == "output" else {"messages": spoken(ASK, value)}
    made = data([row, ALPACA if place == "output" else CHAT])
    assert [example.turns[-1].content for example in made.examples] == [*([] if text is None else [text]), TELL]
    assert [one.check for one in check(made) if one.rows[:1] == (1,)] == [name]


@pytest.mark.parametrize(
    ("mark", "learnt", "named"),
    [
        *(({"weight": value}, False, False) for value in (0, 0.0, "0", "0.0", False, "False", "no", "off", "아니요")),
        *(({name: False}, False, False) for name in ("train", "loss", "training")),
        *(
            ({"train": "false"}, False, False),
            ({"loss": None}, True, False),
            ({"weight": 1, "train": False}, False, False),
        ),
        *(({"weight": value}, True, True) for value in (0.5, 2, "half")),
        ({"weight": -1}, False, True),
        ({"weight": 1.0}, True, False),
    ],
)
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_a_turn_marked_as_wrong_is_never_learnt(
    mark: dict[str, Any], learnt: bool, named: bool, keys: tuple[str, str]
) -> None:
    first, wrong, *rest = spoken(ASK, TELL, SAY, REPLY, keys=keys)
    made = data([{"system": KIND, "conversations": [first, wrong | mark, *rest]}])
    assert [turn.learnt for turn in made.examples[0].turns] == [False, False, learnt, False, True]
    assert [one.check for one in made.findings] == ["weights"] * named


@pytest.mark.parametrize(
    "row",
    [
        ALPACA | {"weight": 0},
        CHAT | {"train": False},
        {"prompt": ASK, "completion": spoken(ASK, TELL)[1:], "loss": "false"},
        {"conversation": [{"input": ASK, "output": TELL, "output_with_loss": False}]},
    ],
)
def test_a_row_marked_as_wrong_is_refused(row: dict[str, Any]) -> None:
    assert ("nothing-learnt", "fatal") in [one[:2] for one in found(row)]


def test_a_chosen_answer_marked_as_wrong_is_refused_and_a_rejected_one_is_not() -> None:
    pair = {name: spoken(ASK, value) for name, value in PAIR.items()}
    for name, wanted in (("chosen", ["unreadable"]), ("rejected", [])):
        marked = pair | {name: [*pair[name][:1], pair[name][1] | {"weight": 0}]}
        assert [one[0] for one in found(marked)] == wanted


def test_an_earlier_answer_marked_as_wrong_is_not_learnt() -> None:
    row = ALPACA | {"history": [{"user": SAY, "assistant": REPLY, "weight": 0}]}
    assert [turn.learnt for turn in data([row]).examples[0].turns] == [False, False, False, True]


def test_two_system_prompts_that_differ() -> None:
    row = {"system": KIND, "messages": [{"role": "system", "content": "다른 말."}, *CHAT["messages"]]}
    assert turns(row)[0] == "system: 다른 말."
    assert [one[:2] for one in found(row)] == [("two-system-prompts", "warning")]


def test_every_format_is_in_the_guide() -> None:
    guide = Path("docs/fine-tuning.md").read_text(encoding="utf-8")
    rows: dict[str, str] = {line.split("|")[1].strip(): line for line in guide.splitlines() if line.startswith("| `")}
    for name, one in FORMATS.items():
        assert all(names[0] in rows[f"`{name}`"] for names in one.needs), name
        assert name in listed
