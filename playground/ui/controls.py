"""The settings of a question: the system prompt, presets, every sampler field, thinking, seed and stop strings."""

from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block

from playground.errors import ConfigError
from playground.page.components import Components
from playground.page.events import Updates, Values
from playground.page.form import no_number
from playground.presets import DEFAULT_PRESET, MAX_SEED, Sampling, presets, sampling
from playground.thinking.asked import Thinking
from playground.wording import worded

RANGES: dict[str, tuple[float, float, float]] = {
    "temperature": (0.0, 2.0, 0.05),
    "top_p": (0.05, 1.0, 0.01),
    "top_k": (0, 200, 1),
    "min_p": (0.0, 0.5, 0.01),
    "repetition_penalty": (0.8, 2.0, 0.01),
    "presence_penalty": (-2.0, 2.0, 0.1),
    "frequency_penalty": (-2.0, 2.0, 0.1),
    "max_new_tokens": (16, 4096, 16),
}
"""Smallest, largest and step of each slider; the field's own limits in Sampling are wider."""
OWN = ("max_new_tokens",)
"""What a reader sets for all presets: another one leaves it as it stands."""
THINKING = {"default": "controls.thinking_default", "on": "controls.thinking_on", "off": "controls.thinking_off"}


@dataclass(frozen=True)
class Controls:
    """The components; `sliders` by the name of their Sampling field."""

    preset: gr.Radio
    sliders: dict[str, gr.Slider]
    seed: gr.Number
    seed_again: gr.Button
    stop: gr.Dropdown
    system: gr.Textbox
    thinking: "ThinkingControls"

    @property
    def inputs(self) -> set[Block]:
        """What `chosen` and `thought` read."""
        thinking = {self.thinking.mode, self.thinking.budget}
        return {*self.sliders.values(), self.seed, self.stop, self.system, *thinking}


@dataclass(frozen=True)
class ThinkingControls:
    """How to think about a question; `row` is shown where a chosen variant can."""

    row: gr.Row
    mode: gr.Radio
    budget: gr.Number


def preset_choice(components: Components) -> gr.Radio:
    """Lay out the presets as one row."""
    return components.make(
        gr.Radio,
        "preset.label",
        spoken={name: f"preset.{name}" for name in presets()},
        value=DEFAULT_PRESET,
        elem_id="preset",
        scale=0,
        min_width=280,
    )


def thinking(components: Components) -> ThinkingControls:
    """Lay out the switch and the budget of thoughts as one row, which is hidden at first."""
    with gr.Row(visible=False, elem_classes="thinking", elem_id="thinking", equal_height=True) as row:
        mode = components.make(
            gr.Radio,
            "controls.thinking",
            spoken=THINKING,
            value="default",
            elem_id="thinking-mode",
            scale=0,
            min_width=280,
        )
        budget = components.make(
            gr.Number, "controls.budget", value=no_number, precision=0, minimum=0, elem_id="thinking-budget", scale=0
        )
    return ThinkingControls(row, mode, budget)


def drawer(components: Components, preset: gr.Radio) -> Controls:
    """Lay out what a preset sets and what it leaves alone, inside the caller's layout: the system prompt first."""
    start = presets()[DEFAULT_PRESET]
    system = components.make(gr.Textbox, "controls.system", lines=3, max_lines=8, elem_id="system")
    thinks = thinking(components)
    with gr.Row(elem_classes="sliders"):
        sliders = {name: _slider(components, name, getattr(start, name)) for name in RANGES}
    with gr.Row(elem_classes="fields"):
        with gr.Column(min_width=220, elem_classes="seed"):
            seed = components.make(
                gr.Number, "controls.seed", value=no_number, precision=0, minimum=0, maximum=MAX_SEED, elem_id="seed"
            )
            again = components.make(gr.Button, "controls.seed_again", size="sm", elem_id="seed-again")
        stop = components.make(
            gr.Dropdown,
            "controls.stop",
            choices=[],
            value=[],
            multiselect=True,
            allow_custom_value=True,
            elem_id="stop-strings",
        )
    return Controls(preset, sliders, seed, again, stop, system, thinks)


def _slider(components: Components, name: str, value: float) -> gr.Slider:
    low, high, step = RANGES[name]
    key, named = f"controls.{name}", f"set-{name}"
    return components.make(
        gr.Slider, key, minimum=low, maximum=high, step=step, value=value, elem_id=named, min_width=200
    )


def chosen(controls: Controls, values: Values) -> Sampling:
    """Return the sampling that the controls stand at. Raises ConfigError where a typed number is out of range."""
    fields = {name: _whole(name, values[slider]) for name, slider in controls.sliders.items()}
    stops = tuple(text.replace("\\n", "\n") for text in values[controls.stop] or [] if text)
    seed = values[controls.seed]
    return sampling(DEFAULT_PRESET, **fields, seed=None if seed is None else int(seed), stop=stops)


def thought(controls: Controls, values: Values) -> Thinking:
    """Return how to think, as the controls stand. Raises ConfigError for a budget below nothing."""
    budget = values[controls.thinking.budget]
    if budget is not None and budget < 0:
        raise ConfigError(worded("controls.thought_budget_tokens", budget=budget))
    return Thinking(mode=values[controls.thinking.mode] or "default", budget=None if budget is None else int(budget))


def filled(controls: Controls, name: str | None) -> Updates:
    """Return every slider that a preset sets as it has it; nothing where none is chosen."""
    start = presets().get(name or "")
    return {
        slider: gr.skip() if start is None or field in OWN else getattr(start, field)
        for field, slider in controls.sliders.items()
    }


def matching(controls: Controls, values: Values) -> Updates:
    """Return the preset that the sliders stand at, or none: a moved slider is no preset any more."""
    stand = {name: values[slider] for name, slider in controls.sliders.items() if name not in OWN}
    same = [name for name, row in presets().items() if all(getattr(row, key) == stand[key] for key in stand)]
    return {controls.preset: same[0] if same else None}


def _whole(name: str, value: float | None) -> float | int | None:
    """Return a count from its slider, which gives a float or an int, or None for a cleared field."""
    return int(value) if value is not None and name in {"top_k", "max_new_tokens"} else value
