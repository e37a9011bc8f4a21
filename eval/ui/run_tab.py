"""Lays out Evaluate and ties its components to the actions in runs.py."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from eval.ui import runs
from eval.words import texts
from playground.catalogue.variants import load_or_none
from playground.page.components import Command, Components, lead, plain, tab_here
from playground.page.events import PRESSES, SILENT, Updates, Values, clocked, in_turn
from playground.page.form import no_number, values_of
from playground.settings import Settings
from playground.system import jobs

EVERY_S = 1.0
SHEET = Path(__file__).with_name("page.css")


def render(settings: Settings, program: Command, components: Components) -> None:
    """Lay out the tab, inside the caller's gr.Tab."""
    lead(texts, "evaluate", SHEET)
    with gr.Column(elem_id="evaluate-form"):
        fields = _form(components, _names(settings))
        with gr.Row(elem_classes="buttons"):
            button = components.make(gr.Button, "evaluate.start", variant="primary", elem_id="evaluate-start", scale=0)
    notice = plain(elem_id="evaluate-said")
    shown = plain(runs.html(settings), elem_id="evaluate-jobs", js_on_load=PRESSES)
    timer = gr.Timer(EVERY_S, active=False)
    _wire(settings, program, fields, (button, notice, shown, timer))


def _names(settings: Settings) -> list[str]:
    return [variant.name for variant in load_or_none(settings) or ()]


def _form(components: Components, names: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    add = partial(components.field, fields, "evaluate")
    pick = partial(add, gr.Dropdown)
    with gr.Row():
        pick("variants", choices=names, value=[], multiselect=True, scale=2)
        pick("suite", choices=list(runs.SUITES), value=runs.SUITES[0], allow_custom_value=True)
    with gr.Row():
        pick("tasks", choices=list(runs.TASKS), value=[], multiselect=True, scale=2)
        pick("shots", choices=["0", "5"], value=[], multiselect=True, allow_custom_value=True)
        add(gr.Number, "limit", value=no_number, precision=0)
    with gr.Row():
        add(gr.Textbox, "data", max_lines=1, scale=2)
    with gr.Row(elem_classes="ticks"):
        for name, value in {"chat_template": False, "speed": True, "drift": True}.items():
            add(gr.Checkbox, name, value=value, min_width=0)
    return fields


def _wire(
    settings: Settings,
    program: Command,
    fields: dict[str, Any],
    parts: tuple[gr.Button, gr.HTML, gr.HTML, gr.Timer],
) -> None:
    button, notice, shown, timer = parts
    outputs: list[Block] = [notice, shown, timer]

    def seen() -> Updates:
        return clocked(timer, lambda: jobs.busy(settings, runs.KIND), lambda: {shown: runs.html(settings)})

    def now(fault: str = "") -> Updates:
        return {notice: fault, **seen()}

    def start(values: Values) -> Updates:
        return now(runs.start(settings, program, values_of(fields, values)))

    def act(event: gr.EventData) -> Updates:
        return now(runs.act(settings, str(event.action), str(event.name)))

    def arrive() -> Updates:
        return now() | {fields["variants"]: gr.update(choices=_names(settings))}

    def suite(name: str) -> Any:
        return gr.update(visible=name in runs.SUITES, value=[])

    ordered = in_turn("evaluate")
    button.click(start, set(fields.values()), outputs, **ordered)
    shown.click(act, None, outputs, **ordered)
    timer.tick(seen, None, [shown, timer], **ordered)
    tab_here().select(arrive, None, [*outputs, fields["variants"]], **ordered)
    fields["suite"].change(suite, fields["suite"], fields["tasks"], **SILENT)
