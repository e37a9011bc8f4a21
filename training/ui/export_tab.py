"""Lays out Export and ties its components to what they do. Testable without Gradio: `begin` and `act`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from playground.errors import MadangError
from playground.page import mine
from playground.page.components import Command, Components, lead, plain, tab_here
from playground.page.events import PRESSES, SILENT, Updates, Values, clocked, in_turn
from playground.page.form import values_of
from playground.page.mine import Mine
from playground.settings import Settings
from playground.system import jobs
from training.ui import deleting, export_showing, export_sizes, exporting
from training.words import both, problem, texts

EVERY_S = 1.0
TARGET = "document.querySelector('#export-said .card, #export-run')"
SHOW = f"() => {TARGET}?.scrollIntoView({{ behavior: 'smooth', block: 'nearest' }})"


@dataclass(frozen=True)
class Desk:
    """The tab's components."""

    fields: dict[str, Any]
    start: gr.Button
    notice: gr.HTML
    sizes: gr.HTML
    run: gr.HTML
    earlier: gr.HTML
    viewed: gr.State
    owner: gr.State
    timer: gr.Timer


def begin(settings: Settings, program: Command, form: exporting.Form, owner: str = "") -> str:
    """Start the form's export, for a browser; a fault comes back as a card."""
    try:
        exporting.start(settings, program, form, owner)
    except MadangError as error:
        return problem(error)
    return ""


def act(
    settings: Settings, program: Command, action: str, name: str, form: exporting.Form | None = None, owner: str = ""
) -> tuple[str, str | None]:
    """Do what a button says; return a fault, and the export to view (None: as before). `form`: where to push to."""
    try:
        if action == "stop":
            jobs.cancel(jobs.find(settings, name))
        elif action in ("resume", "force"):
            exporting.again(settings, program, name, *(["--force"] if action == "force" else []), owner=owner)
            return "", ""
        elif action == "push":
            exporting.push(settings, program, name, form or exporting.BEGIN, owner)
            return "", name
        elif action.startswith("delete"):
            return deleting.act(settings, action, name), None
        elif action == "show":
            return "", name
    except MadangError as error:
        return problem(error), None
    return "", None


def render(settings: Settings, program: Command, components: Components) -> None:
    """Lay out the tab, inside the caller's gr.Tab."""
    lead(texts, "export", Path(__file__).with_name("page.css"))
    with gr.Row(elem_id="export-board"):
        with gr.Column(elem_id="export-form", min_width=0), gr.Column(elem_classes="sheet"):
            fields = _fields(components, settings)
            sizes = plain(elem_id="export-sizes", elem_classes="asked")
            with gr.Row(elem_classes="buttons"):
                start = components.make(gr.Button, "export.start", variant="primary", elem_id="export-start", scale=0)
            notice = plain(elem_id="export-said", js_on_load=PRESSES)
        with gr.Column(elem_id="export-side", min_width=0):
            run = plain(elem_id="export-run", js_on_load=PRESSES)
    earlier = plain(elem_id="export-earlier", js_on_load=PRESSES)
    timer = gr.Timer(EVERY_S, active=False)
    _wire(settings, program, Desk(fields, start, notice, sizes, run, earlier, gr.State(""), gr.State(""), timer))


def _fields(components: Components, settings: Settings) -> dict[str, Any]:
    names, begin_as = exporting.sources(settings), exporting.BEGIN
    fields: dict[str, Any] = {}

    def add(kind: Any, name: str, **options: Any) -> None:
        value = {"value": begin_as[name]} if name in begin_as else {}
        components.field(fields, "export", kind, name, **value, **options)

    add(gr.Dropdown, "source", choices=names, value=next(iter(names), None))
    add(gr.CheckboxGroup, "levels", choices=[(level.upper(), level) for level in exporting.LEVELS])
    plain(f'<p class="soft">{both("export.about_levels")}</p>')
    add(gr.Textbox, "others", max_lines=1)
    add(gr.CheckboxGroup, "formats", spoken={name: f"export.format_{name}" for name in exporting.FORMATS})
    plain(f'<p class="soft">{both("export.about_formats")}</p>')
    with gr.Row():
        add(gr.Radio, "dtype", spoken={name: f"export.dtype_{name}" for name in ("own", "bf16", "fp16")})
        add(gr.Textbox, "name", max_lines=1)
    with components.make(gr.Accordion, "export.hub", open=False, elem_id="export-hub"):
        add(gr.Textbox, "repo", max_lines=1, placeholder="owner/name")
        add(gr.Radio, "seen", spoken={name: f"export.seen_{name}" for name in ("private", "public")})
        add(gr.Textbox, "base", max_lines=1, placeholder="owner/name")
        add(gr.Checkbox, "replace")
    return fields


def _wire(settings: Settings, program: Command, desk: Desk) -> None:
    """Tie the buttons, the clock, the sizes that follow the form, and what a visitor finds on arriving."""

    def seen(viewed: str, owner: str) -> Updates:
        def shown() -> Updates:
            run, earlier = export_showing.html(settings, viewed, owner)
            return {desk.run: run, desk.earlier: earlier, desk.viewed: viewed}

        return clocked(desk.timer, lambda: jobs.busy(settings, exporting.KIND), shown)

    def pressed(values: Values) -> Updates:
        fault = begin(settings, program, values_of(desk.fields, values), values[desk.owner])
        return {desk.notice: fault, **seen(values[desk.viewed] if fault else "", values[desk.owner])}

    def acted(values: Values, event: gr.EventData) -> Updates:
        owner, form = values[desk.owner], values_of(desk.fields, values)
        fault, look = act(settings, program, str(event.action), str(event.name), form, owner)
        return {desk.notice: fault, **seen(values[desk.viewed] if look is None else look, owner)}

    def sized(values: Values) -> str:
        return export_sizes.html(settings, values_of(desk.fields, values))

    def arrive(values: Values) -> Updates:
        """Return the sources as they are now; on the first visit the form as this browser left it, too."""
        kept, source = values[own.kept] or {}, desk.fields["source"]
        owner = values[desk.owner] or mine.owner(kept)
        names, form = exporting.sources(settings), kept.get("form") or {}
        now = form | {"source": mine.asked_for(kept) or (values[source] if values[desk.owner] else form.get("source"))}
        filled = own.filled({"form": now}, source=names)
        updates = {source: filled[source]} if values[desk.owner] else filled
        return {**updates, desk.owner: owner, own.kept: {"owner": owner}, **seen(values[desk.viewed], owner)}

    outputs: list[Block] = [desk.run, desk.earlier, desk.viewed, desk.timer]
    watched, fields, own = [desk.viewed, desk.owner], set(desk.fields.values()), Mine("export", desk.fields)
    acting = [(shown.click, acted) for shown in (desk.run, desk.earlier, desk.notice)]
    for event, handler in ((desk.start.click, pressed), *acting):
        event(handler, {*fields, *watched}, [*outputs, desk.notice], **in_turn("export")).then(None, js=SHOW, **SILENT)
    desk.timer.tick(seen, watched, outputs, **in_turn("export"))
    for name in ("source", "levels", "others", "formats"):
        desk.fields[name].change(sized, fields, desk.sizes, **SILENT)
    inputs, found = {*watched, own.kept, desk.fields["source"]}, [*outputs, *fields, desk.owner, own.kept]
    here = own.coming(tab_here()).then(arrive, inputs, found, **in_turn("export"))
    own.keep(here)
    here.then(sized, fields, desk.sizes, **SILENT)
