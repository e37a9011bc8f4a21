"""Text that others wrote, made safe for where it is shown: HTML, a terminal, Markdown, a spreadsheet. All use these.

Names, values and errors come out of files, servers and models: they are shown as text, and never do anything.
"""

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

_UNSEEN = (*range(9), *range(11, 32), *range(127, 160))
HALVES = dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
"""Halves of signs, as `\\ud800` in JSON and names of files in another encoding bring: no UTF-8 can be made of them."""
VISIBLE = {code: 0x2400 + code if code < 32 else 0x2421 if code == 127 else 0xFFFD for code in _UNSEEN} | HALVES
"""Control characters, which move a terminal's cursor and more, and the signs that stand for them."""
ABSOLUTE = re.compile(
    r"(?<![\w:/.\\~\]])(?:~|[A-Za-z]:(?=[\\/]))?[\\/](?!(?:v1|api|tokenize|detokenize|tokenizer_info|health|metrics|props)\b)"
    r"(?:[^\s\"'\\/:]+(?: [^\s\"'\\/:]+)*[\\/])*([^\s\"'\\/:]+)[\\/]?"
)
"""A path within a text, but for those of APIs; its folders may hold spaces, its last part is taken for a word."""
QUOTED = re.compile(r"""(["'])(?:~|[A-Za-z]:)?[\\/](?:[^"'\n]*[\\/])?([^"'\n\\/]+)[\\/]?\1""")
WHOLE = re.compile(r"(~|[A-Za-z]:|\\\\)?[\\/][^\n]*")
"""A text that is a path and nothing else may hold spaces."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Markup(str):
    """HTML that is safe to show as it is."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    """Return Markup as it is, and anything else as text that is safe inside HTML and its attributes."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)).translate(HALVES))


def link(url: str) -> Markup:
    """Return a link to an address of the web, and any other address as text: `javascript:` is one, too."""
    if not re.match(r"https?://", url):
        return escaped(url)
    shown = escaped(url.partition("://")[2])
    return Markup(f'<a href="{escaped(url)}" target="_blank" rel="noopener">{shown}</a>')


def visible(text: str) -> str:
    """Return text for a terminal: control characters are seen instead of obeyed; tabs and line breaks stay."""
    return text.translate(VISIBLE)


def in_markdown(text: str) -> str:
    """Return text for one line of Markdown: no HTML, link, code or table cell begins in it."""
    flat = " ".join(visible(text).splitlines())
    return re.sub(r"\](?=[(\[:])", r"\\]", re.sub(r"([\\`<|])", r"\\\1", flat))


def in_sheet(value: object) -> object:
    """Return a value for a CSV file: a text that spreadsheets would compute begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    return f"'{visible(value)}" if value.startswith(FORMULA) else visible(value)


def guard_rich() -> None:
    """Have rich show control characters instead of passing them on, wherever it prints; its own styles still work."""
    from rich import control

    control._CONTROL_STRIP_TRANSLATE.update({code: sign for code, sign in VISIBLE.items() if code not in (7, 8, 13)})


def without_paths(value: Any) -> Any:
    """Return the same with every absolute path cut to its last part; web addresses and Hub ids stay."""
    if isinstance(value, Mapping):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(inner) for inner in value]
    text = str(value) if isinstance(value, Path) else value
    if not isinstance(text, str):
        return text
    if WHOLE.fullmatch(text):
        return re.split(r"[\\/]", text.rstrip("\\/"))[-1]
    return ABSOLUTE.sub(r"\1", QUOTED.sub(r"\1\2\1", text))


@lru_cache(maxsize=256)
def for_strangers(text: str) -> str:
    """Return an error's text for clients and visitors: no path of this machine. The log has it whole, once."""
    shown = str(without_paths(f" {text}"))[1:]  # a sentence, even where it begins with a path
    if shown != text:
        logging.getLogger("madang").warning("Told without its paths: %s", visible(text))
    return shown
