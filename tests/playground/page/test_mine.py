"""What a browser keeps of a form, and what of it still fits."""

from typing import Any

import gradio as gr
import pytest

from playground.page import mine
from playground.page.mine import Mine


@pytest.fixture
def fields() -> dict[str, Any]:
    with gr.Blocks():
        return {
            "text": gr.Textbox("begin"),
            "count": gr.Number(3),
            "tick": gr.Checkbox(value=False),
            "one": gr.Radio(["a", "b"], value="a"),
            "some": gr.CheckboxGroup(["a", "b"]),
            "custom": gr.Dropdown(["8"], allow_custom_value=True),
            "several": gr.Dropdown(["8"], allow_custom_value=True, multiselect=True),
            "model": gr.Dropdown(["m", "n"], value="m"),
        }


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("text", "x", [1]),
        ("count", None, "three"),
        ("tick", True, "yes"),
        ("one", "b", "gone"),
        ("some", ["b"], ["b", "gone"]),
        ("custom", "9", ["9"]),
        ("several", ["9"], "9"),
    ],
)
def test_what_was_kept_comes_back_where_it_still_fits(name: str, good: Any, bad: Any, fields: dict[str, Any]) -> None:
    with gr.Blocks():
        own = Mine("train", fields)
    assert own.filled({"form": {name: good, "unknown": 1}}) == {fields[name]: good}
    assert own.filled({"form": {name: bad}}) == {}
    assert own.filled({"form": bad}) == own.filled({"form": None}) == own.filled(None) == {}


def test_a_model_that_is_gone_gives_way_to_the_first(fields: dict[str, Any]) -> None:
    with gr.Blocks():
        own = Mine("train", fields)
    assert own.filled({"form": {"model": "n"}}, model=["x", "n"])[fields["model"]]["value"] == "n"
    assert own.filled({"form": {"model": "n"}}, model=["x"])[fields["model"]]["value"] == "x"
    assert own.filled({}, model=[])[fields["model"]]["value"] is None


def test_a_browser_without_a_name_gets_one_of_its_own() -> None:
    assert mine.owner({"owner": "0123456789abcdef"}) == "0123456789abcdef"
    made = {mine.owner(kept) for kept in (None, {}, {"owner": "x"}, {"owner": ["y"]})}
    assert len(made) == 4
    assert all(map(mine.OWNER.fullmatch, made))
