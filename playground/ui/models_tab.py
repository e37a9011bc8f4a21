"""Lays out Models and ties its components to the actions in models.py."""

from contextlib import suppress
from functools import partial
from typing import Any

import gradio as gr

from playground.catalogue import kinds
from playground.compare import Playground
from playground.errors import MadangError
from playground.page.components import Command, Components, plain, tab_here
from playground.page.events import SILENT, Updates, Values
from playground.page.form import no_number, values_of
from playground.prompts import format_names
from playground.ui import models
from playground.ui.models_more import More

ROWS = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) return;
  const question = document.documentElement.dataset.language === "ko" ? button.dataset.askKo : button.dataset.askEn;
  if (button.dataset.action === "remove" && !window.confirm(question)) return;
  trigger("click", { action: button.dataset.action, name: button.dataset.name });
});
"""
EMPTIED = ("name", "source", "file", "url", "model", "key_env")
"""Fields of the form that a variant which was just added leaves empty."""


def render(components: Components, playground: Playground, command: Command = ()) -> None:
    """Lay out the tab, inside the caller's gr.Tab; `command` calls this program, for downloads as jobs."""
    plain(models.lead(playground), elem_classes="lead")
    table = plain(models.table(playground, ask=False), elem_id="catalogue", js_on_load=ROWS)
    notice = plain(elem_id="models-said")
    more = More(components, playground, command)
    with components.make(gr.Accordion, "add.heading", open=False, elem_id="add", elem_classes="fold"):
        fields = _fields(components)
        with gr.Row(elem_classes="buttons"):
            check = components.make(gr.Button, "add.check", elem_id="add-check", scale=0, min_width=120)
            add = components.make(gr.Button, "add.add", variant="primary", elem_id="add-add", scale=0, min_width=160)
        verdict = plain(elem_id="add-said")
    more.wire(notice, [table, fields["base"]], lambda: _now(playground, table, fields))
    _wire_table(playground, table, notice, fields)
    _wire_form(playground, table, fields, verdict, (check, add))


def _fields(components: Components) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    add = partial(components.field, fields, "add")
    text, pick = partial(add, gr.Textbox, max_lines=1), partial(add, gr.Dropdown)
    add(gr.Radio, "kind", spoken={kind: f"kind.{kind}" for kind in models.FIELDS}, value="base")
    with gr.Row():
        text("name")
        text("source", scale=2)
        text("url", scale=2, visible=False)
        pick("base", choices=[], value=None, visible=False)
        text("file", visible=False)
    with gr.Row():
        text("model", visible=False)
        text("key_env", visible=False)
        pick("prompt_format", choices=format_names(), value=None)
        add(gr.Number, "context", value=no_number, precision=0, minimum=64)
        pick("dtype", choices=["auto", "bf16", "fp16", "fp32"], value="auto")
        add(gr.Checkbox, "load_in_4bit", value=False)
    return fields


def _wire_table(playground: Playground, table: gr.HTML, notice: gr.HTML, fields: dict[str, Any]) -> None:
    def act(event: gr.EventData) -> Updates:
        done = models.act(playground, str(event.action), str(event.name))
        return {notice: done.html} | _now(playground, table, fields)

    shown = [table, fields["base"]]
    tab_here().select(lambda: _now(playground, table, fields), None, shown, **SILENT)
    table.click(act, None, [notice, *shown], **SILENT)


def _wire_form(
    playground: Playground,
    table: gr.HTML,
    fields: dict[str, Any],
    verdict: gr.HTML,
    buttons: tuple[gr.Button, gr.Button],
) -> None:
    def check(values: Values) -> str:
        return models.check_form(playground, values_of(fields, values)).html

    def add(values: Values) -> Updates:
        done = models.add(playground, values_of(fields, values))
        emptied = {fields[name]: None for name in EMPTIED} if done.good else {}
        return {verdict: done.html} | emptied | _now(playground, table, fields)

    fields["kind"].change(partial(kind_fields, fields), fields["kind"], list(fields.values()), **SILENT)
    fields["source"].blur(kinds.corrected, [fields["kind"], fields["source"]], fields["kind"], **SILENT)
    inputs = set(fields.values())
    buttons[0].click(check, inputs, verdict, **SILENT)
    buttons[1].click(add, inputs, [verdict, table, *fields.values()], **SILENT)


def kind_fields(fields: dict[str, Any], kind: str) -> Updates:
    """Show the fields that this kind has, and no others."""
    optional = set().union(*models.FIELDS.values())
    return {fields[name]: gr.update(visible=name in models.FIELDS[kind]) for name in optional}


def _now(playground: Playground, table: gr.HTML, fields: dict[str, Any]) -> Updates:
    """Return the table as things stand, and the variants that can be named as a base."""
    shown: Updates = {table: models.table(playground)}
    with suppress(MadangError):  # the table says why
        shown[fields["base"]] = gr.update(choices=playground.catalogue.names)
    return shown
