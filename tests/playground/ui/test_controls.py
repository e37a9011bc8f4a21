"""The sampling controls: presets fill every slider, and what stands there is what is asked with."""

from typing import Any

import gradio as gr
import pytest

from playground.errors import ConfigError
from playground.presets import Sampling, presets
from playground.ui import controls
from playground.ui.desk import Desk


def stand(desk: Desk, preset: str = "balanced", **others: Any) -> dict[Any, Any]:
    knobs = desk.view.controls
    rest: dict[Any, Any] = {knobs.seed: None, knobs.stop: [], knobs.system: ""}
    length = knobs.sliders["max_new_tokens"]
    return (
        controls.filled(knobs, preset)
        | {length: length.value}
        | rest
        | {getattr(knobs, name): value for name, value in others.items()}
    )


@pytest.mark.parametrize("name", presets())
def test_a_preset_fills_every_slider_and_is_asked_with(desk: Desk, name: str) -> None:
    knobs = desk.view.controls
    assert controls.chosen(knobs, stand(desk, name)) == presets()[name]
    assert controls.matching(knobs, stand(desk, name)) == {knobs.preset: name}


def test_a_preset_leaves_the_length_alone_and_the_length_leaves_the_preset(desk: Desk) -> None:
    knobs = desk.view.controls
    length = knobs.sliders["max_new_tokens"]
    assert controls.filled(knobs, "creative")[length] == gr.skip()
    assert controls.matching(knobs, stand(desk) | {length: 64}) == {knobs.preset: "balanced"}


def test_every_field_of_sampling_has_a_control(desk: Desk) -> None:
    assert set(desk.view.controls.sliders) | {"seed", "stop"} == set(Sampling.model_fields)


def test_sliders_stay_within_what_sampling_takes(desk: Desk) -> None:
    for name, slider in desk.view.controls.sliders.items():
        for value in (slider.minimum, slider.maximum):
            Sampling.model_validate({name: value})


def test_a_moved_slider_is_no_preset_any_more(desk: Desk) -> None:
    knobs = desk.view.controls
    moved = stand(desk) | {knobs.sliders["temperature"]: 0.77}
    assert controls.matching(knobs, moved) == {knobs.preset: None}


def test_seed_and_stop_strings(desk: Desk) -> None:
    chosen = controls.chosen(desk.view.controls, stand(desk, seed=12, stop=["END", "\\n\\n", ""]))
    assert (chosen.seed, chosen.stop) == (12, ("END", "\n\n"))


def test_a_number_out_of_range_is_an_error_that_names_it(desk: Desk) -> None:
    knobs = desk.view.controls
    with pytest.raises(ConfigError, match="temperature"):
        controls.chosen(knobs, stand(desk) | {knobs.sliders["temperature"]: 99})


def test_a_cleared_field_is_the_presets(desk: Desk) -> None:
    knobs = desk.view.controls
    assert controls.chosen(knobs, stand(desk) | {knobs.sliders["top_k"]: None}).top_k == 0
