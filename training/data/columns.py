"""Names of columns as every kind of file has them: composed, each once, and no more than a table of texts has."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from playground.errors import ConfigError
from training.data.encodings import ESCAPED, composed
from training.data.examples import Row

MOST_COLUMNS, LONGEST_NAME = 1_000, 200
NOT_UTF8 = "not UTF-8"
Numbered = Iterator[tuple[int, Row | str]]
"""Line or place, and the row; or what is wrong with it."""


def composed_row(row: Row) -> Row:
    """Return a row whose names are composed: macOS writes Hangul in parts, which is equal to the eye alone."""
    return row if all(map(str.isascii, row)) else {composed(name): value for name, value in row.items()}


def header(path: Path, names: Iterable[Any]) -> list[str]:
    """Return a table's names, composed; refuse what would lose a column or is no table of texts."""
    found = [composed(str(name)).lstrip("\ufeff").strip() for name in names]
    if len(found) > MOST_COLUMNS:
        raise ConfigError(
            f"{path} has {len(found):,} columns; more than {MOST_COLUMNS:,} are no table of texts.",
            "Look whether rows and columns are swapped, or keep the columns to train on.",
        )
    longest = max(map(len, found), default=0)
    if longest > LONGEST_NAME:
        raise ConfigError(
            f"{path} has {longest:,} characters where the name of a column should stand.",
            "Write a first line that names the columns, such as instruction,output.",
        )
    twice = [name for name, times in Counter(found).items() if name and times > 1]
    if twice:
        raise ConfigError(f"{path} has the column {twice[0]!r} twice.", "Rename one of them, or take it out.")
    if ESCAPED.search("".join(found)):
        raise ConfigError(f"{path} has names of columns that are not UTF-8.", "Save the whole file again as UTF-8.")
    return found
