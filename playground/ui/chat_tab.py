"""Lays out Chat and ties its components to the handlers in chat.py."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.blocks import Block

from playground.catalogue.variants import load_or_none
from playground.compare import Playground
from playground.conversations.shelves import Shelves
from playground.conversations.turns import Chat
from playground.page.components import Components, plain
from playground.page.drawing import drawn
from playground.page.events import ASKED, PRESSES, SILENT, Updates, Values, flowing
from playground.page.mine import Mine, owner
from playground.page.words import both, examples
from playground.ui import chat, controls, history, history_list, own, picking
from playground.ui.chat import FIRST_PANES, PANES
from playground.ui.desk import Desk, History, Slot, View
from playground.ui.running import Running
from playground.ui.visitors import Visitors, visitor

TURNS = PRESSES + "madang.edits(element, trigger);"
OPEN = "() => document.querySelector('#tab-chat-button')?.click()"
SENDABLE = "(text) => ({ __type__: 'update', interactive: Boolean(text?.trim()) })"
"""An empty question cannot be sent; in the browser alone, as every letter is heard."""
FREE = SILENT | {"concurrency_limit": None}
"""For answers: one session never waits for another's, the workers do the queueing."""
NOW = FREE | {"queue": False}


def render(components: Components, playground: Playground, running: Running) -> Desk:
    """Lay out the tab, inside the caller's gr.Tab."""
    state = gr.State(Chat())
    catalogue = load_or_none(playground.settings)
    names = catalogue.names if catalogue else []
    kept = _history()
    with gr.Row(elem_classes="choices", equal_height=True):
        plain(history_list.opener(), elem_id="history-opener")
        picker = components.make(
            gr.Dropdown,
            "chat.variants",
            choices=picking.ordered(catalogue) if catalogue else [],
            value=names[:FIRST_PANES],
            multiselect=True,
            elem_id="variants",
            scale=1,
        )
        preset = controls.preset_choice(components)
        plain(_opener(), elem_id="settings-opener")
    notice = plain(elem_id="notice", js_on_load=ASKED)
    facts = plain(elem_id="facts", js_on_load=picking.SCRIPT)
    keeps = ["keeps"] if playground.settings.mode == "local" else []
    with gr.Row(elem_classes=["panes", *keeps], elem_id="panes"):
        slots = [_slot(components, number) for number in range(PANES)]
        with gr.Column(elem_id="settings", elem_classes="drawer"):
            sampler = controls.drawer(components, preset)
            lock = own.lock(components)
    panes = {"chat": state, "notice": notice, "picker": picker, "facts": facts, "slots": slots}
    view = _composer(components, **panes, controls=sampler, lock=lock, history=kept)
    desk = Desk(playground, running, view, Visitors(playground.settings), Shelves(playground.settings))
    _begin(desk)
    return desk


def _opener() -> str:
    """Return the button that shows and hides the settings, which lie over the panes and never move the composer."""
    return f'<button type="button" id="settings-toggle" aria-controls="settings">{both("controls.settings")}</button>'


def _history() -> History:
    """Lay out the list of conversations: at the side where there is room, else behind a button."""
    with gr.Column(elem_id="history", elem_classes="history"):
        tools = plain(history_list.tools(), elem_id="history-tools", js_on_load=history_list.SCRIPT)
        listing = plain(elem_id="history-list", js_on_load=history_list.SCRIPT)
        outbox = plain(elem_id="outbox", js_on_load=history_list.SENDS)
    return History(gr.State(""), gr.State(""), tools, listing, outbox)


def _slot(components: Components, number: int) -> Slot:
    with gr.Column(visible=False, elem_classes="pane", elem_id=f"pane-{number}", min_width=240) as column:
        head = plain(elem_classes="pane-top")
        mine = own.laid_out(components, number)
        with gr.Column(elem_classes="scroll"):
            log = drawn(elem_classes="log", js_on_load=TURNS)
            live = drawn(elem_classes="live", js_on_load=TURNS)
        prompt = plain(elem_classes="pane-prompt")
    return Slot(column, head, log, live, prompt, mine)


def _composer(components: Components, **parts: Any) -> View:
    """Lay out the text box and its buttons, at the foot of the page."""
    with gr.Column(elem_classes="composer", elem_id="composer"):
        with gr.Row(elem_classes="examples", elem_id="examples") as row:
            buttons = {str(number): _example(number) for number in range(len(examples()))}
        with gr.Row(elem_classes="actions", elem_id="actions", visible=False) as actions:
            for name in ("retry", "undo", "clear"):
                key = f"chat.{name}"
                buttons[name] = components.make(gr.Button, key, size="sm", elem_id=name, min_width=0, scale=0)
        waiting = plain(elem_id="waiting", js_on_load=PRESSES)
        with gr.Row(elem_classes="asking"):
            text = components.make(
                gr.Textbox,
                "chat.ask",
                show_label=False,
                container=False,
                lines=1,
                max_lines=6,
                autofocus=True,
                elem_id="ask",
                scale=1,
            )
            button: dict[str, Any] = {"scale": 0, "min_width": 96}
            send = components.make(
                gr.Button, "chat.send", variant="primary", elem_id="send", interactive=False, **button
            )
            stop = components.make(gr.Button, "chat.stop", variant="stop", elem_id="stop", visible=False, **button)
    mine = {"text": text, "send": send, "stop": stop, "examples": row, "actions": actions, "waiting": waiting}
    return View(**parts, **mine, shown=gr.State([]), buttons=buttons)


def _example(number: int) -> gr.Button:
    return gr.Button(examples()[number], size="sm", elem_classes="example", elem_id=f"example-{number}", min_width=0)


def _begin(desk: Desk) -> None:
    """Draw the first picture while the page is built: a person can type before any event has run."""
    empty: dict[Block, Any] = {desk.view.chat: Chat(), desk.view.picker: [], desk.view.shown: []}
    start = chat.refresh(desk, empty, "")
    for component, update in start.items():
        fields = update if isinstance(update, dict) else {"value": update}
        for name, value in fields.items():
            if component is not desk.view.picker and name != "__type__":
                setattr(component, name, value)


def wire(desk: Desk) -> None:
    """Tie every component to its handler."""
    view = desk.view
    for trigger in (view.text.submit, view.send.click):
        _streams(desk, trigger, chat.send)
    for number in range(len(examples())):
        _streams(desk, view.buttons[str(number)].click, partial(chat.example, number=number))
    _streams(desk, view.buttons["retry"].click, chat.retry)
    view.text.change(None, view.text, view.send, js=SENDABLE, **SILENT)
    keyed(desk, view.stop.click, chat.stop)
    for name, handler in {"undo": chat.undo, "clear": chat.clear}.items():
        keyed(desk, view.buttons[name].click, handler)
    _takes_back(desk)
    for part in (
        view.history.tools,
        view.history.listing,
        *(part for slot in view.slots for part in (slot.log, slot.live)),
    ):
        _wishes(desk, part.click)
    _picks(desk)
    view.picker.input(lambda values: chat.choose(desk, values), view.inputs, view.outputs, **SILENT)
    keyed(desk, view.picker.change, chat.changed)
    keyed(desk, view.picker.focus, chat.offered)
    _wire_controls(desk)


def remembered(desk: Desk, page: gr.Blocks) -> None:
    """Have the browser keep the settings, and fill them in when it comes back."""
    view = desk.view
    mine, owns = Mine("chat", view.settings), [slot.own for slot in view.slots]

    def fill(kept: Any) -> Updates:
        filled = mine.filled(kept)
        locked = filled.get(view.lock, True)
        return {mine.kept: {"owner": owner(kept)}} | filled | own.shown(owns, locked)

    columns = [one.column for one in owns]
    mine.keep(mine.coming(page).then(fill, mine.kept, [mine.kept, *view.settings.values(), *columns], **SILENT))


def _wire_controls(desk: Desk) -> None:
    view, knobs = desk.view, desk.view.controls
    knobs.preset.input(lambda name: controls.filled(knobs, name), knobs.preset, list(knobs.sliders.values()), **SILENT)
    for slider in knobs.sliders.values():
        slider.input(
            lambda values: controls.matching(knobs, values),
            set(knobs.sliders.values()),
            [knobs.preset],
            **SILENT,
            trigger_mode="always_last",
        )
    owns = [slot.own for slot in view.slots]
    view.lock.input(lambda locked: own.shown(owns, locked), view.lock, [one.column for one in owns], **SILENT)
    knobs.seed_again.click(lambda values: chat.seed_again(desk, values), {view.chat}, [knobs.seed], **SILENT)


def _streams(desk: Desk, trigger: Any, handler: Callable[[Desk, Values, str], Iterator[Updates]]) -> None:
    """Tie a handler whose updates come one after another; the buttons are then set as they must be."""

    def run(values: dict[Block, Any], request: gr.Request) -> Iterator[Updates]:
        yield from handler(_asked_by(desk, request), values, request.session_hash or "")

    _flows(desk, trigger, run)


def _asked_by(desk: Desk, request: gr.Request) -> Desk:
    who = visitor(request.client.host) if desk.visitors.limited and request.client else ""
    return replace(desk, visitor=who)


def _wishes(desk: Desk, trigger: Any) -> None:
    """Tie presses inside the list of conversations, or beside turns."""

    def run(values: dict[Block, Any], event: gr.EventData, request: gr.Request) -> Iterator[Updates]:
        yield from history.act(_asked_by(desk, request), values, request.session_hash or "", history.Wish.of(event))

    _flows(desk, trigger, run)


def _flows(desk: Desk, trigger: Any, run: Callable[..., Iterator[Updates]]) -> None:
    view = desk.view
    # any time: a question that is sent while answers come waits its turn
    event = trigger(flowing(run), inputs=view.inputs, outputs=view.outputs, **FREE, trigger_mode="multiple")
    keyed(desk, event.then, chat.settled)


def keyed(desk: Desk, trigger: Any, handler: Callable[[Desk, Values, str], Updates]) -> None:
    """Give a handler the session's key."""

    def run(values: dict[Block, Any], request: gr.Request) -> Updates:
        return handler(desk, values, request.session_hash or "")

    trigger(run, inputs=desk.view.inputs, outputs=desk.view.outputs, **NOW)


def _picks(desk: Desk) -> None:
    """Choose the variant that another tab names, then open Chat, whose own refresh would otherwise undo it."""

    def run(values: dict[Block, Any], event: gr.EventData, request: gr.Request) -> Updates:
        return chat.pick(desk, values, request.session_hash or "", str(event.name))

    view = desk.view
    view.notice.click(run, view.inputs, view.outputs, **NOW).then(None, js=OPEN, **SILENT)


def _takes_back(desk: Desk) -> None:
    """Tie what stands in the line of waiting questions."""

    def run(values: dict[Block, Any], event: gr.EventData, request: gr.Request) -> Updates:
        return chat.take_back(desk, values, request.session_hash or "", str(event.name))

    view = desk.view
    view.waiting.click(run, view.inputs, [view.waiting, view.text], **NOW)
