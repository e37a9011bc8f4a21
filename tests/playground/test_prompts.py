"""Prompts are the characters that transformers' apply_chat_template gives, and a refusal names its remedy."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.errors import UnknownNameError, VariantError
from playground.messages import Conversation, Message
from playground.prompts import PromptFormat, choose, continued, format_names, opening, prompt_format, render
from tests.playground.chat_templates import FAMILIES

BOS, EOS = "<s>", "</s>"
TOKENS = {
    "bos_token": BOS,
    "eos_token": EOS,
    **{f"{name}_token": f"<{name}>" for name in ("unk", "sep", "pad", "cls", "mask", "image")},
}

CHATML = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n' }}{% endif %}\
{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

LLAMA3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}\
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"""

MISTRAL = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
"""

GENERATION = """\
{% for message in messages %}
{%- if message.role == 'assistant' %}
<|assistant|>
{% generation %}
{{ message.content + eos_token }}
{% endgeneration %}
{% else %}
<|{{ message.role }}|>
{{ message.content }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}<|assistant|>
{% endif %}"""

TOJSON = """\
{%- for message in messages %}
    {%- if loop.index0 > 5 %}{% break %}{% endif %}
    {{- {"role": message.role, "text": message.content} | tojson }}
    {{- "\n" + (message.content | tojson(indent=2)) }}
{%- endfor %}
{%- if tools %}{{ tools | tojson }}{% endif %}
{%- set ns = namespace(seen=0) %}
{%- for message in messages %}{% set ns.seen = ns.seen + message.content | length %}{% endfor %}
{{ ns.seen }}"""

INDENTED = """\
{% for message in messages %}
    {% if message.role == 'user' %}
        {% set name = 'Q' %}
    Q: {{ message.content }}
    {% elif message.role == 'assistant' %}
  A: {{ message.content }}
    {% else %}
{{ message.content }}
    {% endif %}
{% endfor %}
    {% if add_generation_prompt %}
A:{% endif %}"""

TEMPLATES = {
    "indented": INDENTED,
    "chatml": CHATML,
    "llama3": LLAMA3,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "generation": GENERATION,
    "tojson": TOJSON,
    **FAMILIES,
}


def talk(system: str = "") -> tuple[Message, ...]:
    return Conversation.start(system).ask(' 안녕? <b>"hi"&\' ').answer(" 네 👩‍👧\n").ask("1 < 2\n\n").messages


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **TOKENS)


@pytest.mark.parametrize("system", ["", "간단히 답하세요."])
@pytest.mark.parametrize("name", TEMPLATES)
def test_prompts_equal_transformers_own(name: str, system: str, tokenizer: Any) -> None:
    template = TEMPLATES[name]
    messages = talk(system)
    turns = [message.model_dump(exclude_none=True) for message in messages]
    if name == "gemma" and system:  # it refuses a system role, which goes in front of the first question
        turns = [{"role": "user", "content": f"{system}\n\n{turns[1]['content']}"}, *turns[2:]]
    wanted = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False, add_generation_prompt=True)
    assert render(choose("v", template, None), messages, TOKENS) == wanted


WORDS = st.text(st.sampled_from("가 a\n<>|'\"{}%\\\t👩‍👧 "), min_size=1, max_size=12)
OPTIONS: dict[str, dict[str, Any]] = {
    "qwen3": {"enable_thinking": False},
    "mistral-tools": {"tools": [{"type": "function", "function": {"name": "날씨", "parameters": {"a": [1, None]}}}]},
    "everything": {"documents": [{"title": "t", "text": "x"}], "unk_token": "?", "nobody_gives_this": 0},
}


@settings(max_examples=30, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=5), st.sampled_from(["", "시스템 <s>"]), st.booleans(), st.booleans())
@pytest.mark.parametrize("name", sorted(set(TEMPLATES) - {"gemma"}))
def test_any_turns_equal_transformers_own(
    name: str, tokenizer: Any, said: list[str], system: str, opened: bool, more: bool
) -> None:
    messages = [
        Message(role="user" if place % 2 == 0 else "assistant", content=text) for place, text in enumerate(said)
    ]
    messages = [*([Message(role="system", content=system)] if system else []), *messages]
    extra = OPTIONS.get(name, {}) if more else {}
    turns = [message.model_dump(exclude_none=True) for message in messages]
    wanted = tokenizer.apply_chat_template(
        turns, chat_template=TEMPLATES[name], tokenize=False, add_generation_prompt=opened, **extra
    )
    assert render(PromptFormat(template=TEMPLATES[name]), messages, TOKENS, opened, extra) == wanted


@pytest.mark.parametrize("answer", ["네, 그", " 네, <b>그 ", "a\n\n", ""])
@pytest.mark.parametrize("system", ["", "간단히 답하세요."])
@pytest.mark.parametrize("name", sorted(set(TEMPLATES) - {"gemma", "everything", "tojson"}))
def test_an_answer_is_continued_as_transformers_does_it(name: str, system: str, answer: str, tokenizer: Any) -> None:
    messages = Conversation(messages=talk(system)).answer(answer).messages
    turns = [message.model_dump(exclude_none=True) for message in messages]
    try:
        wanted = tokenizer.apply_chat_template(
            turns, chat_template=TEMPLATES[name], tokenize=False, continue_final_message=True
        )
    except ValueError:
        with pytest.raises(VariantError, match="last message"):
            continued(PromptFormat(template=TEMPLATES[name]), messages, TOKENS)
        return
    assert continued(PromptFormat(template=TEMPLATES[name]), messages, TOKENS).text == wanted


def test_a_template_that_writes_an_answer_twice_or_never_continues_none() -> None:
    messages = Conversation(messages=talk()).answer("It").messages
    for source in (
        TEMPLATES["everything"],
        TEMPLATES["tojson"],
        "{{ messages | length }}",
        "{{ messages[0].content }}",
    ):
        with pytest.raises(VariantError):
            continued(PromptFormat(template=source), messages, TOKENS)


def test_a_token_that_the_model_lacks_is_undefined_as_in_transformers(tokenizer: Any) -> None:
    source = "{{ cls_token is defined }} {{ pad_token is defined }}{{ messages[0].content }}"
    messages = [Message(role="user", content="x")]
    assert render(PromptFormat(template=source), messages, {"pad_token": "p"}) == "False Truex"


@pytest.mark.parametrize("name", ["alpaca", "koalpaca", "chatml", "plain"])
def test_named_formats_equal_transformers_too(name: str, tokenizer: Any) -> None:
    chosen = prompt_format(name)
    turns = [message.model_dump(exclude_none=True) for message in talk("시스템")]
    wanted = tokenizer.apply_chat_template(
        turns, chat_template=chosen.template, tokenize=False, add_generation_prompt=True
    )
    assert render(chosen, talk("시스템"), TOKENS) == wanted


def test_named_formats_over_several_turns() -> None:
    conversation = Conversation.start("짧게.").ask("하나?").answer("둘.").ask("셋?")
    assert render(prompt_format("koalpaca"), conversation.messages, TOKENS) == (
        "짧게.\n\n### 질문: 하나?\n\n### 답변: 둘.</s>\n\n### 질문: 셋?\n\n### 답변:"
    )
    alpaca = render(prompt_format("alpaca"), Conversation.start().ask("One?").answer("Two.").ask("Three?").messages)
    assert alpaca == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nOne?\n\n### Response:\nTwo.\n\n### Instruction:\nThree?\n\n### Response:\n"
    )
    assert render(prompt_format("chatml"), Conversation.start().ask("x").messages) == (
        "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(prompt_format("plain"), Conversation.start().ask("x").messages) == "x"


def test_named_formats_end_where_the_next_question_would_begin() -> None:
    assert set(format_names()) == {"alpaca", "koalpaca", "chatml", "plain"}
    for name in ("alpaca", "koalpaca", "chatml"):
        chosen = prompt_format(name)
        text = render(chosen, Conversation.start().ask("Q").messages)
        opening = text[: text.index("Q")].splitlines()[-1]
        assert any(opening and stop.strip() and (stop.strip() in text) for stop in chosen.stop), name
    assert "### 질문:" in prompt_format("koalpaca").stop


def test_alpaca_keeps_its_instruction_with_a_system_prompt() -> None:
    text = render(prompt_format("alpaca"), Conversation.start("Be brief.").ask("One?").messages)
    assert text.startswith("Be brief.\n\n")
    assert text.endswith("### Instruction:\nOne?\n\n### Response:\n")


def test_without_a_template_or_a_format_there_is_a_remedy() -> None:
    for template in (None, ""):
        with pytest.raises(VariantError, match="'tiny' has no chat template") as caught:
            choose("tiny", template, None)
        assert "prompt_format" in caught.value.hint
        assert "koalpaca" in caught.value.hint


def test_the_catalogue_row_stands_above_the_models_own_template() -> None:
    assert choose("v", CHATML, "alpaca") == prompt_format("alpaca")
    with pytest.raises(UnknownNameError) as caught:
        choose("v", CHATML, "kolapaca")
    assert "koalpaca" in caught.value.near


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content }",
        "{% endgeneration %}",
        "{{ raise_exception('no') }}",
        "{{ messages[0].content + 3 }}",
        "{{ 1 / 0 }}",
        "{{ nothing.at.all }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages[9].content + 'x' }}",
    ],
)
@pytest.mark.parametrize("system", ["", "s"])
def test_a_template_that_breaks_or_reaches_out_is_refused(template: str, system: str) -> None:
    with pytest.raises(VariantError, match="chat template refused") as caught:
        render(PromptFormat(template=template), talk(system))
    assert "prompt_format" in caught.value.hint


def test_turns_that_do_not_alternate() -> None:
    messages = [Message(role="user", content="a"), Message(role="user", content="b")]
    with pytest.raises(VariantError, match="must alternate"):
        render(PromptFormat(template=GEMMA), messages)
    with pytest.raises(VariantError, match="System role not supported"):
        render(PromptFormat(template=GEMMA), [Message(role="system", content="alone")])


def test_a_question_cannot_write_into_the_template() -> None:
    text = render(PromptFormat(template=CHATML), Conversation.start().ask("{{ 7 * 7 }} {% if %}").messages)
    assert "{{ 7 * 7 }} {% if %}" in text


@pytest.mark.parametrize(
    ("template", "begins"),
    [
        (CHATML, "<|im_start|>assistant\n"),
        (LLAMA3, "<|start_header_id|>assistant<|end_header_id|>\n\n"),
        (GEMMA, "<start_of_turn>model\n"),
        (MISTRAL, ""),
        ("{{ raise_exception('never') }}", ""),
        ("{% if add_generation_prompt %}go{% else %}stop{% endif %}", ""),
    ],
)
def test_what_an_answer_begins_after(template: str, begins: str) -> None:
    assert opening(PromptFormat(template=template), TOKENS) == begins
