"""Ties Train's components to what they do. Testable without Gradio: `begin` and `act`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
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
from training.methods import METHODS, Method
from training.ui import checking, deleting, fields, form, looking, runs, showing
from training.words import problem, texts

EVERY_S = 1.5
KINDS = (runs.KIND, checking.KIND, looking.KIND)
STARTS = {"look": looking.start, "check": checking.start, "start": runs.start}
NUMBERS = ("epochs", "batch", "accumulation", "max_length", "evaluation")
TARGETS = {"look": "#train-data", "check": "#train-dry", "start": "#train-run"}
SHOW = "() => document.querySelector('{}')?.scrollIntoView({{ behavior: 'smooth', block: 'nearest' }})"


@dataclass(frozen=True)
class Seen:
    """What a page looks at: whose it is, the run (empty: its newest), and the jobs that looked at data and checked."""

    owner: str = ""
    run: str = ""
    look: str = ""
    check: str = ""


@dataclass(frozen=True)
class Desk:
    """The tab's components: the form's fields, its buttons with the place for their faults, and what is shown."""

    fields: dict[str, Any]
    upload: gr.UploadButton
    buttons: dict[str, gr.Button]
    notice: gr.HTML
    shown: dict[str, gr.HTML]
    advice: list[gr.HTML]
    seen: gr.State
    arrived: gr.State
    timer: gr.Timer


@dataclass(frozen=True)
class Done:
    """What a button did: what the page looks at now, a fault to show, and fields to set."""

    seen: Seen
    fault: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


def begin(settings: Settings, program: Command, what: str, values: form.Form, seen: Seen = Seen()) -> Done:  # noqa: B008
    """Look at the data, check the run, or start it."""
    before = {"look": seen.look, "check": seen.check}.get(what, "")
    try:
        job = STARTS[what](settings, program, values, seen.owner, before)
    except MadangError as error:
        return Done(seen, problem(error))
    return Done(replace(seen, **({"run": ""} if what == "start" else {what: job})))


def act(settings: Settings, program: Command, action: str, name: str, seen: Seen = Seen()) -> Done:  # noqa: B008
    """Do what a button inside HTML says: on a job, on a run, or on the form's fields."""
    try:
        if action == "stop":
            jobs.cancel(jobs.find(settings, name))
        elif action == "resume":
            runs.resume(settings, program, name, seen.owner)
            return Done(replace(seen, run=""))
        elif action == "fix":
            return Done(replace(seen, look=looking.fix(settings, program, name, seen.owner)))
        elif action == "columns":
            job, columns = looking.read_as(settings, program, seen.look, name, seen.owner)
            return Done(replace(seen, look=job), fields={"columns": columns})
        elif action.startswith("delete"):
            return Done(seen, deleting.act(settings, action, name))
        elif action == "show":
            return Done(replace(seen, run=name))
        elif action in ("use", "set"):
            pairs = [f"source={name}"] if action == "use" else name.split(",")
            return Done(seen, fields=dict(map(_pair, pairs)))
    except MadangError as error:
        return Done(seen, problem(error))
    return Done(seen)


def _pair(pair: str) -> tuple[str, Any]:
    name, _, value = pair.partition("=")
    return name, float(value) if name in NUMBERS else value


def render(settings: Settings, program: Command, components: Components) -> None:
    """Lay out the tab, inside the caller's gr.Tab."""
    lead(texts, "train", Path(__file__).with_name("page.css"))
    made: dict[str, Any] = {}
    with gr.Row(elem_id="train-board"):
        with gr.Column(elem_id="train-form", min_width=0), gr.Column(elem_classes="sheet"):
            upload = fields.needed(components, settings, made)
            buttons, notice = fields.buttons(components), plain(elem_id="train-said")
            advised = fields.advised(components, made)
        with gr.Column(elem_id="train-side", min_width=0):
            shown = {"act": plain(elem_id="train-acted", js_on_load=PRESSES)}
            shown |= {name: plain(elem_id=f"train-{name}", js_on_load=PRESSES) for name in ("run", "dry", "data")}
    shown["earlier"] = plain(elem_id="train-earlier", js_on_load=PRESSES)
    timer = gr.Timer(EVERY_S, active=False)
    state = gr.State(Seen()), gr.State(False)
    _wire(settings, program, Desk(made, upload, buttons, notice, shown, advised, *state, timer))


def _wire(settings: Settings, program: Command, desk: Desk) -> None:
    """Tie the buttons, an upload, the advice's values and the clock."""

    def after(done: Done, source: object, place: gr.HTML) -> Updates:
        cleared: Updates = dict.fromkeys([desk.notice, desk.shown["act"]], "")
        filled = {desk.fields[name]: value for name, value in done.fields.items()}
        return {**cleared, place: done.fault, **filled, **_seen(settings, desk, done.seen, source)}

    def handle_button(what: str, values: Values) -> Updates:
        done = begin(settings, program, what, values_of(desk.fields, values), values[desk.seen])
        return after(done, values[desk.fields["source"]], desk.notice)

    def handle_upload(values: Values) -> Updates:
        source = form.kept(settings, values[desk.upload])
        done = begin(settings, program, "look", values_of(desk.fields, values) | {"source": source}, values[desk.seen])
        return after(replace(done, fields={"source": source}), source, desk.notice)

    def handle_action(values: Values, event: gr.EventData) -> Updates:
        done = act(settings, program, str(event.action), str(event.name), values[desk.seen])
        return after(done, done.fields.get("source", values[desk.fields["source"]]), desk.shown["act"])

    def tick(values: Values) -> Updates:
        return _seen(settings, desk, values[desk.seen], values[desk.fields["source"]])

    form_inputs, watched = {*desk.fields.values(), desk.seen}, {desk.fields["source"], desk.seen}
    outputs: list[Block] = [*desk.shown.values(), desk.timer, desk.seen]
    for what, button in desk.buttons.items():
        pressed = button.click(partial(handle_button, what), form_inputs, [*outputs, desk.notice], **in_turn("train"))
        pressed.then(None, js=SHOW.format(TARGETS[what]), **SILENT)
    changed = [*outputs, desk.notice, *desk.fields.values()]
    desk.upload.upload(handle_upload, {*form_inputs, desk.upload}, changed, **in_turn("train"))
    for shown in (*desk.advice, *(desk.shown[name] for name in ("act", "run", "dry", "data", "earlier"))):
        acted = shown.click(handle_action, watched, changed, **in_turn("train"))
        if shown in (desk.shown["run"], desk.shown["earlier"]):  # a run that is shown or resumed may stand elsewhere
            acted.then(None, js=SHOW.format("#train-acted .card, #train-run"), **SILENT)
    desk.timer.tick(tick, watched, outputs, **in_turn("train"))
    desk.fields["source"].change(tick, watched, outputs, trigger_mode="always_last", **in_turn("train"))
    _wire_form(settings, desk, outputs)


def _wire_form(settings: Settings, desk: Desk, outputs: list[Block]) -> None:
    """Tie what the method decides, and what a browser finds on arriving: the form as it left it, and its jobs."""
    own, listed = Mine("train", desk.fields), list(desk.fields.values())

    def arrive(values: Values) -> Updates:
        seen, bases, source = values[desk.seen], form.bases(settings), values[desk.fields["source"]]
        if values[desk.arrived]:
            return {desk.fields["model"]: gr.update(choices=bases), **_seen(settings, desk, seen, source)}
        kept = values[own.kept] or {}
        owner = mine.owner(kept)
        look, check = (mine.newest(settings, kind, owner) for kind in (looking.KIND, checking.KIND))
        filled = own.filled(kept, model=bases)
        source = filled.get(desk.fields["source"], source)
        own_name: Updates = {own.kept: {**kept, "owner": owner}, desk.arrived: True}
        return own_name | filled | _seen(settings, desk, Seen(owner, look=look, check=check), source)

    def method(name: Method) -> Updates:
        changed: Updates = {desk.fields[field]: value for field, value in form.defaults(name).items()}
        packing = gr.update(value=form.defaults(name)["packing"], interactive=not METHODS[name].compares)
        return changed | {desk.fields["packing"]: packing}

    inputs = {desk.seen, desk.arrived, own.kept, desk.fields["source"], desk.fields["model"]}
    found = [*outputs, *listed, desk.arrived, own.kept]
    own.keep(own.coming(tab_here()).then(arrive, inputs, found, **in_turn("train")))
    desk.fields["method"].input(method, desk.fields["method"], listed, **SILENT)


def _seen(settings: Settings, desk: Desk, seen: Seen, source: object) -> Updates:
    """Return everything that comes from files, as it is now. `source`: what the form names by now."""

    def shown() -> Updates:
        run, earlier = showing.html(settings, seen.run, seen.owner)
        made: Updates = {desk.shown["run"]: run, desk.shown["earlier"]: earlier, desk.seen: seen}
        data = looking.html(settings, seen.look, source)
        return made | {desk.shown["dry"]: checking.html(settings, seen.check), desk.shown["data"]: data}

    return clocked(desk.timer, lambda: jobs.busy(settings, *KINDS), shown)
