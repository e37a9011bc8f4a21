"""What the wing's tabs share: HTML in both languages, cards, and what they need of the page. Knows no tab."""

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Protocol, TypeVar

import gradio as gr
from gradio.blocks import Block
from gradio.context import Context

from eval.words import LANGUAGES, Language, words
from playground.errors import MadangError

C = TypeVar("C", bound=Block)
HERE = Path(__file__).parent
Updates = dict[Block, Any]
SILENT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
GO = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-tab], [data-action]");
  if (!button) return;
  if (button.dataset.tab) document.querySelector(`#tab-${button.dataset.tab}-button`)?.click();
  else trigger("click", { action: button.dataset.action, name: button.dataset.name });
});
"""
"""Buttons inside HTML: `data-tab` opens a tab, `data-action` and `data-name` reach the handler."""


class Speaker(Protocol):
    """Makes components whose words follow the page's language."""

    def make(
        self, kind: Callable[..., C], texts: Mapping[str, str], spoken: Mapping[str, str] | None = None, **options: Any
    ) -> C:
        """A component; `texts` are properties and the keys of their words."""
        ...


class Html(str):
    """HTML that is safe to show as it is."""

    __slots__ = ()


def both(key: str, **values: object) -> Html:
    """One of the wing's texts in both languages; values are escaped unless they are Html."""
    safe = {name: value if isinstance(value, Html) else escape(str(value)) for name, value in values.items()}
    return each(lambda language: Html(escape(words(language)[key]).format(**safe)))


def each(text: Callable[[Language], str]) -> Html:
    """A text that each language makes for itself; the page shows one of them."""
    parts = ((language, text(language)) for language in LANGUAGES)
    return Html(
        "".join(
            f'<span class="say-{code}" lang="{code}">{said if isinstance(said, Html) else escape(said)}</span>'
            for code, said in parts
        )
    )


def plainly(key: str, **values: object) -> str:
    """Both languages where HTML cannot go: a tooltip."""
    return escape(" · ".join(words(language)[key].format(**values) for language in LANGUAGES), quote=True)


def card(title: str, message: str, hint: str = "") -> str:
    """What went wrong and what helps; `message` and `hint` are texts or Html."""
    shown = [part if isinstance(part, Html) else escape(part) for part in (message, hint)]
    more = f'<p class="hint">{shown[1]}</p>' if hint else ""
    return f'<div class="card" role="alert"><strong>{both(title)}</strong><p>{shown[0]}</p>{more}</div>'


def fault(title: str, error: MadangError) -> str:
    """An error as a card."""
    return card(title, error.message, error.hint)


def empty(name: str, tab: str = "", action: str = "") -> str:
    """Nothing to show yet, and what to do."""
    button = f'<button type="button" class="go" data-tab="{tab}">{both(action)}</button>' if tab else ""
    todo = both(f"{name}_todo")
    return f'<div class="nothing"><i class="yard"></i><p>{both(name)}</p><p class="todo">{todo}</p>{button}</div>'


def plain(value: str = "", js_on_load: str | None = None, **options: Any) -> gr.HTML:
    """HTML that the page's own style sheets dress."""
    return gr.HTML(value, js_on_load=js_on_load, apply_default_css=False, **options)


def style() -> gr.HTML:
    """The wing's style sheet, in the tab that it dresses."""
    return plain(f"<style>{(HERE / 'page.css').read_text(encoding='utf-8')}</style>", elem_classes="wing-style")


def tab_here() -> gr.Tab:
    """The tab that is being rendered."""
    tab = Context.block
    assert isinstance(tab, gr.Tab)
    return tab


def badge(kind: str) -> str:
    """What kind of variant it is; a kind that we have no word for as it is."""
    name = both(f"built.{kind}") if f"built.{kind}" in words("en") else escape(kind)
    return f'<span class="badge badge-{escape(kind, quote=True)}">{name}</span>'
