"""What templates do with turns is found out by rendering: nothing is lost without a word."""

import pytest

from playground.errors import VariantError
from playground.messages import Conversation, Message
from playground.prompts import PromptFormat, render
from playground.traits import Traits, traits_of
from tests.playground.chat_templates import (
    DEEPSEEK,
    DROPS_ALL,
    DROPS_ANSWERS,
    DROPS_SYSTEM,
    EXAONE,
    INDEXED_PARTS,
    LAST_ALONE,
    LLAMA2,
    MISTRAL_TOOLS,
    PARTS,
    PHI,
    QWEN3,
)
from tests.playground.test_prompts import CHATML, GEMMA, LLAMA3

QUESTIONS_IN_PARTS = "{% for m in messages %}{{ m.content[0].text if m.role == 'user' else m.content }}{% endfor %}"
GOOD = Traits(parts=False, asks=True, system=True, history=True, answers=True)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TALK = Conversation.start("SYS").ask("one").answer("two").ask("three").messages


def but(**changed: bool) -> Traits:
    return GOOD.model_copy(update=changed)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        *((template, GOOD) for template in (LLAMA2, LLAMA3, CHATML, MISTRAL_TOOLS, QWEN3, DEEPSEEK, PHI, EXAONE)),
        (GEMMA, but(system=False)),
        (DROPS_SYSTEM, but(system=False)),
        (PARTS, but(parts=True)),
        (INDEXED_PARTS, but(parts=True)),
        (QUESTIONS_IN_PARTS, but(parts=True, users=True)),
        (LAST_ALONE, but(system=False, history=False, answers=True)),
        (DROPS_ANSWERS, but(system=False, history=False, answers=False)),
        (DROPS_ALL, Traits(parts=False, asks=False, system=False, history=False, answers=False)),
        ("{{ raise_exception('never') }}", but(system=False, takes=False)),
        ("{% if", but(system=False, takes=False)),
        (
            "{% for m in messages %}{{ m.content[:9] }}{% endfor %}",
            but(asks=False, system=False, history=False, answers=False),
        ),
    ],
)
def test_what_a_template_makes_of_turns(template: str, wanted: Traits) -> None:
    assert traits_of(template, TOKENS) == wanted


def said(template: str, messages: tuple[Message, ...] = TALK) -> str:
    return render(PromptFormat(template=template), messages, TOKENS)


def test_a_system_prompt_without_a_place_stands_before_the_first_question() -> None:
    assert (
        said(DROPS_SYSTEM)
        == "<|user|>\nSYS\n\none<|end|>\n<|assistant|>\ntwo<|end|>\n<|user|>\nthree<|end|>\n<|assistant|>\n"
    )
    assert said(GEMMA).startswith("<s><start_of_turn>user\nSYS\n\none<end_of_turn>")
    assert said(LAST_ALONE) == "<s>Q: SYS\n\nthree\nA:"


def test_parts_are_given_where_they_are_wanted() -> None:
    assert said(PARTS) == said(CHATML)
    assert said(INDEXED_PARTS).startswith("<|system|>SYS<|end|><|user|>one<|end|>")


def test_a_template_that_writes_no_question_is_refused_with_a_remedy() -> None:
    with pytest.raises(VariantError, match="writes nothing of what is asked") as caught:
        said(DROPS_ALL)
    assert "prompt_format" in caught.value.hint


@pytest.mark.parametrize(
    ("template", "messages", "notices"),
    [
        (CHATML, TALK, ()),
        (DROPS_SYSTEM, TALK, ("system_in_question",)),
        (DROPS_SYSTEM, TALK[1:], ()),
        (GEMMA, TALK, ("system_in_question",)),
        (LAST_ALONE, TALK, ("system_in_question", "turns_left_out")),
        (LAST_ALONE, TALK[-1:], ()),
        (DROPS_ANSWERS, TALK[1:], ("turns_left_out",)),
    ],
)
def test_what_is_said_of_turns(template: str, messages: tuple[Message, ...], notices: tuple[str, ...]) -> None:
    assert traits_of(template, TOKENS).notices(messages) == notices


def test_answers_come_as_text_where_questions_alone_come_as_parts() -> None:
    assert render(PromptFormat(template=QUESTIONS_IN_PARTS), TALK) == "SYSonetwothree"
