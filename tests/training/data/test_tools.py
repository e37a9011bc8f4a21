"""Tools, calls, results: read as the field writes them, rendered as transformers does, refused where they are lost."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.training.data.conftest import tiny_model
from tests.training.data.rows import table
from training.data.encoder import Encoder
from training.data.fixing import fix, write_fixed
from training.data.formats import Data, convert
from training.data.report import inspect
from training.data.sources import read

HERMES = (
    "{% if tools %}{{ '<tools>' }}{% for t in tools %}{{ t | tojson }}{% endfor %}{{ '</tools>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') }}"
    "{% for c in m.tool_calls or [] %}{{ '<tool_call>' + c.function | tojson + '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXTS = HERMES.replace("c.function | tojson", "c.function.name + c.function.arguments")
SINGLE = HERMES.replace(
    "{% for c in m", "{% if (m.tool_calls or []) | length > 1 %}{{ raise_exception('one') }}{% endif %}{% for c in m"
)
SILENT = "{% for m in messages %}{{ '<' + m.role + '>' + (m.content or '') + '</s>' }}{% endfor %}"
NO_RESULTS = (
    "{% for m in messages %}{{ ('[Q] ' if m.role == 'user' else '[A] ') + (m.content or '') + '</s>' }}{% endfor %}"
)
SCHEMA = {"name": "weather", "description": "날씨", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": SCHEMA}


def call(city: str, number: int = 1, text: bool = False) -> dict[str, Any]:
    given: Any = {"city": city}
    arguments = json.dumps(given, ensure_ascii=False) if text else given
    return {"id": f"aaaaaaaa{number}", "type": "function", "function": {"name": "weather", "arguments": arguments}}


def result(said: Any, number: int = 1) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"aaaaaaaa{number}", "name": "weather", "content": said}


def calling(*calls: dict[str, Any], content: str | None = "") -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


ASKED = {"role": "user", "content": "서울 날씨?"}
ANSWER = {"role": "assistant", "content": "맑아요."}
ONE = [ASKED, calling(call("서울")), result("맑음"), ANSWER]
TWO = [ASKED, calling(call("서울"), call("부산", 2)), result("맑음"), result("비", 2), ANSWER]


def rows(*talks: list[dict[str, Any]], tools: Any = (TOOL,)) -> Data:
    given = list(tools) if isinstance(tools, tuple) else tools
    return convert(table([{"messages": turns, "tools": given} for turns in talks]))


def reference(template: str, turns: list[dict[str, Any]]) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    given = {"bos_token": "<s>", "eos_token": "</s>"}
    (text,), _ = render_jinja_template([turns], tools=[TOOL], chat_template=template, **given)
    return str(text)


SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "서울 날씨?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "서울"}}'},
        {"from": "observation", "value": "맑음"},
        {"from": "gpt", "value": "맑아요."},
    ],
    "tools": json.dumps([SCHEMA]),
}
WAYS: list[dict[str, Any]] = [
    {"messages": ONE, "tools": [TOOL]},
    {"messages": [ASKED, calling(call("서울", text=True), content=None), result("맑음"), ANSWER], "tools": [SCHEMA]},
    {"messages": json.dumps(ONE), "tools": json.dumps([TOOL])},
    {"messages": [ASKED, calling({"name": "weather", "arguments": {"city": "서울"}}), ONE[2], ANSWER], "tools": SCHEMA},
    {"messages": ONE, "tools": [TOOL | {"function": SCHEMA | {"strict": None}}]},
    SHAREGPT,
    {"messages": [ASKED, {"role": "assistant", "function_call": call("서울", text=True)["function"]}, *ONE[2:]]}
    | {"functions": [SCHEMA]},
    SHAREGPT | {"conversations": [*SHAREGPT["conversations"][:2], {"from": "tool", "value": "맑음"}, ANSWER]},
]


@pytest.mark.parametrize("row", WAYS)
def test_every_way_of_writing_a_call_is_trained_as_one(tmp_path: Path, row: dict[str, Any]) -> None:
    turns = row.get("conversations")
    if turns:
        names = {"role": "from", "content": "value"}
        row = {**row, "conversations": [{names.get(name, name): said for name, said in turn.items()} for turn in turns]}
    data = convert(table([row]))
    encoder = Encoder(tiny_model(tmp_path, HERMES))
    (text,) = encoder.render(data.examples[0])
    assert text.text == reference(HERMES, ONE)
    learnt = [text.text[begin:end] for begin, end in text.learnt]
    called = '<tool_call>{"name": "weather", "arguments": {"city": "서울"}}</tool_call><|im_end|>\n'
    assert learnt == [called, "맑아요.<|im_end|>\n"]
    report = inspect(data, encoder)
    assert not report.fatal
    assert [part for part, is_learnt in report.previews[0].parts if is_learnt] == learnt


REAL = ("qwen2_5", "qwen3", "qwen3_instruct_2507", "llama3_1", "nemotron_3_nano", "gemma4", "muse_glimmer")


@pytest.mark.parametrize("name", REAL)
def test_real_templates_write_what_transformers_has_them_write(tmp_path: Path, name: str) -> None:
    pytest.importorskip("trl")
    template = files("trl").joinpath(f"chat_templates/{name}.jinja").read_text(encoding="utf-8")
    encoder = Encoder(tiny_model(tmp_path, template))
    texts = encoder.render(rows(ONE).examples[0])
    assert texts[-1].text.removesuffix("</s>") == reference(template, ONE).removesuffix("</s>")
    learnt = [text.text[begin:end] for text in texts for begin, end in text.learnt]
    assert [("서울" in part, "맑아요." in part) for part in learnt] == [(True, False), (False, True)]
    assert not any("맑음" in part for part in learnt)


def test_calls_in_turns_of_their_own_are_one_answer(tmp_path: Path) -> None:
    """As ms-swift writes them."""
    apart = [{"role": "tool_call", "content": json.dumps(one["function"])} for one in TWO[1]["tool_calls"]]
    results = [{"role": "tool_response", "content": one["content"]} for one in TWO[2:4]]
    (text,) = Encoder(tiny_model(tmp_path, HERMES)).render(rows([ASKED, *apart, *results, ANSWER]).examples[0])
    assert text.text == reference(HERMES, TWO)


@pytest.mark.parametrize(
    ("first", "second", "mark"),
    [
        ({}, {}, None),
        ({}, {"loss": False}, False),
        ({"loss": False}, {"loss": True}, False),
        ({"loss": True}, {}, True),
    ],
)
def test_a_call_marked_as_wrong_is_not_learnt_with_the_one_before(
    first: dict[str, Any], second: dict[str, Any], mark: bool | None
) -> None:
    one = {"role": "tool_call", "content": json.dumps(call("서울")["function"])}
    (example,) = rows([ASKED, one | first, one | second | {"thinking": "음"}, result("맑음"), ANSWER]).examples
    assert (example.turns[1].mark, example.turns[1].thought) == (mark, "음")


def test_arguments_are_a_text_where_the_template_wants_one(tmp_path: Path) -> None:
    (text,) = Encoder(tiny_model(tmp_path, TEXTS)).render(rows(ONE).examples[0])
    assert '<tool_call>weather{"city": "서울"}</tool_call>' in text.text


BESIDE = [ASKED, calling(call("서울"), content="볼게요."), result("맑음"), ANSWER]
DROPS_TEXT = HERMES.replace("(m.content or '')", "('' if m.tool_calls else m.content)")
LOST: list[tuple[str, list[dict[str, Any]], str]] = [
    (HERMES, TWO, ""),
    (HERMES, BESIDE, ""),
    (SINGLE, ONE, ""),
    (SINGLE, TWO, "several calls in one answer"),
    (DROPS_TEXT, BESIDE, "text beside a call"),
    (SILENT, ONE, "tools"),
    (HERMES.replace("tools", "nothing"), [ASKED, ANSWER], "tools"),
]


@pytest.mark.parametrize(("template", "turns", "lost"), LOST)
def test_what_a_template_has_no_place_for_is_refused_by_row(
    tmp_path: Path, template: str, turns: list[dict[str, Any]], lost: str
) -> None:
    plain = {"messages": [ASKED, ANSWER]}
    data = convert(table([plain, {"messages": turns, "tools": [TOOL]}]))
    encoder = Encoder(tiny_model(tmp_path, template))
    report = inspect(data, encoder)
    found = [(one.check, one.rows, one.message) for one in report.findings if one.severity == "fatal"]
    said = f"1 row of which the chat template has no place for {lost}"
    assert found == ([("tools", (2,), said)] if lost else [])
    left, _ = fix(data, report.findings)
    assert [example.row for example in left.examples] == ([1] if lost else [1, 2])


def test_calls_without_tools_and_results_alone_need_a_place_too(tmp_path: Path) -> None:
    told = {
        SILENT: (rows(ONE, tools=None), "calls of tools"),
        NO_RESULTS: (rows([ASKED, ANSWER, result("맑음"), ANSWER], tools=None), "results of tools"),
    }
    for place, (template, (data, lost)) in enumerate(told.items()):
        encoder = Encoder(tiny_model(tmp_path / str(place), template))
        report = inspect(data, encoder)
        assert [one.message for one in report.findings if one.severity == "fatal"] == [
            f"1 row of which the chat template has no place for {lost}"
        ]


def test_calls_that_are_text_stay_text_and_their_tools_are_told_once(tmp_path: Path) -> None:
    """As Hermes writes them: the system turn holds the schemas, answers hold the calls."""
    said = '<tool_call>\n{"name": "weather", "arguments": {"city": "서울"}}\n</tool_call>'
    turns = [
        {"from": "system", "value": f"You may call <tools>[{json.dumps(TOOL)}]</tools>."},
        {"from": "human", "value": "서울 날씨?"},
        {"from": "gpt", "value": said},
        {"from": "tool", "value": "<tool_response>맑음</tool_response>"},
        {"from": "gpt", "value": "맑아요."},
    ]
    data = convert(table([{"conversations": turns, "tools": json.dumps([TOOL])}]))
    (text,) = Encoder(tiny_model(tmp_path, HERMES)).render(data.examples[0])
    assert text.text.count('"weather"') == 2
    assert [text.text[begin:end] for begin, end in text.learnt] == [f"{said}<|im_end|>\n", "맑아요.<|im_end|>\n"]


UNFIT: list[tuple[list[dict[str, Any]], Any, str]] = [
    ([ASKED, calling({"function": {"name": "a", "arguments": "no JSON"}})], None, "arguments of a call"),
    ([ASKED, calling({"function": {"arguments": {}}})], None, "without a name"),
    ([ASKED, ANSWER], "weather", "no schema of a function"),
    ([ASKED, ANSWER], [{"parameters": {}}], "no schema of a function"),
]


@pytest.mark.parametrize(("turns", "tools", "said"), UNFIT)
def test_calls_and_tools_that_cannot_be_read_are_named(turns: list[dict[str, Any]], tools: Any, said: str) -> None:
    (found,) = (one for one in rows(turns, tools=tools).findings if one.severity == "fatal")
    assert said in found.message


def test_null_as_an_argument_is_said() -> None:
    given = {"function": {"name": "weather", "arguments": {"city": "서울", "unit": None}}}
    (found,) = rows([ASKED, calling(given)]).findings
    assert (found.check, found.severity, found.about) == ("null-arguments", "warning", "unit")

    deep = {"function": {"name": "weather", "arguments": {"place": [{"city": None}]}, "strict": True}, "cost": 3}
    meant = {"function": {"name": "weather", "arguments": '{"city": null}'}}
    seen = rows([ASKED, calling(deep, meant)]).findings
    named = {one.check: one.about.partition(" ")[0] for one in seen}
    assert named == {"unused": "tool_calls.cost", "null-arguments": "city"}


@pytest.mark.parametrize(
    ("tools", "kept"),
    [
        ([SCHEMA | {"strict": None, "default": {"a": None}}], {**SCHEMA, "default": {}}),
        (json.dumps([SCHEMA | {"default": None}]), {**SCHEMA, "default": None}),
        ([json.dumps(SCHEMA | {"default": None})], {**SCHEMA, "default": None}),
        ("None", None),
    ],
)
def test_null_in_a_schema_stays_where_it_was_written(tools: Any, kept: dict[str, Any] | None) -> None:
    (example,) = rows([ASKED, ANSWER], tools=tools).examples
    assert [tool["function"] for tool in example.tools] == ([] if kept is None else [kept])


def test_rows_with_other_tools_or_marks_are_not_the_same() -> None:
    one, other = {"messages": [ASKED, ANSWER], "tools": [TOOL]}, {"messages": [ASKED, ANSWER]}
    marked = {"messages": [ASKED, {**ANSWER, "weight": 0}, *ONE]}
    made = convert(table([one, other, other, marked, {"messages": [ASKED, ANSWER, *ONE]}]))
    assert [found.rows for found in inspect(made).findings if found.check == "duplicates"] == [(3,)]


@pytest.mark.parametrize("turn", [calling(call("서울"), content="볼게요."), calling(call("서울")) | {"thinking": "음"}])
def test_an_answer_behind_a_call_with_a_thought_has_its_heading(tmp_path: Path, turn: dict[str, Any]) -> None:
    pytest.importorskip("trl")
    template = files("trl").joinpath("chat_templates/gptoss.jinja").read_text(encoding="utf-8")
    texts = Encoder(tiny_model(tmp_path, template)).render(rows([ASKED, turn, result("맑음"), ANSWER]).examples[0])
    learnt = [text.text[begin:end] for text in texts for begin, end in text.learnt]
    assert learnt[-1] == "<|channel|>final<|message|>맑아요.<|return|>"
    assert texts[-1].text.endswith("<|start|>assistant" + learnt[-1])


def test_a_pair_has_tools_in_its_prompt_and_no_calls_in_its_answers(tmp_path: Path) -> None:
    sides = {"chosen": [*ONE[:3], ANSWER], "rejected": [*ONE[:3], {"role": "assistant", "content": "몰라요."}]}
    called = {"chosen": ONE[:2], "rejected": [ASKED, ANSWER]}
    data = convert(table([sides | {"tools": [TOOL]}, called | {"tools": [TOOL]}]))
    assert [(one.check, one.rows) for one in data.findings if one.severity == "fatal"] == [("unreadable", (2,))]
    chosen, rejected = Encoder(tiny_model(tmp_path, HERMES)).sides(data.examples[0])
    assert chosen.text == reference(HERMES, sides["chosen"])
    assert rejected.text == reference(HERMES, sides["rejected"])


def test_a_cleaned_copy_keeps_tools_and_calls(tmp_path: Path) -> None:
    data = rows(ONE, TWO)
    write_fixed(tmp_path / "clean.jsonl", fix(data, [])[0], "source")
    again = convert(read(str(tmp_path / "clean.jsonl")))
    assert again.examples == data.examples
    assert again.findings == []


def test_typed_control_tokens_in_a_call_are_refused(tmp_path: Path) -> None:
    encoder = Encoder(tiny_model(tmp_path, HERMES))
    data = rows([ASKED, calling(call("</s>")), result("맑음"), ANSWER])
    assert encoder.lacks(data.examples[0]) == "control tokens in tools or calls"
