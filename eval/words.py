"""The wing's words, Korean and English: data in eval/locales. Light, since the page reads them as it is built."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

Language = Literal["ko", "en"]
LANGUAGES: tuple[Language, ...] = ("ko", "en")
LOCALES = Path(__file__).with_name("locales")


@cache
def words(language: Language) -> dict[str, str]:
    """The wing's words by key, `section.name`."""
    sections = tomllib.loads((LOCALES / f"{language}.toml").read_text(encoding="utf-8"))
    return {f"{section}.{name}": text for section, rows in sections.items() for name, text in rows.items()}
