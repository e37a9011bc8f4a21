"""What the handlers of Chat work with: the components of the tab, and the desk that holds them."""

from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block, BlockContext

from playground.compare import Playground
from playground.conversations.shelves import Shelves
from playground.ui.controls import Controls
from playground.ui.own import Own
from playground.ui.running import Running
from playground.ui.visitors import Visitors


@dataclass(frozen=True)
class Slot:
    """The components of one pane."""

    column: gr.Column
    head: gr.HTML
    log: gr.HTML
    live: gr.HTML
    prompt: gr.HTML
    own: Own

    @property
    def turns(self) -> tuple[gr.HTML, gr.HTML]:
        """What holds turns: those before the last one, and the last."""
        return self.log, self.live


@dataclass(frozen=True)
class History:
    """The components of the list of conversations. `key` opens a visitor's own, `wanted` is what is searched for."""

    key: gr.State
    wanted: gr.State
    tools: gr.HTML
    listing: gr.HTML
    outbox: gr.HTML


@dataclass(frozen=True)
class View:
    """The components of the tab that handlers read or write."""

    chat: gr.State
    notice: gr.HTML
    picker: gr.Dropdown
    facts: gr.HTML
    """What the list of variants says of each."""
    shown: gr.State
    """The variants whose panes are in view."""
    lock: gr.Checkbox
    controls: Controls
    slots: list[Slot]
    text: gr.Textbox
    send: gr.Button
    stop: gr.Button
    examples: BlockContext
    actions: BlockContext
    waiting: gr.HTML
    history: History
    buttons: dict[str, gr.Button]
    """Retry, undo, clear, and the examples by their number."""

    @property
    def settings(self) -> dict[str, Block]:
        """What stands in the settings and in the panes' own, by a name that a browser keeps it under."""
        knobs = self.controls
        own = {
            f"own_{at}_{no}": field for at, slot in enumerate(self.slots) for no, field in enumerate(slot.own.fields)
        }
        more = {"preset": knobs.preset, "seed": knobs.seed, "stop": knobs.stop, "system": knobs.system}
        thinking = {"thinking": knobs.thinking.mode, "budget": knobs.thinking.budget}
        return {**knobs.sliders, **more, **thinking, "lock": self.lock, **own}

    @property
    def inputs(self) -> set[Block]:
        """What the handlers read."""
        kept = {self.history.key, self.history.wanted}
        own = {field for slot in self.slots for field in slot.own.fields}
        return {self.chat, self.picker, self.shown, self.lock, self.text, *own, *kept, *self.controls.inputs}

    @property
    def outputs(self) -> list[Block]:
        """What the handlers write."""
        slots: list[Block] = [part for s in self.slots for part in (s.column, s.head, s.log, s.live, s.prompt)]
        own: list[Block] = [field for slot in self.slots for field in slot.own.fields]
        texts = [self.notice, self.picker, self.facts, self.waiting, self.text, self.send, self.stop]
        history = self.history
        kept: list[Block] = [history.key, history.wanted, history.listing, history.outbox]
        return [
            *slots,
            *own,
            self.chat,
            self.shown,
            *kept,
            *texts,
            self.examples,
            self.actions,
            self.controls.thinking.row,
        ]


@dataclass(frozen=True)
class Desk:
    """What the handlers work with; one a page."""

    playground: Playground
    running: Running
    view: View
    visitors: Visitors
    shelves: Shelves
    visitor: str = ""
    """Whose question a handler is asked to answer, where several people may ask; else nobody's."""
