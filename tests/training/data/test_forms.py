"""Rows with an input are trained in the published forms, and every renderer of a prompt asks in the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from playground.messages import Message
from playground.prompts import prompt_format, render
from tests.training.data.conftest import tiny_model
from tests.training.data.rows import data
from training.data.encoder import Encoder
from training.data.fixing import fix, write_fixed
from training.data.formats import convert
from training.data.sources import read

LONG = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
SHORT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
CONTEXT, QUESTION = "### 질문: {instruction}\n\n### 맥락: {input}\n\n### 답변:", "### 질문: {instruction}\n\n### 답변:"
MARKED = "Say what\n### Input: means, and (### Input:)\nits place."
ROWS: list[tuple[str, str, str, str]] = [
    ("alpaca", "Translate.", "마당\n\n넓다", LONG),
    ("alpaca", "Two lines.\n", " spaced", LONG),
    ("alpaca", "Tell a joke.", "", SHORT),
    ("alpaca", "Tell a joke.", " \n", SHORT),
    ("alpaca", MARKED, "", SHORT),
    ("koalpaca", "옮겨 줘.", "A yard.", CONTEXT),
    ("koalpaca", "누구야?", "", QUESTION),
]
TALK = [
    Message(role="user", content="Translate.\n\n### Input:\n마당"),
    Message(role="assistant", content="Yard."),
    Message(role="user", content="Why?"),
]


@pytest.mark.parametrize(("form", "instruction", "extra", "published"), ROWS)
def test_rows_are_trained_in_the_published_form_and_asked_in_it(
    tmp_path: Path, form: str, instruction: str, extra: str, published: str
) -> None:
    row = {"instruction": instruction, "input": extra, "output": "ANSWER"}
    encoder = Encoder(tiny_model(tmp_path), form)
    (text,) = encoder.render(data([row]).examples[0])
    wanted = published.format(**row)
    assert text.text.startswith(wanted)
    assert text.text.removeprefix(wanted) == (" ANSWER</s>" if form == "koalpaca" else "\nANSWER</s>")
    section = prompt_format(form).input
    asked = [Message(role="user", content=instruction + section + extra if extra.strip() else instruction)]
    prompts = (_chat(form, asked), _transformers(form, asked))
    assert all(prompt.rstrip("\n") == wanted and text.text.startswith(prompt) for prompt in prompts)


def _chat(form: str, turns: list[Message]) -> str:
    return render(prompt_format(form), turns, {"eos_token": "</s>"})


def _transformers(form: str, turns: list[Message]) -> str:
    """What transformers, and a server that reads the template out of an export, make of the turns."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rows = [turn.model_dump(exclude_none=True) for turn in turns]
    template = prompt_format(form).template
    (text,), _ = render_jinja_template([rows], chat_template=template, add_generation_prompt=True, eos_token="</s>")
    return str(text)


@pytest.mark.parametrize(("turns", "form"), [(TALK, LONG), (TALK[2:] + TALK[1:2] + TALK[:1], SHORT)])
def test_the_first_question_decides_on_the_first_sentence(turns: list[Message], form: str) -> None:
    said = _chat("alpaca", turns)
    assert said == _transformers("alpaca", turns)
    assert said.startswith(form.partition("###")[0])
    assert said.count("Below is") == said.count("### Input:\n마당\n\n### Response:\n") == 1


def test_under_a_template_of_its_own_the_input_follows_after_a_blank_line(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + ' </s> ' }}{% endfor %}"
    row = {"instruction": "Translate.", "input": "마당", "output": "Yard."}
    (text,) = Encoder(tiny_model(tmp_path, template)).render(data([row]).examples[0])
    assert text.text.startswith("user: Translate.\n\n마당 </s> ")


def test_a_cleaned_copy_is_trained_in_the_same_form(tmp_path: Path) -> None:
    encoder = Encoder(tiny_model(tmp_path / "tiny"))
    rows: list[dict[str, Any]] = [{"instruction": "Translate.", "input": "마당", "output": "Yard."}]
    before = data(rows)
    write_fixed(tmp_path / "clean.jsonl", fix(before, [])[0], "source")
    (again,) = convert(read(str(tmp_path / "clean.jsonl"))).examples
    assert encoder.render(again) == encoder.render(before.examples[0])
    (line,) = (tmp_path / "clean.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["messages"][0]["content"] == "Translate.\n\n마당"
