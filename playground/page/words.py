"""Every word on the screen, in Korean and English: read from a folder of locales, written as HTML of both languages.

HTML that we write carries both languages, and a style rule hides one: it switches at once and needs no session.
Gradio's own components hold one string at a time; components.py makes those.
"""

import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from playground.errors import MadangError
from playground.escape import Markup, escaped, for_strangers
from playground.settings import load_settings
from playground.wording import LANGUAGES, Language, Worded, filled, in_language

LOCALES = Path(__file__).parent.parent / "locales"


class Texts:
    """The texts of one wing, from the ko.toml and en.toml of its locales folder, by key: `section.name`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, key: str) -> bool:
        return key in self.words("en")

    def words(self, language: Language) -> dict[str, str]:
        """Return the texts of one language by key."""
        return _read(self.folder, language)

    def both(self, key: str, **values: object) -> Markup:
        """Return one text as HTML of both languages; values are escaped unless they are Markup."""

        def said(language: Language) -> Markup:
            safe = {name: escaped(_in(language, value)) for name, value in values.items()}
            return Markup(filled(escaped(self.words(language)[key]), safe))

        return bilingual(said)

    def tooltip(self, key: str, **values: object) -> str:
        """Return one text in both languages for where no HTML can stand: a title, a label for screen readers."""
        return escaped(" · ".join(filled(self.words(language)[key], values) for language in LANGUAGES))

    def card(self, title: str, message: str, hint: str = "") -> str:
        """Return a card that says what went wrong and what helps; `title` is a key, the others are texts or Markup.

        On a Space, whose visitors are strangers, texts name no path of this machine.
        """
        more = f'<p class="hint">{read(hint)}</p>' if hint else ""
        body = f"<strong>{self.both(title)}</strong><p>{read(message)}</p>{more}"
        return f'<div class="card" role="alert">{body}</div>'

    def fault(self, title: str, error: MadangError) -> str:
        """Return an error as a card."""
        return self.card(title, error.message, error.hint)


@cache
def _read(folder: Path, language: Language) -> dict[str, str]:
    sections = tomllib.loads((folder / f"{language}.toml").read_text(encoding="utf-8"))
    return {f"{section}.{name}": text for section, rows in sections.items() for name, text in rows.items()}


def bilingual(write: Callable[[Language], str]) -> Markup:
    """Return HTML that holds what `write` makes for each language; what is no Markup is escaped."""
    spans = ((language, escaped(write(language))) for language in LANGUAGES)
    return Markup("".join(f'<span class="say-{language}" lang="{language}">{text}</span>' for language, text in spans))


def read(message: str) -> Markup:
    """Return a message of the program as HTML of both languages; Markup as it is, any other text as it was said."""
    if isinstance(message, Worded):
        return bilingual(lambda language: _public(_in(language, message)))
    return message if isinstance(message, Markup) else escaped(_public(message))


def _in(language: Language, value: object) -> object:
    return in_language(value, language, "page") if isinstance(value, Worded) else value


def _public(text: Any) -> str:
    return for_strangers(text) if load_settings().mode == "space" else text


texts = Texts(LOCALES)
"""The words of the page itself and of the playground's tabs."""
both, tooltip, card, fault, words = texts.both, texts.tooltip, texts.card, texts.fault, texts.words


@cache
def examples() -> list[str]:
    """Return questions to begin with; they are content, so they do not change with the language."""
    questions: list[str] = tomllib.loads((LOCALES / "examples.toml").read_text(encoding="utf-8"))["questions"]
    return questions
