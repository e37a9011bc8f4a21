"""A row whose columns are asked for by name, and a turn whose keys are: what no reader asked for stays unread.

Values become texts here: numbers and truth values as JSON writes them, nothing and NaN as an empty text.
"""

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

EMPTY = frozenset(("nan", "none", "null", "<na>", "nat"))
"""What other programs write into a cell that holds nothing, in lower case."""
LONGEST = 20
"""Characters that such a cell has at most, with white space."""
SPEAK = frozenset(("role", "from", "input"))
"""Keys of a turn that every turn of its kind has."""
LITERAL = 1_000_000
"""Characters up to which a cell is read as a list that Python printed, which takes much memory."""

PRINTED = re.compile(r"\s*(\[\s*[\[{(]|\{)\s*['\"]")
"""How a list of pairs or of objects begins that Python printed."""


class RowFault(NamedTuple):
    """Why a row cannot become an Example."""

    message: str
    remedy: str


class Unfit(Exception):
    """Raised for a row that cannot become an Example."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.fault = RowFault(message, remedy)


class Cells:
    """Columns of a row, or keys of a turn; knows which of those that hold something nobody has asked for yet.

    `remarks`: (check, what exactly) of what was read otherwise than it stands. `turns`: the same of the row's turns.
    """

    __slots__ = ("remarks", "turns", "unread", "values")

    def __init__(self, values: Mapping[str, Any], row: "Cells | None" = None) -> None:
        self.values = values
        self.unread = {name: value for name, value in values.items() if not blank(value)}
        self.remarks: list[tuple[str, str]] = [] if row is None else row.remarks
        self.turns: list[tuple[str, Any]] = []

    def take(self, *names: str) -> Any:
        """Return what the first of these that holds something holds, else None; others that say the same are read."""
        value = None
        for name in names:
            if name in self.unread and (value is None or self.unread[name] == value):
                value = self.unread.pop(name)
        return value

    def text(self, *names: str) -> str:
        """Return a column that the format needs as text, of the first name that holds something."""
        if len(names) > 1:
            names = (next((name for name in names if name in self.unread), names[0]), *names)
        return self.written(self.take(*names), names[0])

    def optional(self, *names: str) -> str:
        """Return a column that may be empty as text; empty, too, where another program wrote that it is."""
        said = self.text(*names)
        if len(said) > LONGEST or said.strip().lower() not in EMPTY:
            return said
        self.remarks.append(("empty-cells", f"{names[0]}: {said.strip()}"))
        return ""

    def written(self, value: Any, name: str) -> str:
        """Return a value as text, as JSON writes it; Unfit where it is none."""
        if isinstance(value, str):
            return value
        if value is None or value != value:  # NaN alone differs from itself
            return ""
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            said = json.dumps(value)
            self.remarks.append(("not-text", said))
            return said
        raise Unfit(f"{name} is {a(value)} and no text", f"Write {name} as a text, or choose another --format.")


def blank(value: Any) -> bool:
    """Return whether a value holds nothing."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (isinstance(value, list | dict) and not value) or bool(value != value)


def a(value: Any) -> str:
    """Return what a value is, with its article."""
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    names: dict[type, str] = {list: "a list", dict: "an object", str: "a text", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def parsed(value: Any) -> Any:
    """Return a list or an object that a cell holds as JSON, or as Python prints it; anything else as it is.

    Turns whose keys are lists, as `datasets` wrote them, become a list of turns.
    """
    found = _loaded(value)
    if not isinstance(found, dict) or not found.keys() & SPEAK or not all(isinstance(v, list) for v in found.values()):
        return found
    same = len(set(map(len, found.values()))) == 1
    return [dict(zip(found, turn, strict=True)) for turn in zip(*found.values(), strict=True)] if same else found


def _loaded(value: Any) -> Any:
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(value.strip()) if len(value) <= LITERAL and PRINTED.match(value) else value
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value
