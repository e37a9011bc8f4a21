"""What a format leaves out of its rows, and what it reads otherwise than it stands: as findings. Reads no row."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from training.data.cells import Cells
from training.data.examples import Example
from training.data.findings import Finding, Severity, many
from training.data.names import NAMES, field_of, option, plain

PLAIN = re.compile(
    r"(.*[_.])?(ids?|idx|index|uuid|guid|hash|md5|url|uri|link|source|src|dataset|date|time|timestamp|created|updated|"
    r"lang|language|license|licence|model|generator|author|user|split|category|tags?|topic|title|subset|file|path|name|"
    r"filename|tokens|length|num_\w+|\w+_count|metadata|meta|level|turn|round|order|position|strict|parallel_tool_calls)"
)
"""Names of columns that say something about a row and nothing that it teaches."""
REMEDIES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"images?|image_url|audios?|videos?|pictures?|files?"), "Leave these rows out: text alone is trained."),
    (
        re.compile(r"labels?|kto_tag|ratings?"),
        "Where it rates answers, train KTO: --format kto, with prompt, completion and label.",
    ),
    (re.compile(r"weights?|loss|train|scores?|reward|quality"), "Leave out the rows that should not count."),
    (re.compile(r"(tool|function)s?|(tool|function)_calls?|tool_call_id"), "Leave out the rows that need it."),
    (re.compile(r"system\w*|history|input|context"), "Name a --format that reads it, or write it into the text."),
    (
        re.compile(r"train\w*_detail|content\.(weight|loss|train\w*)|refusal|prefix|suffix|need_eos_token"),
        "Leave out the rows that need it.",
    ),
)
"""Names that carry meaning (in full, in lower case) and that no --column helps, and the remedy."""
COLUMN = re.compile(r"--column ('[^']+'|[^\s,]+)")
LOOK = "Write it into a column that is read, or leave it where it teaches nothing."
PROSE, WORDS, SHOWN = 60, 7, 12
"""Characters and words from which on a text is more than a tag; the columns of no known name that are listed."""


@dataclass
class Column:
    """A column, or a turn's key, that some rows hold and none of them had read."""

    rows: list[int] = field(default_factory=list)
    prose: bool = False
    repeats: bool = True
    flags: bool = True


class Leftovers:
    """Gathers, row by row, what was not read. `known`: the columns that the format could read."""

    def __init__(self, name: str, known: Iterable[str], total: int) -> None:
        self.format, self.total = name, total
        self.known = set(known)
        self.columns: dict[tuple[str, bool], Column] = {}
        self.remarks: dict[str, tuple[list[int], dict[str, None]]] = {}

    def add(self, example: Example, row: Cells) -> None:
        """Take what is left of a row."""
        for name, value in row.unread.items():
            self._add(name, value, example, inner=False)
        for name, value in row.turns:
            self._add(name, value, example, inner=True)
        for check, what in row.remarks:
            rows, said = self.remarks.setdefault(check, ([], {}))
            rows += [example.row] if rows[-1:] != [example.row] else []
            if len(said) < 3:
                said[what] = None

    def _add(self, name: str, value: Any, example: Example, inner: bool) -> None:
        column = self.columns.setdefault((name, inner), Column())
        column.rows += [example.row] if column.rows[-1:] != [example.row] else []
        column.prose = column.prose or _is_prose(value)
        column.repeats = column.repeats and _repeats(value, example)
        column.flags = column.flags and _is_flag(value, inner)

    def findings(self) -> Iterator[Finding]:
        """Yield what is left out, what may carry meaning as warnings, and how values were read."""
        prose, tags = list[str](), list[str]()
        for (name, inner), column in self.columns.items():
            remedy = None if column.repeats else self._remedy(name, inner)
            if remedy is None and column.flags and not PLAIN.fullmatch(plain(name)):
                remedy = self._learnt(name, inner)
            said = f"{name}{' in turns' if inner else ''} ({len(column.rows) / max(1, self.total):.1%} of the rows)"
            if remedy is not None:
                yield self._left_out(said, remedy, column.rows)
            elif column.prose and not column.repeats and not PLAIN.fullmatch(plain(name)):
                prose.append(said)
            else:
                tags.append(f"{said}, which repeats the row" if column.repeats else said)
        if prose:
            yield self._left_out(_listed(prose), LOOK)
        if tags:
            what, remedy = _listed(tags), "Nothing to do for ids, tags and what repeats the row."
            yield Finding("unused", "note", (), f"{self.format} does not read {what}", remedy, about=_bare(what))
        for check, (rows, examples) in self.remarks.items():
            severity, what, remedy = REMARKS[check]
            said = ", ".join(examples)
            what = f"{many(len(rows))} {what}".format(said)
            yield Finding(check, severity, tuple(rows), what, remedy, about=said)

    def _learnt(self, name: str, inner: bool) -> str:
        """Return how what may say whose answers are right or learnt would be read."""
        if inner:
            return "Where 0 or false marks turns that are not to be learnt, name it weight; else leave it."
        if "weight" not in self.known:
            return "Leave out the rows that should not count."
        return (
            f"Where false marks rows that are not to be learnt, read it with {option('weight', name)}; else leave it."
        )

    def _left_out(self, said: str, remedy: str, rows: Iterable[int] = ()) -> Finding:
        what = f"{self.format} does not read {said}: it is left out"
        column = COLUMN.search(remedy)
        about = f"{_bare(said)} {column[0]}" if column else _bare(said)
        return Finding("left-out", "warning", tuple(rows), what, remedy, about=about)

    def _remedy(self, name: str, inner: bool) -> str | None:
        """Return what to do about a name that carries meaning; None where it is not known to."""
        meant = field_of(name)
        if meant == "reasoning_content" and (inner or meant not in self.known):
            return f"Name it {meant}, in the turn whose answer it stands before."
        if inner:
            return _known_remedy(name)
        if name in self.known:
            return "Leave it out: another column of the same meaning was read in its place."
        wanted = meant if meant in self.known else plain(name) if plain(name) in self.known else None
        if wanted and wanted != name:
            return f"Read it with {option(wanted, name)}, or leave it where it teaches nothing."
        return _known_remedy(name)


def _known_remedy(name: str) -> str | None:
    found = next((remedy for names, remedy in REMEDIES if names.fullmatch(plain(name))), None)
    return found or (LOOK if field_of(name) or plain(name) in NAMES else None)


REMARKS: Mapping[str, tuple[Severity, str, str]] = {
    "not-text": (
        *("note", "with a number or truth value where a text is meant, read as it is written: {}"),
        "Nothing to do where that is right; 3.0 may be a 3 that another program wrote.",
    ),
    "empty-cells": (
        *("warning", "in which another program's word for an empty cell is read as empty ({})"),
        "Empty these cells in the source; where the word is meant, write a sentence.",
    ),
    "weights": (
        *("warning", "with a weight other than 0 and 1 ({}): below 0 it is not learnt, else it counts as 1"),
        "Write 0 or 1; a row that should count twice may stand twice.",
    ),
    "learnt-questions": (
        *("note", "with a turn marked to be learnt that is no answer ({})"),
        "Nothing to do where that is meant: it is learnt, but in pairs and rated rows, of which answers alone are.",
    ),
    "null-arguments": (
        *("warning", "with calls of tools that give null as an argument ({}): they are trained to say it"),
        "Write arguments as JSON text where they were left out: tables fill them with null.",
    ),
    "two-system-prompts": (
        *("warning", "whose own system turn differs from the column system: the turn counts, the column is left out"),
        "Leave one of them.",
    ),
    "prompt-as-question": (
        *("note", "whose prompt and completion are texts: asked as a question in the model's prompt format"),
        "Nothing to do for questions; a text that goes on belongs into one column, text.",
    ),
}
"""What was read otherwise than it stands -> how bad that is, how it is said, and the remedy."""


def _is_flag(value: Any, inner: bool) -> bool:
    """Return whether a value says yes or no, or in a turn how much."""
    number = inner and isinstance(value, int | float) and 0 <= value <= 1
    return number or isinstance(value, bool) or str(value).strip().lower() in ("true", "false")


def _is_prose(value: Any) -> bool:
    """Return whether a value is more than a tag or a number."""
    return (
        len(value) >= PROSE or value.count(" ") >= WORDS if isinstance(value, str) else isinstance(value, list | dict)
    )


def _repeats(value: Any, example: Example) -> bool:
    """Return whether a text is one of the row's own, or holds all of them, as Alpaca's `text` does."""
    if not isinstance(value, str):
        return False
    written = [text.strip() for text in example.written if text.strip()]
    return value.strip() in written or all(text in value for text in written)


def _bare(said: str) -> str:
    return said.replace(" of the rows", "").replace(", which repeats the row", "")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
