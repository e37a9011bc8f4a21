"""Lays out Leaderboard and ties its components to what board.py, table.py, plots.py and flips.py do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from eval.ui import board as boards
from eval.ui import flips, plots, table
from eval.words import both, texts
from playground.page.components import Components, lead, plain, tab_here
from playground.page.events import PRESSES, SILENT, Updates
from playground.page.form import values_of
from playground.settings import Settings

SHEET = Path(__file__).with_name("page.css")
PRESS = "() => setTimeout(() => document.querySelector('#board-file a')?.click(), 120)"


@dataclass(frozen=True)
class View:
    """The tab's components."""

    sort: gr.State
    fields: dict[str, Any]
    table: gr.HTML
    plots: gr.HTML
    sentences: gr.HTML
    row: gr.Dropdown
    task: gr.Dropdown
    flips: gr.HTML
    file: gr.HTML
    rest: gr.Column

    @property
    def inputs(self) -> set[Block]:
        """What decides which rows are shown."""
        return {self.sort, self.row, self.task, *self.fields.values()}


def render(settings: Settings, components: Components) -> None:
    """Lay out the tab, inside the caller's gr.Tab."""
    lead(texts, "leaderboard", SHEET)
    sort = gr.State(boards.GROUPED)
    fields = _filters(components, settings)
    shown = plain(elem_id="board-table", js_on_load=PRESSES)
    with gr.Column(visible=False, elem_id="board-rest") as rest:
        with gr.Row(elem_classes="downloads"):
            plain(f"<small>{both('leaderboard.download')}</small>")
            buttons = {
                form: gr.Button(name, size="sm", elem_id=f"board-{form}", scale=0, min_width=0)
                for form, name in {"csv": "CSV", "md": "Markdown", "json": "JSON"}.items()
            }
        sentences = plain(elem_id="board-said", elem_classes="section")
        drawn = plain(elem_id="board-plots", elem_classes="section")
        plain(f"<h3>{both('flips.heading')}</h3><p class='soft'>{both('flips.lead')}</p>", elem_classes="section")
        with gr.Row(elem_classes="picks"):
            row = components.make(gr.Dropdown, "flips.row", choices=[], value=None, elem_id="flips-row")
            task = components.make(gr.Dropdown, "flips.task", choices=[], value=None, elem_id="flips-task")
        read = plain(elem_id="board-flips")
    file = plain(elem_id="board-file")
    view = View(sort, fields, shown, drawn, sentences, row, task, read, file, rest)
    _wire(settings, view, buttons, tab_here())


def _filters(components: Components, settings: Settings) -> dict[str, Any]:
    fields: dict[str, Any] = {}

    def add(kind: Callable[..., Block], name: str, **options: Any) -> None:
        components.field(fields, "leaderboard", kind, name, elem_id=f"board-{name}", **options)

    with gr.Row(elem_classes="filters"):
        add(gr.Textbox, "pattern", max_lines=1, scale=2)
        add(gr.Dropdown, "shots", choices=[], value=[], multiselect=True)
        add(gr.Number, "margin", value=1.0, minimum=0.1, maximum=50)
        if settings.mode == "local":  # in a Space it is the owner's
            add(gr.Textbox, "folder", placeholder=str(settings.data / "results"), max_lines=1, scale=2)
        add(gr.Checkbox, "whole", value=False)
    return fields


def refresh(settings: Settings, view: View, values: dict[Block, Any], sort: tuple[str, bool]) -> Updates:
    """Return all that the tab shows, as the form asks."""
    found = boards.show(settings, boards.asked(settings, values_of(view.fields, values) | {"sort": sort}))
    shots = gr.update(choices=[str(one) for one in found.shots])
    board = found.board
    start: Updates = {
        view.sort: sort,
        view.fields["shots"]: shots,
        view.rest: gr.update(visible=bool(board and board.rows)),
    }
    if board is None or not board.rows:
        return start | {view.table: found.instead}
    picked, task, read = _flipped(board, values[view.row], values[view.task])
    return start | {
        view.table: boards.faults(board) + table.html(board, sort),
        view.plots: plots.html(board),
        view.sentences: boards.sentences(board),
        view.row: picked,
        view.task: task,
        view.flips: read,
    }


def _flipped(board: Any, row: str | None, task: str | None) -> tuple[Any, Any, str]:
    """Return the choice of documents as far as it still exists on this board."""
    offered = list(boards.choices(board))
    keys = [value for _, value in offered]
    if row not in keys:
        row, task = flips.first(board, keys)
    there = flips.tasks(board, row)
    if task not in there and row is not None:
        _, task = flips.first(board, [row])
    short = [(board.short(one), one) for one in there]
    return gr.update(choices=offered, value=row), gr.update(choices=short, value=task), flips.html(board, row, task)


def _wire(settings: Settings, view: View, buttons: dict[str, gr.Button], tab: gr.Tab) -> None:
    fields = view.fields
    shown = [view.table, view.plots, view.sentences, view.row, view.task, view.flips]
    outputs = [view.sort, fields["shots"], view.rest, *shown]

    def anew(values: dict[Block, Any]) -> Updates:
        return refresh(settings, view, values, values[view.sort])

    def press(values: dict[Block, Any], event: gr.EventData) -> Updates:
        return refresh(settings, view, values, boards.turned(tuple(values[view.sort]), str(event.name)))

    typed = [fields[name] for name in ("pattern", "folder", "margin") if name in fields]
    changes = [change for field in typed for change in (field.submit, field.blur)]
    changes += [fields["shots"].change, fields["whole"].input]
    for trigger in (tab.select, *changes, view.row.input, view.task.input):
        trigger(anew, view.inputs, outputs, **SILENT)
    view.table.click(press, view.inputs, outputs, **SILENT)
    for form, button in buttons.items():
        _downloads(settings, view, button, form)


def _downloads(settings: Settings, view: View, button: gr.Button, form: str) -> None:
    def write(values: dict[Block, Any]) -> str:
        wanted = boards.asked(settings, values_of(view.fields, values) | {"sort": values[view.sort]})
        found = boards.show(settings, wanted)
        return boards.download(found.board, form) if found.board else ""

    button.click(write, view.inputs, view.file, **SILENT).then(None, None, None, js=PRESS)
