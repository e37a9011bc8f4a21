"""Thoughts stand apart from answers: with tags of text or of control tokens, a budget, stop strings, in any engine."""

import time
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from playground.backends.fake import FakeBackend
from playground.backends.scheduler import Scheduler
from playground.backends.transformers import TransformersBackend
from playground.events import Delta, Event, Finished, Started
from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import ModelSpec, RowRequest
from playground.thinking.asked import Thinking
from tests.playground.backends.conftest import SHAPE, tokenizer

THOUGHT = "They said: "
OPENS = (
    "{% for m in messages %}<|im_start|>{{ m.content.split('</think>')[-1] }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|><think>\n{% endif %}"
)


def ask(end: str, text: str, /, **fields: Any) -> tuple[list[Event], Finished]:
    """Ask the fake whose source ends so; `fields` of the request, or of its sampling."""
    sampling = {name: fields.pop(name) for name in list(fields) if name in Sampling.model_fields}
    backend = FakeBackend(ModelSpec(engine="fake", name="fake", path=f"fake:{end}"))
    row = RowRequest(
        id="r",
        variant="v",
        messages=(Message(role="user", content=text),) if text else (),
        sampling=Sampling(**{"temperature": 0.0} | sampling),
        **fields,
    )
    return run(backend, row)


def run(backend: Any, row: RowRequest) -> tuple[list[Event], Finished]:
    events: list[Event] = []
    scheduler = Scheduler(backend, lambda _, event: events.append(event), lambda _: False)
    scheduler.add(row, time.monotonic())
    while not scheduler.idle:
        scheduler.step()
    assert isinstance(events[-1], Finished), events[-1]
    return events, events[-1]


@pytest.mark.parametrize(
    ("end", "text", "thought"),
    [
        ("x", "hi", ""),
        ("x", "hi !think", f"{THOUGHT}hi !think"),
        ("thinker", "hi", f"{THOUGHT}hi"),
        ("opener", "hi", f"{THOUGHT}hi"),
    ],
)
def test_thought_and_answer_stand_apart(end: str, text: str, thought: str) -> None:
    events, ended = ask(end, text)
    assert (ended.reasoning, ended.text) == (thought, f"v heard: {text}")
    deltas = [event for event in events if isinstance(event, Delta)]
    assert "".join(one.reasoning for one in deltas) == thought
    assert "".join(one.text for one in deltas) == f"v heard: {text}"
    assert 0 <= ended.stats.reasoning_tokens - len(thought) <= (len("\n</think>") if thought else 0)
    assert (ended.stats.reasoning_s is not None) == bool(thought)


@pytest.mark.parametrize("end", ["thinker", "opener"])
def test_thinking_is_switched_off_by_the_template_or_an_empty_thought(end: str) -> None:
    events, ended = ask(end, "hi", thinking=Thinking(mode="off"))
    assert (ended.reasoning, ended.text) == ("", "v heard: hi")
    assert [event.prompt for event in events if isinstance(event, Started)] == [
        "user: hi\nassistant: <think>\n\n</think>\n\n"
    ]


def test_variables_reach_the_template_and_its_switch_goes_by_other_names() -> None:
    assert ask("thinker", "hi", template_options={"enable_thinking": False})[1].reasoning == ""
    assert ask("thinker", "hi", template_options={"thinking": False})[1].reasoning == ""
    assert ask("opener", "hi", template_options={"enable_thinking": False})[1].reasoning == ""
    assert ask("x", "hi", template_options={"enable_thinking": True})[1].text == "v heard: hi"


@pytest.mark.parametrize(("end", "budget"), [("thinker", 5), ("opener", 5), ("opener", 0), ("thinker", 0), ("x", 3)])
def test_a_spent_budget_closes_the_thought(end: str, budget: int) -> None:
    _, ended = ask(end, "!muse", thinking=Thinking(budget=budget))
    assert ended.text == "v heard: !muse"
    after_tag = budget if end == "opener" else max(budget - 1, 0)  # a line break after its tag is of the thought
    assert ended.reasoning == THOUGHT[:after_tag].strip()
    assert ended.stats.reasoning_tokens == budget
    assert ended.reason == "stop"


def test_a_thought_that_never_ends_is_no_answer() -> None:
    _, ended = ask("opener", "!muse", max_new_tokens=20)
    assert (ended.text, ended.reason, len(ended.reasoning)) == ("", "length", 20)


@pytest.mark.parametrize(
    ("stop", "reasoning", "text"),
    [
        ("said", f"{THOUGHT}hi", "v heard: hi"),
        ("heard", f"{THOUGHT}hi", "v "),
        ("\n\n", f"{THOUGHT}hi", "v heard: hi"),
        ("</think>", f"{THOUGHT}hi", ""),
    ],
)
def test_stop_strings_are_looked_for_in_the_answer(stop: str, reasoning: str, text: str) -> None:
    _, ended = ask("opener", "hi", stop=(stop,))
    assert (ended.reasoning, ended.text) == (reasoning, text)


def test_log_probabilities_are_those_of_the_answer() -> None:
    events, ended = ask("opener", "hi", top_logprobs=0)
    tokens = [token for event in events if isinstance(event, Delta) for token in event.tokens]
    assert bytes(byte for token in tokens for byte in token.raw).decode() == ended.text


def test_a_raw_text_is_told_apart_where_that_is_asked_for() -> None:
    said = [ask("opener", "", text="!think <think>\n", apart=apart)[1] for apart in (False, True)]
    assert [one.text.count("</think>") for one in said] == [1, 0]
    assert said[1].reasoning.startswith(THOUGHT)


def test_what_cannot_think_is_refused_where_thinking_must_be() -> None:
    with pytest.raises(AssertionError, match="cannot be told to think"):
        ask("x", "hi", thinking=Thinking(mode="on", strict=True))


class Scripted(TransformersBackend):
    """A tiny model whose draws are fixed; what is forced on it goes through its own sampler."""

    script: list[int]
    seen: set[int]

    def close_row(self, row: Any) -> None:
        self.seen = set(row.sampler._said)
        super().close_row(row)

    def sample(self, row: Any) -> int:
        return super().sample(row) if row.forced else self.script[len(row.tokens)]


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Scripted:
    """A tiny Llama whose tags are control tokens, so that they add no bytes to an answer."""
    folder = tmp_path_factory.mktemp("control")
    words = tokenizer()
    words.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    words.chat_template = OPENS
    words.save_pretrained(folder)
    options = SHAPE | {"vocab_size": len(words), "eos_token_id": words.eos_token_id}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **options)).save_pretrained(folder)
    return Scripted(ModelSpec(engine="transformers", name="tiny", path=str(folder), dtype="fp32", threads=2))


@pytest.mark.parametrize(("budget", "reasoning", "text"), [(None, "가나", "다"), (1, "", "다"), (3, "가", "다")])
def test_tags_that_are_control_tokens_are_seen(
    scripted: Scripted, budget: int | None, reasoning: str, text: str
) -> None:
    words = scripted.tokenizer()
    thought, close, answer = (words.encode(part, False) for part in ("가나", "</think>", "다"))
    assert len(close) == 1
    assert words.answer_bytes(close[0]) == b""
    end = next(token for token in range(300) if words.is_end(token))
    fixed = thought + close if budget is None else thought[:budget] + words.encode("\n</think>\n\n", False)
    scripted.script = [*fixed, *answer, end]
    row = RowRequest(
        id="r",
        variant="v",
        messages=(Message(role="user", content="hi"),),
        sampling=Sampling(temperature=0.0, presence_penalty=0.5),
        thinking=Thinking(budget=budget),
    )
    _, ended = run(scripted, row)
    assert (ended.reasoning, ended.text) == (reasoning, text)
    assert ended.stats.reasoning_tokens == (len(thought) if budget is None else budget)
    assert (close[0] in scripted.seen) == (budget is not None)  # the penalties know what was forced
