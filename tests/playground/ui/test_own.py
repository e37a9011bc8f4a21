"""Each pane's own settings: asked with, said beside the answer, kept with their variant, and equal under the lock."""

from typing import Any

import pytest

from playground.conversations import exports
from playground.presets import presets
from playground.ui import chat
from playground.ui.desk import Desk

from .test_chat import NAMES, run, values


def opened(desk: Desk, place: int, system: str = "", preset: str = "", temperature: float | None = None) -> Any:
    """The form with the lock open and one pane's own settings."""
    mine = dict(zip(desk.view.slots[place].own.fields, (system, preset, temperature), strict=True))
    return {desk.view.lock: False, desk.view.shown: NAMES} | mine


def test_a_pane_is_asked_with_its_own_system_prompt_preset_and_temperature(desk: Desk) -> None:
    form = values(desk, "Hello") | opened(desk, 1, "Be brief.", "creative", 0.25)
    page, _ = run(chat.send(desk, form, "me"))
    turn = page[desk.view.chat].turns[-1]
    assert set(turn.own) == {NAMES[1]}
    sampling = turn.own[NAMES[1]].sampling
    assert (sampling.temperature, sampling.top_p) == (0.25, presets()["creative"].top_p)
    assert (sampling.seed, sampling.max_new_tokens) == (turn.asked.sampling.seed, turn.asked.sampling.max_new_tokens)
    assert "system: Be brief." in page[desk.view.slots[1].prompt]
    assert "system:" not in page[desk.view.slots[0].prompt]
    live = page[desk.view.slots[1].live]
    assert "temperature 0.25" in live
    assert "Asked otherwise" in live
    assert "Asked otherwise" not in page[desk.view.slots[0].live]
    assert exports.facts(turn, NAMES[1])["temperature"] == "0.25"
    assert exports.messages(page[desk.view.chat], NAMES[1])[0] == {"role": "system", "content": "Be brief."}
    assert exports.from_json(exports.as_json(page[desk.view.chat])).turns[-1].own == turn.own


def test_the_lock_keeps_all_panes_equal(desk: Desk) -> None:
    form = values(desk, "Hello") | opened(desk, 1, "Be brief.", "creative", 0.25) | {desk.view.lock: True}
    page, _ = run(chat.send(desk, form, "me"))
    assert page[desk.view.chat].turns[-1].own == {}


def test_settings_go_along_with_their_variant_when_panes_change_places(desk: Desk) -> None:
    form = values(desk, picked=NAMES[1:]) | opened(desk, 1, "Be brief.", "creative", 0.25)
    updates = chat.choose(desk, form)
    first, second = (slot.own for slot in desk.view.slots[:2])
    assert [updates[field] for field in first.fields] == ["Be brief.", "creative", 0.25]
    assert [updates[field] for field in second.fields] == [None, None, None]
    assert updates[desk.view.shown] == NAMES[1:]


@pytest.mark.parametrize("temperature", [-1, 99])
def test_a_temperature_that_is_none_is_said(desk: Desk, temperature: float) -> None:
    page, _ = run(chat.send(desk, values(desk, "Hello") | opened(desk, 0, temperature=temperature), "me"))
    assert "temperature" in page[desk.view.notice]
