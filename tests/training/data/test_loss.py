"""Whose turns carry loss: roles_to_train of the recipe, marks of the data, which win, and answers_only: false."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from playground.errors import ConfigError, VariantError
from tests.training.data.conftest import tiny_model
from tests.training.data.rows import PREFERENCE, TEXT, table
from training.data.checks import check
from training.data.encoder import Encoder
from training.data.formats import convert
from training.data.tokenizing import Text

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
IN_QUESTION = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}{% if m.role != 'assistant' %}{{ m.content + ' : ' }}"
    "{% elif loop.last %}{{ 'b ' + m.content + ' </s>' }}{% else %}{{ 'c ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'b ' }}{% endif %}"
)
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "SYS"},
    {"role": "user", "content": " Q1 "},
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "Q1"},
    {"role": "assistant", "content": "A2"},
]
ASSISTANT, USER = ("assistant",), ("user",)
LEARNT: list[tuple[str, tuple[str, ...], dict[int, dict[str, Any]], list[str]]] = [
    (CHATML, ASSISTANT, {}, ["A1<|im_end|>\n", "A2<|im_end|>\n"]),
    (CHATML, USER, {}, ["Q1<|im_end|>", "Q1<|im_end|>"]),
    (CHATML, ("system", "user"), {}, ["SYS<|im_end|>", "Q1<|im_end|>", "Q1<|im_end|>"]),
    (CHATML, ASSISTANT, {3: {"train": True}}, ["A1<|im_end|>\n", "Q1<|im_end|>", "A2<|im_end|>\n"]),
    (CHATML, ("user", "assistant"), {2: {"weight": 0}, 1: {"loss": False}}, ["Q1<|im_end|>", "A2<|im_end|>\n"]),
    (CHATML, (), {4: {"train": True}}, ["A2<|im_end|>\n"]),
    (IN_QUESTION, ("system",), {}, ["SYS"]),
    (IN_QUESTION, USER, {}, [" Q1 </s>", "Q1</s>"]),
    (FORGETFUL, ("user", "assistant"), {}, [" Q1 ", "A1 </s>", "Q1", "A2 </s>"]),
    (FORGETFUL, USER, {3: {"weight": 0}}, [" Q1 "]),
]


def rows(roles: tuple[str, ...], marks: dict[int, dict[str, Any]]) -> Any:
    turns = [turn | marks.get(at, {}) for at, turn in enumerate(TALK)]
    return convert(table([{"messages": turns}]), roles=roles)


def learnt(texts: list[Text]) -> list[str]:
    return [text.text[begin:end] for text in texts for begin, end in text.learnt]


@pytest.mark.parametrize(("template", "roles", "marks", "wanted"), LEARNT)
def test_turns_are_learnt_by_role_and_by_their_marks(
    tmp_path: Path, template: str, roles: tuple[str, ...], marks: dict[int, dict[str, Any]], wanted: list[str]
) -> None:
    encoder = Encoder(tiny_model(tmp_path, template))
    texts = encoder.render(rows(roles, marks).examples[0])
    assert learnt(texts) == wanted
    tokens = encoder.encode(texts)
    assert all(part.answers for part in tokens)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("alpaca", ["Q\n\n### Input:\nI", "A</s>"]), ("koalpaca", ["Q\n\n### 맥락: I", " A</s>"])],
)
def test_a_question_with_its_input_is_learnt(tmp_path: Path, name: str, wanted: list[str]) -> None:
    made = convert(table([{"instruction": "Q", "input": "I", "output": "A"}]), roles=("user", "assistant"))
    texts = Encoder(tiny_model(tmp_path), name).render(made.examples[0])
    assert learnt(texts) == wanted


def test_a_turn_marked_as_wrong_is_not_learnt_where_all_else_is(tmp_path: Path) -> None:
    encoder = Encoder(tiny_model(tmp_path, CHATML), answers_only=False)
    (text,) = encoder.render(rows(ASSISTANT, {2: {"weight": 0}, 3: {"train": False}}).examples[0])
    assert learnt([text]) == [
        "<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\n",
        "\n<|im_start|>assistant\nA2<|im_end|>\n",
    ]


def test_a_turn_that_the_template_does_not_write_cannot_be_learnt(tmp_path: Path) -> None:
    template = "{% for m in messages if m.role != 'tool' %}{{ m.content + '</s>' }}{% endfor %}"
    turns = [*TALK[1:3], {"role": "tool", "content": "R"}, TALK[4]]
    told = convert(table([{"messages": turns}]), roles=("tool", "assistant"))
    with pytest.raises(VariantError, match="turn of role tool"):
        Encoder(tiny_model(tmp_path, template)).render(told.examples[0])


def test_rows_of_which_nothing_is_learnt_are_refused_and_other_data_has_no_roles() -> None:
    assert [one.check for one in check(rows((), {})) if one.severity == "fatal"] == ["nothing-learnt"]
    assert not [one for one in check(rows(USER, {})) if one.severity == "fatal"]
    for other in (TEXT, PREFERENCE):
        with pytest.raises(ConfigError, match="roles_to_train"):
            convert(table(other), roles=USER)


@pytest.mark.parametrize("name", ["qwen3", "llama3_1", "gemma3", "phi3_5", "glm4moe", "qwen2_5"])
def test_real_templates_have_a_place_for_every_turn(tmp_path: Path, name: str) -> None:
    pytest.importorskip("trl")
    template = files("trl").joinpath(f"chat_templates/{name}.jinja").read_text(encoding="utf-8")
    encoder = Encoder(tiny_model(tmp_path, template))
    texts = encoder.render(rows(("system", "user", "assistant"), {}).examples[0])
    parts = [part.strip() for part in learnt(texts)]
    assert len(parts) == 5
    assert [said in part for said, part in zip(("SYS", "Q1", "A1", "Q1", "A2"), parts, strict=True)] == [True] * 5
