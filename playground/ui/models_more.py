"""Lays out where models come from: a strip to begin with, this machine, the Hub; and follows downloads."""

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.blocks import Block

from playground.compare import Playground
from playground.page.components import Command, Components, plain, tab_here
from playground.page.events import PRESSES, SILENT, Updates, clocked, in_turn
from playground.page.words import both
from playground.system import jobs
from playground.ui import models, models_finding, models_getting

EVERY_S = 1.0


class More:
    """The parts of Models below the catalogue. `table` and `notice` are the tab's own, shown anew after a change."""

    def __init__(self, components: Components, playground: Playground, command: Command) -> None:
        self.playground, self.command = playground, command
        self.jobs = plain(elem_id="fetch-jobs", js_on_load=PRESSES)
        self.strip = plain(self._strip(), elem_id="suggested", js_on_load=PRESSES)
        with components.make(gr.Accordion, "find.here", open=False, elem_id="here", elem_classes="fold") as self.here:
            plain(f'<p class="soft">{both("find.here_lead")}</p>')
            self.folder, self.look = _asking(components, "folder", "look")
            self.offers = plain(elem_id="here-found", elem_classes="finds", js_on_load=PRESSES)
        with components.make(gr.Accordion, "find.hub", open=False, elem_id="hub", elem_classes="fold"):
            self.words, self.search = _asking(components, "words", "search")
            self.results = plain(elem_id="hub-found", elem_classes="finds", js_on_load=PRESSES)
            self.files = plain(elem_id="hub-files", elem_classes="finds", js_on_load=PRESSES)
        self.timer = gr.Timer(EVERY_S, active=False)

    def wire(self, notice: gr.HTML, tables: list[Block], now: Callable[[], Updates]) -> None:
        """Tie the parts to what they do; `now` shows the catalogue anew, in `tables`."""
        playground, ordered = self.playground, in_turn("models")
        shown: list[Block] = [self.jobs, self.timer]
        changed = [notice, *tables, self.strip, self.offers, *shown]

        def press(folder: str, event: gr.EventData) -> Updates:
            done = self._done(folder, str(event.action), str(event.name))
            found = {self.offers: models_getting.look(playground, folder)} if event.action in ("offer", "get") else {}
            return {notice: done.html, self.strip: self._strip()} | now() | found | self._seen()

        def files(folder: str, event: gr.EventData) -> Updates:
            if event.action == "files":
                return {self.files: models_getting.files(playground, str(event.name))}
            return press(folder, event)

        def look(folder: str) -> str:
            return models_getting.look(playground, folder)

        def search(words: str) -> Updates:
            return {self.results: models_getting.search(playground, words), self.files: ""}

        for part in (self.jobs, self.strip, self.offers, self.files):
            part.click(press, self.folder, changed, **ordered)
        self.results.click(files, self.folder, [*changed, self.files], **ordered)
        for event in (self.here.expand, self.look.click, self.folder.submit):
            event(look, self.folder, self.offers, **SILENT)
        for event in (self.search.click, self.words.submit):
            event(search, self.words, [self.results, self.files], **SILENT)
        self.timer.tick(self._seen, None, shown, **ordered)
        tab_here().select(lambda: {self.strip: self._strip()} | self._seen(), None, [self.strip, *shown], **ordered)

    def _done(self, folder: str, action: str, name: str) -> models.Outcome:
        if action == "offer":
            return models_getting.add_offer(self.playground, folder, name)
        if action == "get":
            return models_getting.get(self.playground, self.command, name)
        return models_getting.act(self.playground, self.command, action, name)

    def _strip(self) -> str:
        return models_finding.suggested(self.playground, models_getting.sources(self.playground))

    def _seen(self) -> Updates:
        settings = self.playground.settings
        return clocked(
            self.timer,
            lambda: jobs.busy(settings, models_finding.KIND),
            lambda: {self.jobs: models_finding.downloads(settings)},
        )


def _asking(components: Components, field: str, press: str) -> tuple[Any, gr.Button]:
    """Return a line to type into and the button beside it."""
    with gr.Row(elem_classes="asks"):
        box = components.make(gr.Textbox, f"find.{field}", value="", max_lines=1, elem_id=f"find-{field}", scale=1)
        pressed = components.make(gr.Button, f"find.{press}", elem_id=f"find-{press}", scale=0, min_width=90)
    return box, pressed
