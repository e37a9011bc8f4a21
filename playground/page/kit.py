"""What the wings' tabs share without knowing the page: HTML in both languages, cards, buttons in HTML. No engine."""

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import gradio as gr
from gradio.blocks import Block
from gradio.context import Context

from playground.errors import MadangError

Language = Literal["ko", "en"]
LANGUAGES: tuple[Language, ...] = ("ko", "en")
C = TypeVar("C", bound=Block)
Updates = dict[Block, Any]
SILENT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
GO = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-tab], [data-action]");
  if (!button) return;
  if (button.dataset.ask) document.dispatchEvent(new CustomEvent("madang:ask", { detail: button.dataset.ask }));
  else if (button.dataset.tab) document.querySelector(`#tab-${button.dataset.tab}-button`)?.click();
  else trigger("click", { action: button.dataset.action, name: button.dataset.name });
});
"""
"""Buttons inside HTML: `data-tab` opens a tab, `data-action` and `data-name` reach the handler. With `data-ask` Chat
chooses that variant first: ASKED hears it, and Chat opens its tab itself."""
ASKED = """
document.addEventListener("madang:ask", (event) => trigger("click", { name: event.detail }));
"""
"""For the element of Chat that hears which variant another tab asks for."""


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


class Said:
    """A wing's words, read from its locales folder, as HTML that carries both languages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def words(self, language: Language) -> dict[str, str]:
        """The words by key, `section.name`."""
        return _words(self.folder, language)

    def both(self, key: str, **values: object) -> Html:
        """One text in both languages; values are escaped unless they are Html."""
        safe = {name: value if isinstance(value, Html) else escape(str(value)) for name, value in values.items()}
        return each(lambda language: Html(escape(self.words(language)[key]).format(**safe)))

    def plainly(self, key: str, **values: object) -> str:
        """Both languages where HTML cannot go: a tooltip."""
        return escape(" · ".join(self.words(code)[key].format(**values) for code in LANGUAGES), quote=True)

    def card(self, title: str, message: str, hint: str = "") -> str:
        """What went wrong and what helps; `message` and `hint` are texts or Html."""
        shown = [part if isinstance(part, Html) else escape(part) for part in (message, hint)]
        more = f'<p class="hint">{shown[1]}</p>' if hint else ""
        return f'<div class="card" role="alert"><strong>{self.both(title)}</strong><p>{shown[0]}</p>{more}</div>'

    def fault(self, title: str, error: MadangError) -> str:
        """An error as a card."""
        return self.card(title, error.message, error.hint)


@cache
def _words(folder: Path, language: Language) -> dict[str, str]:
    sections = tomllib.loads((folder / f"{language}.toml").read_text(encoding="utf-8"))
    return {f"{section}.{name}": text for section, rows in sections.items() for name, text in rows.items()}


def each(text: Callable[[Language], str]) -> Html:
    """A text that each language makes for itself; the page shows one of them."""
    parts = ((language, text(language)) for language in LANGUAGES)
    return Html(
        "".join(
            f'<span class="say-{code}" lang="{code}">{said if isinstance(said, Html) else escape(said)}</span>'
            for code, said in parts
        )
    )


def lasting(seconds: float) -> Html:
    """A time as people say it."""
    return each(lambda language: _lasting(seconds, language))


def _lasting(seconds: float, language: Language) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    units = ("시간", "분", "초") if language == "ko" else (" h", " min", " s")
    if hours:
        return f"{hours}{units[0]} {minutes}{units[1]}"
    return f"{minutes}{units[1]} {rest}{units[2]}" if minutes else f"{rest}{units[2]}"


def button(action: str, name: str, text: str, kind: str = "") -> str:
    """A button inside HTML that a GO script reports; `text` is HTML."""
    where = f'data-action="{action}" data-name="{escape(name, quote=True)}"'
    return f'<button type="button" class="{kind or action}" {where}>{text}</button>'


def chat_button(variant: str, text: str) -> str:
    """A button inside HTML that opens Chat with this variant chosen; `text` is HTML."""
    asked = f'data-tab="chat" data-ask="{escape(variant, quote=True)}"'
    return f'<button type="button" class="go" {asked}>{text}</button>'


def plain(value: str = "", js_on_load: str | None = None, **options: Any) -> gr.HTML:
    """HTML that the page's own style sheets dress."""
    return gr.HTML(value, js_on_load=js_on_load, apply_default_css=False, **options)


def style(sheet: Path) -> gr.HTML:
    """A wing's style sheet, in the tab that it dresses."""
    return plain(f"<style>{sheet.read_text(encoding='utf-8')}</style>", elem_classes="wing-style")


def clocked(timer: gr.Timer, busy: Callable[[], bool], shown: Callable[[], Updates]) -> Updates:
    """What a tab shows of its jobs, and whether its clock goes on. `busy` is asked first: a job that ends while `shown`
    is made is then told by the next tick; asked last, it would stand there as running for ever."""
    active = busy()
    return {**shown(), timer: gr.Timer(active=active)}


def in_turn(tab: str) -> dict[str, Any]:
    """Options of the events that end in `clocked`: one at a time, so that no older answer stops a newer one's clock."""
    return {**SILENT, "concurrency_id": f"{tab}-jobs"}


def tab_here() -> gr.Tab:
    """The tab that is being rendered."""
    tab = Context.block
    assert isinstance(tab, gr.Tab)
    return tab
