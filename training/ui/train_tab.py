"""Lays out Train and ties its components to what they do. Testable without Gradio: `begin` and `act`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from playground.errors import MadangError
from playground.page.components import Command, Components, lead, plain, tab_here
from playground.page.events import PRESSES, SILENT, Updates, Values, clocked, in_turn
from playground.page.form import last_form, no_number, values_of
from playground.settings import Settings
from playground.system import jobs
from training.methods import METHODS, Method
from training.ui import advice, checking, form, looking, runs, showing
from training.words import both, problem, texts

EVERY_S = 1.5
KINDS = (runs.KIND, checking.KIND, looking.KIND)
STARTS = {"look": looking.start, "check": checking.start, "start": runs.start}
NUMBERS = ("epochs", "batch", "accumulation", "max_length", "evaluation")
SUFFIXES = [".json", ".jsonl", ".csv", ".parquet", ".txt"]
SHOW = "() => document.querySelector('{}')?.scrollIntoView({{ behavior: 'smooth', block: 'nearest' }})"


@dataclass(frozen=True)
class Desk:
    """The tab's components: the form's fields, its buttons with the place for their faults, and what is shown."""

    fields: dict[str, Any]
    upload: gr.UploadButton
    buttons: dict[str, tuple[gr.Button, gr.HTML]]
    shown: dict[str, gr.HTML]
    advice: list[gr.HTML]
    viewed: gr.State
    arrived: gr.State
    timer: gr.Timer


@dataclass(frozen=True)
class Done:
    """What a button did: a fault to show, fields to set, the run to look at (None: as before)."""

    fault: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    viewed: str | None = None


def begin(settings: Settings, program: Command, what: str, values: form.Form) -> Done:
    """Look at the data, check the run, or start it."""
    try:
        STARTS[what](settings, program, values)
    except MadangError as error:
        return Done(problem(error))
    return Done(viewed="" if what == "start" else None)


def act(settings: Settings, program: Command, action: str, name: str) -> Done:
    """Do what a button inside HTML says: on a job, on a run, or on the form's fields."""
    try:
        if action == "stop":
            jobs.cancel(jobs.find(settings, name))
        elif action == "resume":
            runs.resume(settings, program, name)
            return Done(viewed="")
        elif action == "fix":
            looking.fix(settings, program, name)
        elif action == "show":
            return Done(viewed=name)
        elif action == "use":
            return Done(fields={"source": name})
        elif action == "set":
            return Done(fields=dict(_pair(pair) for pair in name.split(",")))
    except MadangError as error:
        return Done(problem(error))
    return Done()


def _pair(pair: str) -> tuple[str, Any]:
    name, _, value = pair.partition("=")
    return name, float(value) if name in NUMBERS else value


def render(settings: Settings, program: Command, components: Components) -> None:
    """Lay out the tab, inside the caller's gr.Tab."""
    lead(texts, "train", Path(__file__).with_name("page.css"))
    fields: dict[str, Any] = {}
    buttons: dict[str, tuple[gr.Button, gr.HTML]] = {}
    with gr.Row(elem_id="train-board"):
        with gr.Column(elem_id="train-form", min_width=0):
            with gr.Column(elem_classes="sheet"):
                upload = _what(components, settings, fields)
                buttons["look"] = _button(components, "look")
            with gr.Column(elem_classes="sheet"):
                advised = _how(components, fields)
                with gr.Row(elem_classes="buttons"):
                    check, start = (_only_button(components, name) for name in ("check", "start"))
                notice = plain(elem_id="train-said")
                buttons |= {"check": (check, notice), "start": (start, notice)}
        with gr.Column(elem_id="train-side", min_width=0):
            shown = {"act": plain(elem_id="train-acted")}
            shown |= {name: plain(elem_id=f"train-{name}", js_on_load=PRESSES) for name in ("run", "dry", "data")}
    shown["earlier"] = plain(elem_id="train-earlier", js_on_load=PRESSES)
    timer = gr.Timer(EVERY_S, active=False)
    _wire(settings, program, Desk(fields, upload, buttons, shown, advised, gr.State(""), gr.State(False), timer))


def _what(components: Components, settings: Settings, fields: dict[str, Any]) -> gr.UploadButton:
    """Lay out method, model and data."""
    names = form.bases(settings)
    add = partial(components.field, fields, "train")
    methods: dict[str, str] = {name: f"method.{name}" for name, way in METHODS.items() if not way.rewarded}
    add(gr.Radio, "method", spoken=methods, value="sft")
    plain("".join(f'<p class="soft" data-method="{name}">{both(f"method.{name}_info")}</p>' for name in methods))
    plain(f'<p class="soft">{both("method.grpo_info")}</p>')
    with gr.Row():
        add(gr.Dropdown, "model", choices=names, value=next(iter(names), None))
        add(gr.Textbox, "name", max_lines=1)
    with gr.Row(elem_classes="source"):
        add(gr.Textbox, "source", max_lines=1, scale=2)
        return components.make(gr.UploadButton, "train.upload", file_types=SUFFIXES, elem_id="train-upload", scale=0)


def _how(components: Components, fields: dict[str, Any]) -> list[gr.HTML]:
    """Lay out the recipe's fields, each with its advice; return what the advice is shown in."""
    begin = form.defaults("sft")
    plain(f"<h3>{both('train.recipe')}</h3>")
    advised: list[gr.HTML] = []

    def beside(name: str, *makers: Callable[[], None]) -> None:
        with gr.Row(elem_classes="field"):
            with gr.Column(min_width=0, elem_classes="inputs"):
                for make in makers:
                    make()
            advised.append(plain(advice.beside(name), js_on_load=PRESSES, elem_classes="beside"))

    def add(kind: Any, name: str, **options: Any) -> None:
        value = begin.get(name, False if kind is gr.Checkbox else "")
        value = value if value is not None else no_number
        components.field(fields, "train", kind, name, value=value, **options)

    number = partial(add, gr.Number)
    ranks = [rank for rank, *_ in advice.RANKS]
    beside("rank", partial(add, gr.Dropdown, "rank", choices=ranks, allow_custom_value=True))
    beside("learning_rate", partial(add, gr.Textbox, "learning_rate", max_lines=1))
    beside("batch", partial(number, "batch", precision=0), partial(number, "accumulation", precision=0))
    beside("epochs", partial(number, "epochs"))
    beside("max_length", partial(number, "max_length", precision=0))
    beside("evaluation", partial(number, "evaluation", step=0.05))
    for name in form.TICKS:
        beside(name, partial(add, gr.Checkbox, name))
    with components.make(gr.Accordion, "train.advanced", open=False, elem_id="train-advanced"):
        components.field(fields, "train", gr.Textbox, "extra", lines=4)
    return advised


def _only_button(components: Components, name: str) -> gr.Button:
    variant = "primary" if name == "start" else "secondary"
    return components.make(gr.Button, f"train.{name}", variant=variant, elem_id=f"train-{name}-button", scale=0)


def _button(components: Components, name: str) -> tuple[gr.Button, gr.HTML]:
    with gr.Row(elem_classes="buttons"):
        made = _only_button(components, name)
    return made, plain(elem_id=f"train-{name}-said")


def _wire(settings: Settings, program: Command, desk: Desk) -> None:
    """Tie the buttons, the advice's values, the clock, and what a visitor finds on arriving."""

    def seen(viewed: str) -> Updates:
        return _seen(settings, desk, viewed)

    def after(done: Done, viewed: str, place: gr.HTML) -> Updates:
        cleared: Updates = dict.fromkeys([*places, desk.shown["act"]], "")
        fields = {desk.fields[name]: value for name, value in done.fields.items()}
        return {**cleared, place: done.fault, **fields, **seen(viewed if done.viewed is None else done.viewed)}

    def handle_button(what: str, values: Values) -> Updates:
        done = begin(settings, program, what, values_of(desk.fields, values))
        return after(done, values[desk.viewed], desk.buttons[what][1])

    def handle_action(viewed: str, event: gr.EventData) -> Updates:
        done = act(settings, program, str(event.action), str(event.name))
        return after(done, viewed, desk.shown["act"])

    outputs: list[Block] = [*desk.shown.values(), desk.timer, desk.viewed]
    places = list({place for _, place in desk.buttons.values()})
    for what, (button, _) in desk.buttons.items():
        target = {"look": "#train-data", "check": "#train-dry", "start": "#train-run"}[what]
        pressed = button.click(
            partial(handle_button, what), {*desk.fields.values(), desk.viewed}, [*outputs, *places], **in_turn("train")
        )
        pressed.then(None, js=SHOW.format(target), **SILENT)
    for shown in (*desk.advice, *(desk.shown[name] for name in ("run", "dry", "data", "earlier"))):
        acted = shown.click(handle_action, desk.viewed, [*outputs, *places, *desk.fields.values()], **in_turn("train"))
        if shown in (desk.shown["run"], desk.shown["earlier"]):  # a run that is shown or resumed may stand elsewhere
            acted.then(None, js=SHOW.format("#train-run"), **SILENT)
    desk.timer.tick(seen, desk.viewed, outputs, **in_turn("train"))
    _wire_form(settings, desk, seen, outputs)


def _wire_form(settings: Settings, desk: Desk, seen: Callable[[str], Updates], outputs: list[Block]) -> None:
    """Tie what the method decides, an upload, and the form as it was when it was last used."""

    def arrive(viewed: str, arrived: bool) -> Updates:
        updates = {desk.fields["model"]: gr.update(choices=form.bases(settings)), desk.arrived: True, **seen(viewed)}
        return updates if arrived else updates | _restored(settings, desk)

    def method(name: Method) -> Updates:
        changed: Updates = {desk.fields[field]: value for field, value in form.defaults(name).items()}
        packing = gr.update(value=form.defaults(name)["packing"], interactive=not METHODS[name].compares)
        return changed | {desk.fields["packing"]: packing}

    def uploaded(file: str) -> str:
        return form.kept(settings, file)

    inputs = [desk.viewed, desk.arrived]
    fields = list(desk.fields.values())
    tab_here().select(arrive, inputs, [*outputs, *fields, desk.arrived], **in_turn("train"))
    desk.fields["method"].input(method, desk.fields["method"], fields, **SILENT)
    desk.upload.upload(uploaded, desk.upload, desk.fields["source"], **SILENT)


def _seen(settings: Settings, desk: Desk, viewed: str) -> Updates:
    """Return everything that comes from files, as it is now."""

    def shown() -> Updates:
        run, earlier = showing.html(settings, viewed)
        made: Updates = {desk.shown["run"]: run, desk.shown["earlier"]: earlier, desk.viewed: viewed}
        return made | {desk.shown["dry"]: checking.html(settings), desk.shown["data"]: looking.html(settings)}

    return clocked(desk.timer, lambda: jobs.busy(settings, *KINDS), shown)


def _restored(settings: Settings, desk: Desk) -> Updates:
    values = last_form(settings, *KINDS)
    return {desk.fields[name]: value for name, value in values.items() if name in desk.fields}
