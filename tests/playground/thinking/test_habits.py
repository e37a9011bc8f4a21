"""What templates of each family do about thinking is found without a table of models."""

from importlib.resources import files
from typing import Any

import pytest

from playground import template
from playground.errors import VariantError
from playground.messages import Message
from playground.prompts import PromptFormat, render
from playground.thinking.asked import Thinking
from playground.thinking.habits import Habits, habits, turn

OPENS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|a|>' + m.content.split('</think>')[-1] }}"
    "{% else %}{{ '<|u|>' + m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|a|><think>\n' }}{% endif %}"
)
SWITCH = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|a|>{% if loop.last %}<think>\n"
    "{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}{% else %}<|u|>{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|a|>{% if enable_thinking is defined and not enable_thinking %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
PLAIN = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
NEGATIVE = (
    "{% for m in messages %}{{ m.content }}{% endfor %}{{ '<thought>' if not no_thinking else '<thought></thought>' }}"
)
OWN_TAGS = (
    "{% for m in messages %}{% if m.reasoning %}<inner_voice>{{ m.reasoning }}</inner_voice>{% endif %}"
    "{{ m.content }}{% endfor %}"
)
PARTS = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part.type == 'thinking' %}[THINK]{{ part.thinking[0].text }}[/THINK]{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)
EFFORT = (
    "{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if reasoning_effort == 'high' %}<think>{% elif reasoning_effort == 'none' %}<think></think>{% endif %}"
)
BUDGET = "{{ thinking_budget if thinking_budget is defined }}{% for m in messages %}{{ m.content }}{% endfor %}<think>"
TABLE = [
    # template, tags, switch, effort variable, field, opens, default
    (OPENS, "<think>", None, None, None, True, True),
    (SWITCH, "<think>", "enable_thinking", None, "reasoning_content", False, True),
    (PLAIN, None, None, None, None, False, None),
    (NEGATIVE, "<thought>", "no_thinking", None, None, True, True),
    (OWN_TAGS, "<inner_voice>", None, None, "reasoning", False, None),
    (PARTS, "[THINK]", None, None, "parts", False, None),
    (EFFORT, "<think>", None, "reasoning_effort", None, False, None),
    (BUDGET, "<think>", None, None, None, True, True),
    ("{% broken", None, None, None, None, False, None),
]
SHIPPED = {
    "qwen3": ("<think>", "enable_thinking", "reasoning_content", False, True),
    "qwen3_5_nothink": ("<think>", "enable_thinking", "reasoning_content", False, False),
    "qwen3_6": ("<think>", "enable_thinking", "reasoning_content", True, True),
    "deepseek_r1_distill": ("<think>", None, None, True, True),
    "glm4moe": ("<think>", "enable_thinking", "reasoning_content", False, True),
    "gptoss": ("<|channel|>analysis<|message|>", None, "thinking", False, None),
    "gemma4": ("<|channel>thought\n", "enable_thinking", None, False, False),
    "lfm2_2_5": ("<think>", None, "thinking", False, None),
    "llama3_1": (None, None, None, False, None),
    "qwen2_5": (None, None, None, False, None),
}
"""Templates of real models, as TRL ships them."""


def _first(found: Habits) -> str | None:
    return found.tags[0].thought[0] if found.tags else None


@pytest.mark.parametrize(("text", "tag", "switch", "effort", "field", "opens", "default"), TABLE)
def test_small_templates(
    text: str,
    tag: str | None,
    switch: str | None,
    effort: str | None,
    field: str | None,
    opens: bool,
    default: bool | None,
) -> None:
    found = habits(text)
    assert (_first(found), found.switch, found.effort, found.field, found.opens, found.default) == (
        *(tag, switch, effort),
        *(field, opens, default),
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_templates_of_real_models(name: str) -> None:
    pytest.importorskip("trl")
    found = habits(files("trl").joinpath(f"chat_templates/{name}.jinja").read_text(encoding="utf-8"))
    assert (_first(found), found.switch, found.field, found.opens, found.default) == SHIPPED[name]


VARIABLES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (SWITCH, {"mode": "off"}, {"enable_thinking": False}),
    (SWITCH, {"mode": "on"}, {"enable_thinking": True}),
    (SWITCH, {}, {}),
    (SWITCH, {"effort": "low"}, {"enable_thinking": True}),
    (NEGATIVE, {"mode": "off"}, {"no_thinking": True}),
    (EFFORT, {"mode": "off"}, {"reasoning_effort": "none"}),
    (EFFORT, {"mode": "on"}, {"reasoning_effort": "high"}),
    (EFFORT, {"effort": "low"}, {"reasoning_effort": "high"}),
    (BUDGET, {"budget": 7}, {"thinking_budget": 7}),
    (OPENS, {"mode": "off"}, {}),
    (PLAIN, {"mode": "on", "budget": 7}, {}),
]


@pytest.mark.parametrize(("text", "wanted", "given"), VARIABLES)
def test_what_is_wanted_reaches_the_template(text: str, wanted: dict[str, Any], given: dict[str, Any]) -> None:
    assert habits(text).variables(Thinking(**wanted)) == given


ENDS = [
    (OPENS, "<|a|><think>\n", "off", "\n</think>\n\n"),
    (OPENS, "<|a|><think>\n", "on", ""),
    (SWITCH, "<|a|><think>\n\n</think>\n\n", "off", ""),
    (SWITCH, "<|a|>", "on", ""),
    (OWN_TAGS, "", "off", "<inner_voice>\n\n</inner_voice>\n\n"),
    (OWN_TAGS, "", "on", "<inner_voice>\n"),
    (PLAIN, "", "off", ""),
    (PLAIN, "", "on", ""),
]


@pytest.mark.parametrize(("text", "tail", "mode", "rest"), ENDS)
def test_what_a_template_cannot_do_is_written_for_it(text: str, tail: str, mode: Any, rest: str) -> None:
    assert habits(text).finished(tail, Thinking(mode=mode)) == rest


def test_thinking_of_a_model_that_cannot_is_refused_where_that_matters() -> None:
    habits(PLAIN).check("plain", Thinking(mode="on"))
    habits(PLAIN).check("plain", Thinking(mode="off", strict=True))
    with pytest.raises(VariantError, match="plain cannot be told to think"):
        habits(PLAIN).check("plain", Thinking(mode="on", strict=True))


def test_history_goes_back_as_each_template_wants_it() -> None:
    asked, said = Message(role="user", content="q"), Message(role="assistant", content="A", reasoning_content="T")
    texts = {
        name: render(PromptFormat(template=text), [asked, said], opened=False)
        for name, text in {"opens": OPENS, "switch": SWITCH, "own": OWN_TAGS, "parts": PARTS, "plain": PLAIN}.items()
    }
    assert texts == {
        "opens": "<|u|>q<|a|>A",
        "switch": "<|u|>q<|a|><think>\nT\n</think>\n\nA",
        "own": "q<inner_voice>T</inner_voice>A",
        "parts": "q[THINK]T[/THINK]A",
        "plain": "user: q\nassistant: A\n",
    }


def test_a_turn_without_a_thought_has_no_field_for_it() -> None:
    assert turn({"role": "assistant", "content": "A"}, SWITCH) == {"role": "assistant", "content": "A"}


def test_words_of_a_template_are_its_names_fields_and_texts() -> None:
    assert {"messages", "reasoning_content", "enable_thinking", "assistant"} <= template.words(SWITCH)


def test_a_list_of_parts_that_is_printed_is_no_field_for_thoughts() -> None:
    granite = "{% if thinking %}Think in <think></think>.{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"
    assert (habits(granite).switch, habits(granite).field) == ("thinking", None)


def test_a_switch_by_another_templates_name_wins_over_the_effort() -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"
    for mode in ("default", "on", "off"):
        for value, wanted in ((True, "on"), (False, "off")):
            meant = habits(source).meant(source, Thinking(mode=mode), {"enable_thinking": value})
            assert meant.mode == wanted
