"""Every word on the screen, in Korean and English: read from locales folders, shown in one language at a time.

Two ways, one for each kind of element. HTML that we write carries both languages, and a style rule hides one: it
switches at once and needs no session. Gradio's own components hold one string: they start in the browser's language
(gr.I18n) and are told the other one by `Words.switched`, so that a switch loses neither conversation nor settings.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Literal, TypeVar

import gradio as gr
from gradio.blocks import Block
from gradio.i18n import I18nData

LOCALES = Path(__file__).parent.parent / "locales"
LANGUAGES = ("ko", "en")
Language = Literal["ko", "en"]
C = TypeVar("C", bound=Block)


@cache
def words(language: str, folder: Path = LOCALES) -> dict[str, str]:
    """One language's words by key, `section.name`."""
    sections = tomllib.loads((folder / f"{language}.toml").read_text(encoding="utf-8"))
    return {f"{section}.{name}": text for section, rows in sections.items() for name, text in rows.items()}


@cache
def examples() -> list[str]:
    """Questions to begin with; they are content, so they do not change with the language."""
    questions: list[str] = tomllib.loads((LOCALES / "examples.toml").read_text(encoding="utf-8"))["questions"]
    return questions


def both(key: str, **values: object) -> str:
    """HTML of one of the page's texts in both languages; values are escaped, a Markup value is taken as it is."""
    return _both({language: words(language)[key] for language in LANGUAGES}, values)


def _both(texts: Mapping[str, str], values: Mapping[str, object]) -> str:
    safe = {name: value if isinstance(value, Markup) else escape(str(value)) for name, value in values.items()}
    return "".join(
        f'<span class="say-{language}" lang="{language}">{escape(text).format(**safe)}</span>'
        for language, text in texts.items()
    )


def both_plain(key: str) -> str:
    """One text in both languages where HTML cannot go: a tooltip, a label for screen readers."""
    return escape(" · ".join(words(language)[key] for language in LANGUAGES), quote=True)


class Markup(str):
    """HTML that is safe to show as it is."""

    __slots__ = ()


class Words:
    """The words of one page, and which Gradio components say them. `folders`: locales that other wings bring."""

    def __init__(self, language: Literal["auto", "ko", "en"] = "auto", folders: Sequence[Path] = ()) -> None:
        self._said = {code: _merged(code, folders) for code in LANGUAGES}
        self.i18n = gr.I18n(**{code: self._said[code if language == "auto" else language] for code in LANGUAGES})
        self._props: dict[Block, dict[str, str]] = {}
        self._choices: dict[Block, dict[str, str]] = {}

    def __call__(self, key: str) -> I18nData:
        """A text in the browser's language, for a component that keeps it."""
        if key not in self._said["en"]:
            raise KeyError(key)
        return self.i18n(key)

    def both(self, key: str, **values: object) -> str:
        """HTML of one text in both languages, from any of the folders; values are escaped."""
        return _both({code: said[key] for code, said in self._said.items()}, values)

    def make(
        self, kind: Callable[..., C], texts: Mapping[str, str], spoken: Mapping[str, str] | None = None, **options: Any
    ) -> C:
        """A component; its `texts` (property to key) and `spoken` choices (value to key) follow the language."""
        props: dict[str, Any] = {prop: self(key) for prop, key in texts.items()}
        if spoken is not None:
            props["choices"] = [(self(key), value) for value, key in spoken.items()]
        component = kind(**props, **options)
        self._props[component] = dict(texts)
        if spoken is not None:
            self._choices[component] = dict(spoken)
        return component

    @property
    def components(self) -> Sequence[Block]:
        """What `switched` updates."""
        return list(self._props)

    def switched(self, language: str) -> dict[Block, Any]:
        """Updates that make every component speak that language; an unknown one is read as English."""
        said = self._said[language if language in LANGUAGES else "en"]
        updates: dict[Block, Any] = {}
        for component, texts in self._props.items():
            props: dict[str, Any] = {prop: said[key] for prop, key in texts.items()}
            if component in self._choices:
                props["choices"] = [(said[key], value) for value, key in self._choices[component].items()]
            updates[component] = gr.update(**props)
        return updates


def _merged(language: str, folders: Sequence[Path]) -> dict[str, str]:
    """The page's words and those of the folders; a key that stands twice is a fault of the program."""
    merged = dict(words(language))
    for folder in folders:
        twice = merged.keys() & words(language, folder)
        if twice:
            raise ValueError(f"{folder} says {sorted(twice)} again")
        merged |= words(language, folder)
    return merged
