"""The report on training data that the terminal, the Train tab and a run's start show. Decides nothing."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

from training.data.checks import check
from training.data.encoder import Encoder
from training.data.examples import Example, Table
from training.data.faults import usable
from training.data.findings import Finding
from training.data.formats import Data
from training.data.lengths import Lengths, measure, render
from training.data.tokenizing import Text

PREVIEWS = 3
SAMPLE = 60
"""Characters of a cell that tell which column it is."""


@dataclass(frozen=True)
class Preview:
    """A rendered row, as parts that are learnt (True) and parts that are not.

    `said`: how its answer is rated (good, bad), or which one of a pair it is (chosen, rejected).
    """

    row: int
    parts: tuple[tuple[str, bool], ...]
    said: str = ""


@dataclass(frozen=True)
class Report:
    """The data, what is wrong with it, how long its rows are, and what the first ones look like to the model."""

    data: Data
    findings: list[Finding]
    lengths: Lengths | None = None
    previews: tuple[Preview, ...] = ()

    @property
    def fatal(self) -> bool:
        """Return whether training would refuse it."""
        return any(finding.severity == "fatal" for finding in self.findings)


def inspect(
    data: Data,
    encoder: Encoder | None = None,
    max_length: int | None = None,
    benchmark: Iterable[tuple[str, str]] | None = None,
) -> Report:
    """Measure and check; without an encoder there are neither lengths nor previews."""
    if encoder is None or not any(usable(example) and not encoder.lacks(example) for example in data.examples):
        return Report(data, check(data, encoder, benchmark=benchmark))
    lengths = measure(data, encoder)
    findings = check(data, encoder, max_length, lengths, benchmark)
    return Report(data, findings, lengths, previews(data, encoder, lengths))


def previews(data: Data, encoder: Encoder, lengths: Lengths) -> tuple[Preview, ...]:
    """Render the first rows."""
    first = set(dict.fromkeys(lengths.rows[: 2 * PREVIEWS].tolist()))
    rendered = [
        Preview(example.row, _parts(text), said)
        for example in data.examples
        if example.row in first
        for said, text in zip(_said(example), render(encoder, example), strict=False)
    ]
    return tuple(rendered[:PREVIEWS])


def _said(example: Example) -> Iterable[str]:
    """Return what each rendered row of an example is held to be."""
    if example.kind == "preference":
        return ("chosen", "rejected")
    return repeat({True: "good", False: "bad", None: ""}[example.good])


def _parts(text: Text) -> tuple[tuple[str, bool], ...]:
    parts, at = [], 0
    for start, end in text.learnt:
        parts += [(text.text[at:start], False), (text.text[start:end], True)]
        at = end
    return tuple(part for part in [*parts, (text.text[at:], False)] if part[0])


def samples(table: Table) -> dict[str, str]:
    """Return the columns of a table, each with the beginning of its first cell that holds anything."""
    cells = {column: next((row[column] for row in table.rows if row.get(column)), "") for column in table.columns}
    return {column: str(cell)[:SAMPLE] for column, cell in cells.items()}


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as one JSON object."""
    return {
        "name": report.data.name,
        "format": report.data.format,
        "kind": report.data.kind,
        "rows": len(report.data),
        "fatal": report.fatal,
        "findings": [asdict(finding) | {"count": finding.count} for finding in report.findings],
        "lengths": _lengths(report.lengths),
        "previews": [
            {
                "row": shown.row,
                "said": shown.said,
                "parts": [{"text": text, "learnt": learnt} for text, learnt in shown.parts],
            }
            for shown in report.previews
        ],
    }


def _lengths(lengths: Lengths | None) -> dict[str, Any] | None:
    if lengths is None:
        return None
    edges, counts = lengths.histogram()
    return {
        "rows": len(lengths.tokens),
        "total": lengths.total,
        "mean": lengths.mean,
        "median": lengths.median,
        "p95": lengths.percentile(95),
        "p99": lengths.percentile(99),
        "maximum": lengths.maximum,
        "recommended": lengths.recommended,
        "context": lengths.context,
        "histogram": {"edges": edges, "counts": counts},
    }
