"""Thinking in Chat: a switch where a chosen variant can, thoughts folded with their numbers, history with them."""

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from playground.catalogue.templates import can_think
from playground.catalogue.variants import Base, Catalogue, Gguf, Remote
from playground.compare import Playground
from playground.conversations.turns import Chat
from playground.errors import ConfigError
from playground.events import Delta, Finished, Stats
from playground.page.components import Components
from playground.page.words import words
from playground.settings import Settings
from playground.thinking.asked import Thinking
from playground.ui import chat, chat_tab, controls, panes
from playground.ui.desk import Desk
from playground.ui.running import Running
from tests.playground.ui.test_chat import run, values
from tests.playground.ui.test_panes import seen

NAMES = ["smollm2", "plain"]
CATALOGUE = """
[[variant]]
name = "smollm2"
kind = "base"
source = "fake:thinker"

[[variant]]
name = "plain"
kind = "base"
source = "fake:x"
"""
OPENS = "{% for m in messages %}{{ m.content }}{% endfor %}<think>\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "variants.toml").write_text(CATALOGUE, encoding="utf-8")
    return Settings(data=tmp_path)


@pytest.fixture
def desk(playground: Playground) -> Desk:
    with gr.Blocks(analytics_enabled=False):
        return chat_tab.render(Components(), playground, Running())


def given(desk: Desk, text: str, mode: str = "default", budget: int | None = None, **fields: Any) -> dict[Any, Any]:
    thinking = desk.view.controls.thinking
    return values(desk, text, picked=NAMES, **fields) | {thinking.mode: mode, thinking.budget: budget}


def test_thoughts_are_folded_apart(desk: Desk) -> None:
    page, _ = run(chat.send(desk, given(desk, "hi"), "me"))
    shown = page[desk.view.slots[0].live]
    assert '<details class="thought done">' in shown
    assert "They said: hi" in shown
    assert "tokens ·" in seen(shown)
    assert "<details" not in page[desk.view.slots[1].live]


@pytest.mark.parametrize(("mode", "budget"), [("off", None), ("default", 0)])
def test_the_switch_and_the_budget_reach_the_model(desk: Desk, mode: str, budget: int | None) -> None:
    page, _ = run(chat.send(desk, given(desk, "hi", mode, budget), "me"))
    assert "<details" not in page[desk.view.slots[0].live]
    assert "smollm2 heard: hi" in page[desk.view.slots[0].live]


def test_those_that_cannot_think_answer_all_the_same(desk: Desk) -> None:
    page, _ = run(chat.send(desk, given(desk, "hi", "on"), "me"))
    assert "plain heard: hi" in page[desk.view.slots[1].live]


def test_thoughts_go_back_as_the_template_wants_them(desk: Desk) -> None:
    page, _ = run(chat.send(desk, given(desk, "one"), "me"))
    talk = page[desk.view.chat]
    assert talk.turns[0].answers["smollm2"].reasoning == "They said: one"
    assert talk.ask("two", NAMES).messages("smollm2", "")[1].reasoning_content == "They said: one"
    page, _ = run(chat.send(desk, given(desk, "two", talk=talk), "me"))
    assert "They said: one" not in page[desk.view.slots[0].prompt]  # of the last answer alone


def test_the_switch_is_there_where_a_chosen_variant_can(desk: Desk) -> None:
    row = desk.view.controls.thinking.row
    assert chat.drawn(desk, values(desk), Chat(), NAMES)[row]["visible"]
    assert not chat.drawn(desk, values(desk), Chat(), ["plain"])[row]["visible"]


def test_a_budget_below_nothing_is_an_error(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="-3"):
        controls.thought(desk.view.controls, given(desk, "hi", budget=-3))
    assert controls.thought(desk.view.controls, given(desk, "hi", "off", 9)) == Thinking(mode="off", budget=9)


def test_an_answer_that_never_came_is_said() -> None:
    stats = Stats(prompt_tokens=1, tokens=9, first_token_s=0.1, tokens_per_s=9, memory_bytes=0, dtype="x")
    end = Finished(variant="a", reason="length", text="", reasoning="hm", stats=stats)
    begun = Delta(variant="a", text="", reasoning="h")
    shown = panes.live(Chat().ask("q", ["a"]).hear([begun, end]), Base(name="a", source="fake:a"))
    assert words("en")["answer.only_thought"] in seen(shown)
    going = panes.live(Chat().ask("q", ["a"]).hear([begun]), Base(name="a", source="fake:a"))
    assert '<details class="thought thinking">' in going


def test_whether_one_can_is_read_from_its_files(tmp_path: Path, model_files: Any) -> None:
    base = model_files.base(tmp_path / "base")
    (base / "chat_template.jinja").write_text(OPENS, encoding="utf-8")
    plain = model_files.base(tmp_path / "plain")
    gguf = model_files.gguf(
        tmp_path / "a.gguf", fields={"general.architecture": "llama", "tokenizer.chat_template": OPENS}
    )
    found = {
        one.name: can_think(one, Catalogue([one]))
        for one in (
            Base(name="base", source=str(base)),
            Base(name="plain", source=str(plain)),
            Base(name="named", source=str(base), prompt_format="alpaca"),
            Base(name="away", source="owner/model"),
            Base(name="gone", source=str(tmp_path / "gone")),
            Gguf(name="gguf", source=str(gguf)),
            Remote(name="remote", url="http://127.0.0.1:1/v1"),
        )
    }
    assert found == {
        **{"base": True, "plain": False, "named": False, "away": False, "gone": False},
        **{"gguf": True, "remote": True},
    }
