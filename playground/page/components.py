"""Tabs, and Gradio components as they use them: labels follow the page's language, HTML its own styles.

A component holds one string at a time. It starts in the browser's language (gr.I18n) and is given the other one by
`Components.switched`, so that a switch loses neither conversation nor settings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import gradio as gr
from gradio.blocks import Block
from gradio.context import Context

from playground.escape import Markup
from playground.page.events import Updates
from playground.page.words import Texts, bilingual, texts
from playground.wording import LANGUAGES, Language

C = TypeVar("C", bound=Block)
Command = Sequence[str]
"""How this program is called, for jobs that run it again: the interpreter and its front door. app.py says it."""


class Components:
    """The components of one page whose texts follow its language. `folders`: locales that other wings bring."""

    def __init__(self, language: Literal["auto", "ko", "en"] = "auto", folders: Sequence[Path] = ()) -> None:
        self._words = {code: _merged(code, folders) for code in LANGUAGES}
        self.i18n = gr.I18n(**{code: self._words[code if language == "auto" else language] for code in LANGUAGES})
        self._props: dict[Block, dict[str, str]] = {}
        self._choices: dict[Block, dict[str, str]] = {}

    def make(self, kind: Callable[..., C], key: str, spoken: Mapping[str, str] | None = None, **options: Any) -> C:
        """Return a component whose words follow the language; `spoken` choices, value to key, do so too.

        `key` is its label, or what stands on a button or in a box without a label; `<key>_info` and `<key>_hint`,
        where there are such texts, are the line below the label and the placeholder. Raises KeyError for a key that
        stands in none of the folders.
        """
        unlabelled = options.get("show_label") is False
        keys = {"value" if kind is gr.Button else "placeholder" if unlabelled else "label": key}
        more = {"info": f"{key}_info", "placeholder": f"{key}_hint"}
        keys |= {prop: name for prop, name in more.items() if name in self._words["en"]}
        component = kind(**_props(self._translated, keys, spoken or {}), **options)
        self._props[component], self._choices[component] = keys, dict(spoken or {})
        return component

    def field(self, fields: dict[str, Any], section: str, kind: Callable[..., C], name: str, **options: Any) -> C:
        """Add a field to those of a form; its key is `<section>.<name>`, its element's id `<section>-<name>`."""
        made = self.make(kind, f"{section}.{name}", **({"elem_id": f"{section}-{name}"} | options))
        fields[name] = made
        return made

    def both(self, key: str) -> Markup:
        """Return one text as HTML of both languages."""
        return bilingual(lambda language: self._words[language][key])

    @property
    def all(self) -> Sequence[Block]:
        """What `switched` updates."""
        return list(self._props)

    def switched(self, language: str) -> Updates:
        """Return updates that make every component speak a language; an unknown one is read as English."""
        words = self._words["ko" if language == "ko" else "en"]
        return {
            component: gr.update(**_props(words.__getitem__, keys, self._choices[component]))
            for component, keys in self._props.items()
        }

    def _translated(self, key: str) -> Any:
        if key not in self._words["en"]:
            raise KeyError(key)
        return self.i18n(key)


@dataclass(frozen=True)
class Tab:
    """A tab: `name` is its id and the key `tab.<name>` of its title; `locales` the folder with its ko and en.toml.

    `render` is called once, inside the tab, and builds it; what has words on it comes from `Components.make`.
    """

    name: str
    render: Callable[[Components], object]
    locales: Path | None = None


def _props(word: Callable[[str], Any], keys: Mapping[str, str], spoken: Mapping[str, str]) -> dict[str, Any]:
    """Return a component's properties with the words of their keys."""
    choices = {"choices": [(word(key), value) for value, key in spoken.items()]} if spoken else {}
    return {prop: word(key) for prop, key in keys.items()} | choices


def _merged(language: Language, folders: Sequence[Path]) -> dict[str, str]:
    """Return the page's words and those of the folders; a key that stands twice is a fault of the program."""
    merged = dict(texts.words(language))
    for folder in folders:
        more = Texts(folder).words(language)
        if twice := merged.keys() & more.keys():
            raise ValueError(f"{folder} says {sorted(twice)} again")
        merged |= more
    return merged


def plain(value: str = "", js_on_load: str | None = None, **options: Any) -> gr.HTML:
    """Return HTML that the page's own style sheets dress: without Gradio's prose rules and its click listener."""
    return gr.HTML(value, js_on_load=js_on_load, apply_default_css=False, **options)


def lead(texts: Texts, section: str, sheet: Path) -> None:
    """Begin a wing's tab: the style sheet that dresses it, its heading and what it is for."""
    heading, purpose = (texts.both(f"{section}.{name}") for name in ("heading", "lead"))
    style = sheet.read_text(encoding="utf-8")
    plain(f"<style>{style}</style>", elem_classes="wing-style")
    plain(f"<h2>{heading}</h2><p>{purpose}</p>", elem_classes="lead")


def tab_here() -> gr.Tab:
    """Return the tab that is being rendered."""
    tab = Context.block
    assert isinstance(tab, gr.Tab)
    return tab
