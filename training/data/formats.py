"""Which of the known formats a table is in, and its rows as Examples. Judges no content: checks.py does.

FORMATS lists them: a conversation may have its system prompt, and a question its history, in a column of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from playground.errors import ConfigError, UnknownNameError
from training.data.calls import schemas
from training.data.cells import Cells, RowFault, Unfit, blank, parsed
from training.data.encodings import composed
from training.data.examples import Example, Row, Table, Turn
from training.data.findings import Finding, many
from training.data.leftovers import Leftovers
from training.data.names import meant, option, other_names, suggested
from training.data.rows import READERS, SPOKEN, rating
from training.data.turns import PAIRS, turned
from training.methods import METHODS, Kind


class Format(NamedTuple):
    """What a format's rows become, the columns that it needs (of several, any one) and those that it may have."""

    kind: Kind
    needs: tuple[tuple[str, ...], ...]
    may: tuple[str, ...] = ()


TOOLS = ("tools", "functions")
BESIDE = ("system", "system_prompt", "history", "reasoning_content", "weight", *TOOLS)
SPOKEN_BESIDE = ("system", "system_prompt", "history", "weight", *TOOLS)
ASKED = (("prompt", *SPOKEN, "instruction", "question"),)
FORMATS = {
    "alpaca": Format("conversation", (("instruction",), ("output",)), ("input", *BESIDE)),
    "koalpaca": Format("conversation", (("instruction",), ("output",)), BESIDE),
    "sharegpt": Format("conversation", (("conversations", *SPOKEN),), SPOKEN_BESIDE),
    "messages": Format("conversation", (SPOKEN,), SPOKEN_BESIDE),
    "prompt-completion": Format("conversation", (("prompt",), ("completion",)), BESIDE),
    "orca": Format("conversation", (("question",), ("response",)), BESIDE),
    "xtuner": Format("conversation", (("conversation",),), SPOKEN_BESIDE),
    "preference": Format(
        "preference", (("chosen",), ("rejected",)), (*ASKED[0], "input", "system", "system_prompt", "history", *TOOLS)
    ),
    "kto": Format("rated", (("completion", "output", "response", *SPOKEN), ("label", "kto_tag")), (*ASKED[0], *BESIDE)),
    "text": Format("text", (("text",),)),
    "prompt": Format("prompt", ASKED, ("input", "system", "system_prompt", "history")),
}
FIELDS = sorted({name for one in FORMATS.values() for name in (*sum(one.needs, ()), *one.may)})
ANSWERS = ("assistant",)
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
        return FORMATS[self.format].kind

    def __len__(self) -> int:
        return len(self.examples)


def convert(
    table: Table,
    format: str = "auto",  # noqa: A002
    columns: Mapping[str, str] | None = None,
    roles: Sequence[str] = ANSWERS,
) -> Data:
    """Turn the table's rows into Examples; rows that lack what the format needs become findings.

    `columns`: a field of the format -> the column it stands in. What no format reads is a finding.
    `roles`: whose turns are learnt, where the data marks none of its own.
    """
    table = _renamed(table, columns or {})
    if format not in ("auto", *FORMATS):
        raise UnknownNameError("format", format, ["auto", *FORMATS])
    if not table.rows:
        chosen = "text" if format == "auto" else format
        return Data([], chosen, table.name, list(table.faults))
    table, chosen, read_as = _found(table, format, columns or {})
    examples, findings = _examples(table, chosen)
    findings = [*read_as, *findings]
    if tuple(roles) != ANSWERS:
        examples = [_learnt_by(example, roles, table.name) for example in examples]
    return Data(examples, chosen, table.name, [*table.faults, *findings])


def _found(table: Table, asked: str, columns: Mapping[str, str]) -> tuple[Table, str, list[Finding]]:
    """Return the table with its columns by their fields, its format, and a note where names were read as others."""
    if asked != "auto":
        _check_columns(table, asked)
        return table, asked, []
    named = {} if columns or any(map(_formats_of, table.rows)) else other_names(table.columns)
    if not named:
        return table, detect(table), []
    try:
        renamed = _renamed(table, named)
        chosen = detect(renamed)
    except ConfigError:
        raise _unknown(table) from None  # which names the columns as the file has them
    about = ", ".join(f"{column} → {field}" for field, column in named.items())
    said = " ".join(option(field, column) for field, column in named.items())
    note = Finding("columns", "note", (), f"Columns read as: {about}", f"If not so, say it: {said}", about=about)
    return renamed, chosen, [note]


def _learnt_by(example: Example, roles: Sequence[str], name: str) -> Example:
    """Give every turn without a mark one by its role."""
    if example.kind != "conversation":
        raise ConfigError(
            f"roles_to_train names turns of conversations, and {name} holds {example.kind} rows.",
            "Leave it out: plain text is learnt whole, and of rated answers and pairs the answers are.",
        )
    marked = (turn if turn.mark is not None else turn._replace(mark=turn.role in roles) for turn in example.turns)
    return replace(example, turns=tuple(marked))


def wanted_format(asked: str, method: str | None) -> str:
    """Return the format to read a file in: prompts, which no file is found to be, where the method wants them."""
    return "prompt" if asked == "auto" and method and METHODS[method].rewarded else asked


def check_method(data: Data, method: str) -> None:
    """Refuse data that a way of training cannot learn from, with what to do instead."""
    wanted = METHODS.get(method)
    if wanted is None:
        raise UnknownNameError("way of training", method, METHODS)
    if data.kind in wanted.kinds:
        return
    other = next(name for name, way in METHODS.items() if data.kind in way.kinds)
    if method == "cpt":
        hint = f"Train it with {other}, or write each text into a column named text."
    elif data.kind == "rated" and method == "sft":
        hint = f"Train it with {other}; --format messages reads good and bad answers alike, where there are messages."
    else:
        formats = [name for name, one in FORMATS.items() if one.kind in wanted.kinds]
        hint = f"Train it with {other}, or give {' or '.join(formats)} data."
        hint += " A label is true for a good answer and false for a bad one." if "rated" in wanted.kinds else ""
    raise ConfigError(
        f"{method} learns from {wanted.wants}, and {data.name} holds {data.kind} rows ({data.format}).", hint
    )


def unpaired(data: Data) -> Data:
    """Return preference pairs as rated answers, two of each row: what was chosen is good. Others stay as they are."""
    if data.kind != "preference":
        return data
    rated = [
        replace(pair, kind="rated", turns=(*pair.turns, Turn("assistant", said)), chosen="", rejected="", good=good)
        for pair in data.examples
        for said, good in ((pair.chosen, True), (pair.rejected, False))
    ]
    return replace(data, examples=rated, format="kto")


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
    if best == "koalpaca" and "input" in table.columns:
        return "alpaca"
    return best


def _format_of(row: Row) -> str | None:
    """Return the one format of a row; None where there is none, or several."""
    found = _formats_of(row)
    return found.pop() if len(found) == 1 else None


def _formats_of(row: Row) -> set[str]:
    """Return the formats that fit a row. Whole pairs, then turns, win over a `text`, which often repeats them."""
    have = {name for name, value in row.items() if value is not None}
    if {"chosen", "rejected"} <= have and (have & set(ASKED[0]) or not isinstance(turned(row["chosen"]), str)):
        return {"preference"}
    turns = [name for column in SPOKEN if column in have and (name := _turns_format(row[column]))]
    if _is_rated(row, have, bool(turns)):
        return {"kto"}
    found = {*turns, *(QUESTIONS[asked] for asked, told in PAIRS if asked in have and told in row)}
    return found or ({"text"} if isinstance(row.get("text"), str) else set())


QUESTIONS = {"instruction": "koalpaca", "question": "orca", "prompt": "prompt-completion"}
"""The column of a question -> the format of its row."""


def _is_rated(row: Row, have: set[str], turns: bool) -> bool:
    """Return whether a row has a label, and the answer that it could be about."""
    label = row.get("label", row.get("kto_tag"))
    if "kto_tag" in have:
        return rating(label) is not None
    if "label" not in row or (not blank(label) and rating(label) is None):
        return False
    return ("prompt" in have and "completion" in row) or (turns and not blank(label))


def _turns_format(value: Any) -> str | None:
    turns = parsed(value)
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
        return None
    keys = turns[0].keys()
    if keys & {"content", "value"} and keys & {"role", "from"}:
        return "messages" if "role" in keys else "sharegpt"
    return "xtuner" if {"input", "output"} <= keys else None


def _unknown(table: Table) -> ConfigError:
    columns = table.columns
    both = next((found for row in table.rows if len(found := _formats_of(row)) > 1), None)
    hint = (
        f"Several formats would fit: name one with --format {'|'.join(sorted(both))}." if both else suggested(columns)
    )
    wants = "; ".join(f"{name}: {', '.join(names[0] for names in one.needs)}" for name, one in FORMATS.items())
    return ConfigError(
        f"{table.name} is in no known format; its columns are {', '.join(columns) or 'none'}.",
        f"{hint} Known: {wants}; beside questions and turns system and history.",
    )


def _renamed(table: Table, columns: Mapping[str, str]) -> Table:
    if not columns:
        return table
    columns = {wanted: composed(actual) for wanted, actual in columns.items()}
    for wanted, actual in columns.items():
        if wanted not in FIELDS:
            raise UnknownNameError("field of a format", wanted, FIELDS, "Write --column FIELD=COLUMN.")
        if table.rows and actual not in table.columns:
            raise UnknownNameError(f"column in {table.name}", actual, table.columns)
    taken = set(columns.values())
    rows = [
        {
            name if name not in columns else f"{name} (before --column)": value
            for name, value in row.items()
            if name not in taken
        }
        | {wanted: row[actual] for wanted, actual in columns.items() if actual in row}
        for row in table.rows
    ]
    return Table(rows, table.numbers, table.name, table.faults)


def _check_columns(table: Table, name: str) -> None:
    """Refuse a named format whose columns no row has: that is a mistake about the whole file."""
    columns = table.columns
    missing = [names[0] for names in FORMATS[name].needs if not set(names) & set(columns)]
    if missing:
        said = " ".join(option(wanted, meant(wanted, columns) or "…") for wanted in missing)
        raise ConfigError(
            f"{table.name} has no column {', '.join(missing)}, which {name} needs; it has {', '.join(columns)}.",
            f"Say which column it is: {said}, or take another --format.",
        )


def _examples(table: Table, name: str) -> tuple[list[Example], list[Finding]]:
    examples: list[Example] = []
    wrong: dict[RowFault, list[int]] = defaultdict(list)
    known = {*sum(FORMATS[name].needs, ()), *FORMATS[name].may}
    if name == "koalpaca" and "input" not in table.columns:
        known.add("input")  # a column of that name would make it alpaca
    left = Leftovers(name, known, len(table.rows))
    for number, row in zip(table.numbers, table.rows, strict=True):
        cells = Cells(row)
        try:
            example = READERS[name](number, cells)
            if example.kind != "text" and any(name in cells.unread for name in TOOLS):
                example = replace(example, tools=schemas(cells.take(*TOOLS), example.turns))
            examples.append(example)
        except Unfit as unfit:
            wrong[unfit.fault].append(number)
        else:
            left.add(examples[-1], cells)
    unreadable = [
        Finding("unreadable", "fatal", tuple(rows), fault.message, fault.remedy, True) for fault, rows in wrong.items()
    ]
    return examples, [*unreadable, *left.findings()]
