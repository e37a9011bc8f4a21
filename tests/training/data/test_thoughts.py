"""Thoughts in training data: rendered once, learnt where the model would think, never dropped without a word."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from playground.thinking.habits import habits
from tests.training.data.conftest import tiny_model
from training.data.checks import check
from training.data.encoder import Encoder
from training.data.examples import Table, Turn
from training.data.fixing import fix, write_fixed
from training.data.formats import Data, convert
from training.data.lengths import measure
from training.data.thoughts import parted, wrong_tags
from training.data.tokenizing import Text

OPENS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ 'A: ' + m.content.split('</think>')[-1] + eos_token }}"
    "{% else %}{{ 'U: ' + m.content + ' ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'A: <think>\n' }}{% endif %}"
)
SWITCH = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ 'A: ' }}{% if loop.last %}{{ '<think>\n' }}"
    "{{ m.reasoning_content or '' }}{{ '\n</think>\n\n' }}{% endif %}{{ m.content + eos_token }}"
    "{% else %}{{ 'U: ' + m.content + ' ' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'A: ' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
DEFAULT_OFF = SWITCH.replace(
    "enable_thinking is defined and not enable_thinking", "not (enable_thinking is defined and enable_thinking)"
)
STRIPS = OPENS.replace("A: <think>\n", "A: ")
"""A template that takes thoughts out of answers, and has no field for them."""
PLAIN = (
    "{% for m in messages %}{{ m.role[0] + ': ' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'a: ' }}{% endif %}"
)
MISTRAL = "{% for m in messages %}{{ m.content }}{% endfor %}{% if false %}[THINK][/THINK]{% endif %}"
INLINE = "<think>\nb\n</think>\n\nc"


def rows(*answers: dict[str, Any] | str) -> Data:
    """One conversation of these answers, each to the question `a`."""
    turns: list[dict[str, Any]] = []
    for answer in answers:
        said = {"content": answer} if isinstance(answer, str) else answer
        turns += [{"role": "user", "content": "a"}, {"role": "assistant", **said}]
    return convert(Table([{"messages": turns}], [1], "t"), "messages")


def encoder(tmp_path: Path, template: str) -> Encoder:
    return Encoder(tiny_model(tmp_path / "model", template))


def marked(texts: list[Text]) -> list[str]:
    """The texts with what is learnt in double brackets."""
    found = []
    for row in texts:
        text, at = "", 0
        for start, end in row.learnt:
            text, at = f"{text}{row.text[at:start]}[[{row.text[start:end]}]]", end
        found.append(text + row.text[at:])
    return found


PARTS = [{"type": "thinking", "thinking": "b"}, {"type": "text", "text": "c"}]
APART = {"content": "c", "reasoning_content": "b"}
TABLE: list[tuple[str, Any, str]] = [
    (OPENS, INLINE, "U: a A: <think>\n[[b\n</think>\n\nc</s>]]"),
    (OPENS, APART, "U: a A: <think>\n[[b\n</think>\n\nc</s>]]"),
    (OPENS, {"content": "c", "thinking": "b"}, "U: a A: <think>\n[[b\n</think>\n\nc</s>]]"),
    (OPENS, "c", "U: a A: <think>\n\n</think>\n\n[[c</s>]]"),
    (SWITCH, INLINE, "U: a A: [[<think>\nb\n</think>\n\nc</s>]]"),
    (SWITCH, APART, "U: a A: [[<think>\nb\n</think>\n\nc</s>]]"),
    (SWITCH, {"content": INLINE, "reasoning_content": "b"}, "U: a A: [[<think>\nb\n</think>\n\nc</s>]]"),
    (SWITCH, {"content": "c", "reasoning": "<think>b</think>"}, "U: a A: [[<think>\nb\n</think>\n\nc</s>]]"),
    (SWITCH, "c", "U: a A: <think>\n\n</think>\n\n[[c</s>]]"),
    (SWITCH, "<think>\n\n</think>\n\nc", "U: a A: <think>\n\n</think>\n\n[[c</s>]]"),
    (SWITCH, "[THINK]b[/THINK]c", "U: a A: [[<think>\nb\n</think>\n\nc</s>]]"),
    (DEFAULT_OFF, APART, "U: a A: [[<think>\nb\n</think>\n\nc</s>]]"),
    (DEFAULT_OFF, "c", "U: a A: <think>\n\n</think>\n\n[[c</s>]]"),
    (STRIPS, INLINE, "U: a A: [[<think>\nb\n</think>\n\nc</s>]]"),
    (STRIPS, APART, "U: a A: [[<think>\nb\n</think>\n\nc</s>]]"),
    (STRIPS, "c", "U: a A: [[c</s>]]"),
    (PLAIN, INLINE, "u: a</s>a: [[<think>\nb\n</think>\n\nc</s>]]"),
    (PLAIN, APART, "u: a</s>a: [[c</s>]]"),
    (SWITCH, {"content": PARTS}, "U: a A: [[<think>\nb\n</think>\n\nc</s>]]"),
    (OPENS, "b</think>c", "U: a A: <think>\n[[b\n</think>\n\nc</s>]]"),
    (OPENS, "d <think>b</think>c", "U: a A: <think>\n\n</think>\n\n[[d <think>b</think>c</s>]]"),
    (OPENS, {"content": "", "thinking": "b"}, "U: a A: <think>\n[[b\n</think>\n\n</s>]]"),
    (SWITCH, {"content": "c", "thinking": ["b"]}, "U: a A: [[<think>\nb\n</think>\n\nc</s>]]"),
    (SWITCH, {"content": "c", "thinking": True}, "U: a A: <think>\n\n</think>\n\n[[c</s>]]"),
]


@pytest.mark.parametrize(("template", "answer", "text"), TABLE)
def test_a_thought_is_rendered_once(tmp_path: Path, template: str, answer: Any, text: str) -> None:
    (found,) = marked(encoder(tmp_path, template).render(rows(answer).examples[0]))
    assert found == text


FAMILIES = ("deepseek_r1_distill", "gemma4", "glm4moe", "gptoss", "lfm2_2_5", "nemotron_3_nano", "qwen3", "qwen3_6")


@pytest.mark.parametrize("name", FAMILIES)
def test_templates_of_real_models_have_a_thought_once_and_learn_no_empty_one(tmp_path: Path, name: str) -> None:
    pytest.importorskip("trl")
    template = files("trl").joinpath(f"chat_templates/{name}.jinja").read_text(encoding="utf-8")
    made = encoder(tmp_path, template)
    tags = made.habits.tags[0]
    (thought,) = made.render(rows({"content": "ANSWER", "reasoning_content": "THOUGHT"}).examples[0])
    learnt = thought.text[slice(*thought.learnt[0])]
    assert (thought.text.count("THOUGHT"), learnt.count("THOUGHT"), learnt.count("ANSWER")) == (1, 1, 1)
    assert learnt.index("THOUGHT") < learnt.index(tags.answer[0]) < learnt.index("ANSWER")
    (bare,) = made.render(rows("ANSWER").examples[0])
    learnt = bare.text[slice(*bare.learnt[0])]
    assert learnt.strip().removeprefix(tags.empty).startswith("ANSWER")


@pytest.mark.parametrize("template", [OPENS, SWITCH])
def test_each_answer_with_a_thought_is_a_row_of_its_own(tmp_path: Path, template: str) -> None:
    first, second = encoder(tmp_path, template).render(rows(INLINE, "<think>d</think>e").examples[0])
    assert first.text.count("b\n</think>") == 1
    assert "b" not in second.text.replace("b\n", "")
    assert second.text.startswith("U: a A: c</s>U: a A: ")
    assert second.text[slice(*second.learnt[0])].endswith("d\n</think>\n\ne</s>")


def test_thoughts_without_a_place_part_no_rows(tmp_path: Path) -> None:
    (found,) = marked(encoder(tmp_path, PLAIN).render(rows(APART, "d").examples[0]))
    assert found == "u: a</s>a: [[c</s>]]u: a</s>a: [[d</s>]]"


def test_answers_without_loss_carry_none(tmp_path: Path) -> None:
    for template in (PLAIN, SWITCH):
        texts = encoder(tmp_path, template).render(rows({"content": "b", "weight": 0}, "c").examples[0])
        learnt = ["".join(row.text[slice(*span)] for span in row.learnt) for row in texts]
        assert learnt == ["c</s>"]


@pytest.mark.parametrize("mark", [{"weight": 0}, {"loss": False}, {"train": False}, {"weight": 0.0}, {"weight": "0"}])
def test_marks_of_no_loss_are_read(mark: dict[str, Any]) -> None:
    assert [turn.learnt for turn in rows({"content": "b", **mark}, "c").examples[0].turns] == [
        False,
        False,
        False,
        True,
    ]
    assert rows({"content": "b", **dict.fromkeys(mark, 1)}).examples[0].turns[-1].learnt


def test_a_pair_has_one_prompt_whichever_side_thinks(tmp_path: Path) -> None:
    row = {"prompt": "a", "chosen": INLINE, "rejected": "d"}
    data = convert(Table([row], [1], "t"), "preference")
    made = encoder(tmp_path, OPENS)
    chosen, rejected = marked(made.sides(data.examples[0]))
    assert chosen == "U: a A: <think>\n[[b\n</think>\n\nc</s>]]"
    assert rejected == "U: a A: <think>\n[[\n</think>\n\nd</s>]]"
    pair = made.pair(data.examples[0])
    assert made.tokenizer.decode(pair.prompt, skip_special_tokens=False)
    assert len(pair.chosen) > len(pair.rejected)


def findings(tmp_path: Path, template: str, data: Data) -> dict[str, tuple[str, tuple[int, ...]]]:
    made = encoder(tmp_path, template)
    return {one.check: (one.severity, one.rows) for one in check(data, made, None, measure(data, made))}


FOUND: list[tuple[str, Any, dict[str, str]]] = [
    (OPENS, "c", {"no-thought": "warning"}),
    (SWITCH, "c", {"no-thought": "note"}),
    (PLAIN, "c", {}),
    (OPENS, INLINE, {}),
    (SWITCH, APART, {}),
    (PLAIN, APART, {"thoughts-left-out": "warning"}),
    (SWITCH, {"content": INLINE, "reasoning_content": "b"}, {"thought-tags": "warning"}),
    (OPENS, "<think><think>b</think></think>c", {"thought-tags": "warning"}),
    (OPENS, "b</think>c", {}),
    (SWITCH, "b</think>c", {"thought-tags": "warning", "no-thought": "note"}),
    (SWITCH, {"content": "c", "reasoning_content": "<think>b</think>"}, {"thought-tags": "warning"}),
    (OPENS, "<think>\n<think>\nb\n</think>\n\nc", {"thought-tags": "warning"}),
    (OPENS, "d <think>b</think>c", {"thought-tags": "warning", "no-thought": "warning"}),
    (OPENS, "b</think>", {"thought-tags": "warning"}),
]


@pytest.mark.parametrize(("template", "answer", "found"), FOUND)
def test_what_is_wrong_with_thoughts_is_said(tmp_path: Path, template: str, answer: Any, found: dict[str, str]) -> None:
    told = findings(tmp_path, template, rows(answer))
    assert {name: severity for name, (severity, _) in told.items()} == found
    assert all(numbers == (1,) for _, numbers in told.values())


def test_answers_without_loss_are_said_and_a_row_of_them_alone_is_refused() -> None:
    said = {one.check: one.severity for one in check(rows({"content": "b", "loss": False}, "c"))}
    assert said == {"no-loss": "note"}
    said = {one.check: one.severity for one in check(rows({"content": "b", "loss": False}))}
    assert said == {"nothing-learnt": "fatal"}


def test_a_cleaned_copy_keeps_thoughts_and_marks(tmp_path: Path) -> None:
    data = rows(APART | {"weight": 0}, "c")
    kept, _ = fix(data, [])
    write_fixed(tmp_path / "clean.jsonl", kept, "source")
    (line,) = (tmp_path / "clean.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["messages"][1] == {
        **{"role": "assistant", "content": "c", "reasoning_content": "b", "weight": 0}
    }


def test_tags_are_text_where_the_template_knows_none() -> None:
    turn = Turn("assistant", INLINE)
    assert parted(turn, habits(PLAIN)) == turn
    assert parted(turn, habits(MISTRAL)) == Turn("assistant", "c", "b")
    assert parted(Turn("user", INLINE), habits(OPENS)) == Turn("user", INLINE)
    assert not wrong_tags(Turn("assistant", "The tag <think> opens."))


def test_a_thought_that_is_no_text_is_named_and_one_in_a_column_is_read() -> None:
    (finding,) = rows({"content": "c", "reasoning": {"text": "b"}}).findings
    assert "reasoning is an object" in finding.message
    row = {"instruction": "a", "output": "c", "reasoning_content": "b"}
    assert convert(Table([row], [1], "t")).examples[0].turns[-1] == Turn("assistant", "c", "b")


def test_a_thought_without_an_answer_is_none() -> None:
    assert [one.check for one in check(rows("<think>b</think>"))] == ["missing-answers"]
