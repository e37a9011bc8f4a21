"""What the wing's tabs share: its words as HTML in both languages, and its style sheet. Knows no tab."""

from html import escape
from pathlib import Path

import gradio as gr

from eval.words import LOCALES, words
from playground.page import kit
from playground.page.kit import GO, SILENT, Html, Said, Speaker, Updates, each, plain, tab_here

__all__ = [
    "GO",
    "SILENT",
    "Html",
    "Speaker",
    "Updates",
    "badge",
    "both",
    "card",
    "each",
    "empty",
    "fault",
    "plain",
    "plainly",
    "style",
    "tab_here",
]
_said = Said(LOCALES)
both, plainly, card, fault = _said.both, _said.plainly, _said.card, _said.fault


def empty(name: str, tab: str = "", action: str = "") -> str:
    """Nothing to show yet, and what to do."""
    button = f'<button type="button" class="go" data-tab="{tab}">{both(action)}</button>' if tab else ""
    todo = both(f"{name}_todo")
    return f'<div class="nothing"><i class="yard"></i><p>{both(name)}</p><p class="todo">{todo}</p>{button}</div>'


def style() -> gr.HTML:
    """The wing's style sheet, in the tab that it dresses."""
    return kit.style(Path(__file__).with_name("page.css"))


def badge(kind: str) -> str:
    """What kind of variant it is; a kind that we have no word for as it is."""
    name = both(f"built.{kind}") if f"built.{kind}" in words("en") else escape(kind)
    return f'<span class="badge badge-{escape(kind, quote=True)}">{name}</span>'
