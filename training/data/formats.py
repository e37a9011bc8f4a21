"""Which of the known formats a table is in, and its rows as Examples. Judges no content: checks.py does.

| format     | columns                                                                                      |
|------------|----------------------------------------------------------------------------------------------|
| alpaca     | instruction, output; input may be empty, and follows the instruction as its form has it      |
| koalpaca   | instruction, output                                                                          |
| sharegpt   | conversations: a list of {from, value}                                                       |
| messages   | messages (or conversations): a list of {role, content}, as OpenAI's                          |
| preference | chosen, rejected and prompt, each a text or a list of messages; whole conversations need no  |
|            | prompt: what both begin with is it                                                           |
| kto        | prompt, completion and label (true: a good answer), each of the first two a text or a list   |
|            | of messages; or messages and label                                                           |
| text       | text                                                                                         |
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from playground.errors import ConfigError, UnknownNameError
from training.data.examples import Example, Kind, Row, Table
from training.data.findings import Finding, many
from training.data.rows import READERS, RowFault, Unfit, rating, turned
from training.methods import METHODS

KINDS: dict[str, Kind] = {
    "alpaca": "conversation",
    "koalpaca": "conversation",
    "sharegpt": "conversation",
    "messages": "conversation",
    "preference": "preference",
    "kto": "rated",
    "text": "text",
}
WANTED = {
    "alpaca": ("instruction", "output"),
    "koalpaca": ("instruction", "output"),
    "sharegpt": ("conversations",),
    "messages": ("messages",),
    "preference": ("chosen", "rejected"),
    "kto": ("completion", "label"),
    "text": ("text",),
}
OPTIONAL = {
    "alpaca": ("input",),
    "preference": ("prompt",),
    "kto": ("prompt", "messages", "conversations"),
    "messages": ("conversations",),
    "sharegpt": ("messages",),
}
FIELDS = sorted({name for names in (*WANTED.values(), *OPTIONAL.values()) for name in names})
FEW = 0.05
"""The share of rows in another format up to which they count as broken rows rather than as a mixed file."""


@dataclass(frozen=True)
class Data:
    """Examples of one kind, the format they were in, and what was found while reading them."""

    examples: list[Example]
    format: str
    name: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """Return what its examples are."""
        return KINDS[self.format]

    def __len__(self) -> int:
        return len(self.examples)


def convert(table: Table, format: str = "auto", columns: Mapping[str, str] | None = None) -> Data:  # noqa: A002
    """Turn the table's rows into Examples; rows that lack what the format needs become findings.

    `columns`: a field of the format -> the column it stands in. An Alpaca `input` is the end of the question, after
    a blank line or in the section that a prompt format has for it.
    """
    table = _renamed(table, columns or {})
    if format not in ("auto", *KINDS):
        raise UnknownNameError("format", format, ["auto", *KINDS])
    if not table.rows:
        chosen = "text" if format == "auto" else format
        return Data([], chosen, table.name, list(table.faults))
    chosen = detect(table) if format == "auto" else format
    if format != "auto":
        _check_columns(table, format)
    examples, faults = _examples(table, chosen)
    return Data(examples, chosen, table.name, [*table.faults, *faults, *_unused(table, chosen)])


def check_method(data: Data, method: str) -> None:
    """Refuse data that a way of training cannot learn from, with what to do instead."""
    if method not in METHODS:
        raise UnknownNameError("way of training", method, METHODS)
    wanted = METHODS[method]
    if data.kind in wanted.kinds:
        return
    other = next(name for name, way in METHODS.items() if data.kind in way.kinds)
    if method == "cpt":
        hint = f"Train it with {other}, or write each text into a column named text."
    elif data.kind == "rated":
        hint = f"Train it with {other}; --format messages reads good and bad answers alike, where there are messages."
    else:
        hint = f"Train it with {other}, or give {' or '.join(f for f, k in KINDS.items() if k in wanted.kinds)} data."
    raise ConfigError(
        f"{method} learns from {wanted.wants}, and {data.name} holds {data.kind} rows ({data.format}).", hint
    )


def detect(table: Table) -> str:
    """Return the format of most rows. Several at once, or none, is a ConfigError that names the columns."""
    matched = Counter(name for row in table.rows if (name := _format_of(row)))
    if not matched:
        raise _unknown(table)
    (best, count), *others = matched.most_common()
    for other, times in others:
        if times > FEW * len(table.rows):
            raise ConfigError(
                f"{table.name} mixes formats: {many(count)} of {best}, {many(times)} of {other}.",
                "Keep one format a file, or name the one to read with --format.",
            )
    if best == "koalpaca" and any("input" in row for row in table.rows):
        return "alpaca"
    return best


def _format_of(row: Row) -> str | None:
    """Return the one format of a row. Whole pairs, then turns, win over a `text` column, which often repeats them."""
    have = {name for name, value in row.items() if value is not None}
    if {"chosen", "rejected"} <= have and ("prompt" in have or not isinstance(turned(row["chosen"]), str)):
        return "preference"
    if "label" in row and (row["label"] is None or rating(row["label"]) is not None) and _is_rated(row, have):
        return "kto"
    found = [_turns_format(row[name]) for name in ("messages", "conversations") if name in have]
    found = [name for name in found if name]
    if {"instruction", "output"} <= set(row) and "instruction" in have:
        found.append("koalpaca")
    if len(set(found)) > 1:
        return None
    return found[0] if found else "text" if isinstance(row.get("text"), str) else None


def _is_rated(row: Row, have: set[str]) -> bool:
    """Return whether a row with a label holds the answer that it could be about."""
    turns = any(_turns_format(row[name]) for name in ("messages", "conversations") if name in have)
    return {"prompt", "completion"} <= have or (turns and row["label"] is not None)


def _turns_format(value: Any) -> str | None:
    turns = turned(value)
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
        return None
    keys = set(turns[0])
    return "messages" if {"role", "content"} <= keys else "sharegpt" if {"from", "value"} <= keys else None


def _unknown(table: Table) -> ConfigError:
    columns = table.columns
    near = []
    for name in FIELDS:
        if name not in columns:
            match = get_close_matches(name, [column.strip().lower() for column in columns], n=1, cutoff=0.75)
            near += [f"--column {name}={c}" for c in columns if match and c.strip().lower() == match[0]]
    wants = "; ".join(f"{name}: {', '.join(_columns_of(name))}" for name in KINDS)
    both = [name for name in ("instruction", "messages", "conversations") if name in columns]
    if len(both) > 1:
        hint = f"Several formats would fit ({', '.join(both)}): name one with --format."
    else:
        hint = f"Did you mean {' '.join(near)}?" if near else "Say which column is which: --column instruction=…"
    return ConfigError(
        f"{table.name} is in no known format; its columns are {', '.join(columns) or 'none'}.",
        f"{hint} Known: {wants}.",
    )


def _columns_of(name: str) -> list[str]:
    """Return a format's columns as people read them."""
    return [
        *WANTED[name],
        *(f"({extra})" for extra in OPTIONAL.get(name, ()) if name in ("alpaca", "preference", "kto")),
    ]


def _renamed(table: Table, columns: Mapping[str, str]) -> Table:
    if not columns:
        return table
    for wanted, actual in columns.items():
        if wanted not in FIELDS:
            raise UnknownNameError("field of a format", wanted, FIELDS, "Write --column FIELD=COLUMN.")
        if table.rows and actual not in table.columns:
            raise UnknownNameError(f"column in {table.name}", actual, table.columns)
    taken = set(columns.values())
    rows = [
        {name: value for name, value in row.items() if name not in taken and name not in columns}
        | {wanted: row[actual] for wanted, actual in columns.items() if actual in row}
        for row in table.rows
    ]
    return Table(rows, table.numbers, table.name, table.faults)


def _check_columns(table: Table, name: str) -> None:
    """Refuse a named format whose columns no row has: that is a mistake about the whole file."""
    columns = table.columns
    spare = [other for other in OPTIONAL.get(name, ()) if other in ("messages", "conversations")]
    missing = [wanted for wanted in WANTED[name] if not {wanted, *(spare if wanted != "label" else ())} & set(columns)]
    if missing:
        near = get_close_matches(missing[0], columns, n=1, cutoff=0.6)
        column = near[0] if near else "…"
        raise ConfigError(
            f"{table.name} has no column {', '.join(missing)}, which {name} needs; it has {', '.join(columns)}.",
            f"Say which column it is: --column {missing[0]}={column}, or take another --format.",
        )


def _examples(table: Table, name: str) -> tuple[list[Example], list[Finding]]:
    examples: list[Example] = []
    wrong: dict[RowFault, list[int]] = defaultdict(list)
    reader = READERS[name]
    for number, row in zip(table.numbers, table.rows, strict=True):
        try:
            examples.append(reader(number, row))
        except Unfit as unfit:
            wrong[unfit.fault].append(number)
    return examples, [
        Finding("unreadable", "fatal", tuple(rows), fault.message, fault.remedy, True) for fault, rows in wrong.items()
    ]


def _unused(table: Table, name: str) -> Iterable[Finding]:
    used = {*WANTED[name], *OPTIONAL.get(name, ())}
    spare = [column for column in table.columns if column not in used]
    if spare:
        said = ", ".join(spare[:6]) + (" …" if len(spare) > 6 else "")
        yield Finding("unused", "note", (), f"columns that {name} does not read: {said}", "Nothing to do.")
