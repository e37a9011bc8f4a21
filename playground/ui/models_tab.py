"""Lays out Models and ties its components to the actions in models.py."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.blocks import Block

from playground.compare import Playground
from playground.errors import MadangError
from playground.page.components import Components, plain
from playground.page.events import SILENT, Updates, Values
from playground.page.form import no_number, values_of
from playground.prompts import format_names
from playground.ui import models

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


@dataclass(frozen=True)
class Form:
    """The components of the form by field."""

    kind: gr.Radio
    fields: dict[str, Block]
    check: gr.Button
    add: gr.Button

    def values(self, values: Values) -> dict[str, Any]:
        """Return the form's values by field."""
        return values_of(self.fields, values)


def render(components: Components, playground: Playground, tab: gr.Tab) -> None:
    """Lay out the tab, inside the caller's gr.Tab."""
    plain(models.lead(playground), elem_classes="lead")
    table = plain(models.table(playground, ask=False), elem_id="catalogue", js_on_load=ROWS)
    said = plain(elem_id="models-said")
    with components.make(gr.Accordion, "add.heading", open=False, elem_id="add"):
        form = _form(components)
        verdict = plain(elem_id="add-said")
    _wire(playground, tab, table, said, form, verdict)


def _form(components: Components) -> Form:
    fields: dict[str, Block] = {}
    add = partial(components.field, fields, "add")
    text, pick = partial(add, gr.Textbox, max_lines=1), partial(add, gr.Dropdown)
    spoken = {kind: f"kind.{kind}" for kind in models.FIELDS}
    kind = components.field(fields, "add", gr.Radio, "kind", spoken=spoken, value="base")
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
    with gr.Row(elem_classes="buttons"):
        check = components.make(gr.Button, "add.check", elem_id="add-check", scale=0, min_width=120)
        start = components.make(gr.Button, "add.add", variant="primary", elem_id="add-add", scale=0, min_width=160)
    return Form(kind, fields, check, start)


def _wire(playground: Playground, tab: gr.Tab, table: gr.HTML, said: gr.HTML, form: Form, verdict: gr.HTML) -> None:
    fields = form.fields
    shown: dict[str, Any] = {"outputs": [table, fields["base"]], **SILENT}
    tab.select(lambda: _now(playground, table, form), None, **shown)

    def act(event: gr.EventData) -> Updates:
        done = models.act(playground, str(event.action), str(event.name))
        return {said: done.html} | _now(playground, table, form)

    table.click(act, None, [said, table, fields["base"]], **SILENT)
    form.kind.change(lambda kind: kind_fields(form, kind), form.kind, list(fields.values()), **SILENT)
    inputs = set(fields.values())
    form.check.click(
        lambda values: {verdict: models.check_form(playground, form.values(values)).html}, inputs, [verdict], **SILENT
    )

    def add(values: dict[Block, Any]) -> Updates:
        done = models.add(playground, form.values(values))
        emptied = {fields[name]: None for name in EMPTIED} if done.good else {}
        return {verdict: done.html} | emptied | _now(playground, table, form)

    form.add.click(add, inputs, [verdict, table, *fields.values()], **SILENT)


def kind_fields(form: Form, kind: str) -> Updates:
    """Show the fields that this kind has, and no others."""
    optional = set().union(*models.FIELDS.values())
    return {form.fields[name]: gr.update(visible=name in models.FIELDS[kind]) for name in optional}


def _now(playground: Playground, table: gr.HTML, form: Form) -> Updates:
    """Return the table as things stand, and the variants that can be named as a base."""
    with_names: Updates = {table: models.table(playground)}
    try:
        return with_names | {form.fields["base"]: gr.update(choices=playground.catalogue.names)}
    except MadangError:
        return with_names  # the table says why
