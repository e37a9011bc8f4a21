"""Lays out the Train form: what a run needs in sight, each further field with its advice folded away."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from playground.page.components import Components, plain
from playground.page.events import PRESSES
from playground.page.form import no_number
from playground.settings import Settings
from training.methods import METHODS
from training.ui import advice, form
from training.words import both

SUFFIXES = [".json", ".jsonl", ".csv", ".parquet", ".txt"]
BUTTONS = ("look", "check", "start")


def needed(components: Components, settings: Settings, fields: dict[str, Any]) -> gr.UploadButton:
    """Lay out method, model, data and name; return the button that takes a file."""
    names = form.bases(settings)
    add = partial(components.field, fields, "train")
    methods: dict[str, str] = {name: f"method.{name}" for name, way in METHODS.items() if not way.rewarded}
    add(gr.Radio, "method", spoken=methods, value="sft")
    plain("".join(f'<p class="soft" data-method="{name}">{both(f"method.{name}_info")}</p>' for name in methods))
    add(gr.Dropdown, "model", choices=names, value=next(iter(names), None))
    with gr.Row(elem_classes="source"):
        add(gr.Textbox, "source", max_lines=1, scale=2)
        upload = components.make(gr.UploadButton, "train.upload", file_types=SUFFIXES, elem_id="train-upload", scale=0)
    add(gr.Textbox, "name", max_lines=1)
    return upload


def buttons(components: Components) -> dict[str, gr.Button]:
    """Lay out what begins something."""
    with gr.Row(elem_classes="buttons"):
        return {
            name: components.make(
                gr.Button,
                f"train.{name}",
                variant="primary" if name == "start" else "secondary",
                elem_id=f"train-{name}-button",
                scale=0,
            )
            for name in BUTTONS
        }


def advised(components: Components, fields: dict[str, Any]) -> list[gr.HTML]:
    """Lay out the recipe's fields, folded, each with its advice; return what the advice is shown in."""
    begin = form.defaults("sft")
    shown: list[gr.HTML] = []

    def beside(name: str, *makers: Callable[[], None]) -> None:
        with gr.Row(elem_classes="field"):
            with gr.Column(min_width=0, elem_classes="inputs"):
                for make in makers:
                    make()
            shown.append(plain(advice.beside(name), js_on_load=PRESSES, elem_classes="beside"))

    def add(kind: Any, name: str, **options: Any) -> None:
        value = begin.get(name, False if kind is gr.Checkbox else "")
        value = value if value is not None else no_number
        components.field(fields, "train", kind, name, value=value, **options)

    def whole(name: str) -> Callable[[], None]:
        return partial(add, gr.Number, name, precision=0)

    ranks = [rank for rank, *_ in advice.RANKS]
    with components.make(gr.Accordion, "train.recipe", open=False, elem_id="train-recipe"):
        beside("rank", partial(add, gr.Dropdown, "rank", choices=ranks, allow_custom_value=True), whole("alpha"))
        beside("learning_rate", partial(add, gr.Textbox, "learning_rate", max_lines=1))
        beside("batch", whole("batch"), whole("accumulation"))
        beside("epochs", partial(add, gr.Number, "epochs"), whole("max_steps"))
        beside("max_length", whole("max_length"))
        beside("evaluation", partial(add, gr.Number, "evaluation", step=0.05), whole("save_steps"))
        for name in form.TICKS:
            beside(name, partial(add, gr.Checkbox, name))
        components.field(fields, "train", gr.Textbox, "columns", lines=2)
        components.field(fields, "train", gr.Textbox, "extra", lines=4)
        plain(f'<p class="soft">{both("method.grpo_info")}</p>')
    return shown
