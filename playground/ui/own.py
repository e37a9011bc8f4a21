"""What one pane is asked with apart from the others: its own system prompt, preset and temperature.

A lock keeps all panes equal, which is how it begins: answers that differ then do so by their models alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block

from playground.conversations.turns import Asked
from playground.page.components import Components
from playground.page.events import Updates, Values
from playground.page.form import no_number
from playground.presets import changed, presets
from playground.ui.controls import OWN as SHARED

SHARED_BY_ALL = (*SHARED, "seed", "stop")


@dataclass(frozen=True)
class Own:
    """The components; what is empty is as it stands in the settings of all."""

    column: gr.Column
    system: gr.Textbox
    preset: gr.Dropdown
    temperature: gr.Number

    @property
    def fields(self) -> tuple[Block, ...]:
        """What can be set."""
        return self.system, self.preset, self.temperature


def lock(components: Components) -> gr.Checkbox:
    """Lay out what keeps all panes equal."""
    return components.make(gr.Checkbox, "controls.lock", value=True, elem_id="lock")


def laid_out(components: Components, number: int) -> Own:
    """Lay out a pane's own settings, hidden while the lock is closed."""
    with gr.Column(visible=False, elem_classes="own") as column:
        system = components.make(
            gr.Textbox, "controls.own_system", lines=1, max_lines=4, elem_id=f"own-system-{number}", show_label=False
        )
        with gr.Row(elem_classes="own-row"):
            spoken = {"": "controls.as_all", **{name: f"preset.{name}" for name in presets()}}
            preset = components.make(
                gr.Dropdown, "preset.label", spoken=spoken, value="", elem_id=f"own-preset-{number}", min_width=0
            )
            temperature = components.make(
                gr.Number,
                "controls.own_temperature",
                value=no_number,
                minimum=0,
                maximum=5,
                step=0.05,
                elem_id=f"own-temperature-{number}",
                min_width=0,
            )
    return Own(column, system, preset, temperature)


def asked(own: Own, values: Values, shared: Asked) -> Asked:
    """Return what a pane is asked with. Raises ConfigError for a temperature that is none."""
    system, preset, temperature = (values[field] for field in own.fields)
    fields = dict(shared.sampling)
    if preset in presets():
        fields |= {name: value for name, value in presets()[preset] if name not in SHARED_BY_ALL}
    fields |= {} if temperature is None else {"temperature": temperature}
    text = (system or "").strip() and system
    return shared.model_copy(update={"sampling": changed(fields), "system": text or shared.system})


def shown(owns: Sequence[Own], locked: bool) -> Updates:
    """Show every pane's own settings, or hide them."""
    return {own.column: gr.update(visible=not locked) for own in owns}


def moved(owns: Sequence[Own], values: Values, before: Sequence[str], now: Sequence[str]) -> Updates:
    """Take settings along with the variant they were made for where panes change places; a new one has none."""
    if list(before) == list(now):
        return {}
    updates: Updates = {}
    for own, name in zip(owns, now, strict=False):
        was = owns[before.index(name)] if name in before[: len(owns)] else None
        kept = [values[field] for field in was.fields] if was else ["", "", None]
        updates |= dict(zip(own.fields, kept, strict=True))
    return updates
