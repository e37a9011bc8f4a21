"""The report on training data as a person reads it in a terminal."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from playground.cli.context import say
from training.data.findings import Finding, listed
from training.data.lengths import Lengths
from training.data.report import Preview, Report

UNLIKELIER = ("bad", "rejected")
STYLES = {"fatal": "bold red", "warning": "yellow", "note": "dim"}
BAR = 40
SHOWN = 1200
"""Characters of the first rendered row."""


def show(report: Report, model: str, fixed: dict[str, Any] | None) -> None:
    """Print all of it: format, findings, lengths, the first row, and what `--fix` did."""
    console = Console()
    say(console, f"{report.data.name}: {len(report.data):,} rows, {report.data.format} ({report.data.kind})", "bold")
    if report.findings:
        console.print(findings(report.findings))
    else:
        say(console, "Nothing is wrong with it.", "green")
    if report.lengths is not None:
        say(console, f"\nTokens a row, for {model}", "bold")
        for line in lengths(report.lengths):
            say(console, line)
    if report.previews:
        say(console, f"\n{title(report.previews[0])}", "bold")
        console.print(preview(report.previews[0]), soft_wrap=True)
    if fixed:
        done = ", ".join(f"{check} {count:,}" for check, count in fixed["done"].items()) or "nothing to do"
        say(console, f"\nWritten as UTF-8: {fixed['file']}, {fixed['rows']:,} rows ({done})", "bold")


def findings(found: list[Finding]) -> Table:
    """Return the worst first: how bad, what, which rows, and the remedy."""
    table = Table(show_lines=False, expand=False)
    for heading in ("", "Found", "Rows", "Remedy"):
        table.add_column(heading, overflow="fold")
    for finding in found:
        cells = (finding.severity, finding.message, listed(finding.rows) or "whole file", finding.remedy)
        table.add_row(*(Text(cell) for cell in cells), style=STYLES[finding.severity])
    return table


def lengths(measured: Lengths) -> Iterator[str]:
    """Return the statistics in two lines, then one bar per bin."""
    p95, p99 = (round(measured.percentile(percent)) for percent in (95, 99))
    yield (
        f"mean {measured.mean:,.0f} · median {measured.median:,.0f} · 95% {p95:,} · 99% {p99:,} · "
        f"longest {measured.maximum:,} · all rows {measured.total:,}"
    )
    share = measured.share_over(measured.recommended)
    yield f"Recommended maximum: {measured.recommended:,} ({share:.1%} of the rows are longer)"
    edges, counts = measured.histogram()
    most, first = max(counts), next(place for place, count in enumerate(counts) if count)
    for start, end, count in list(zip(edges, edges[1:], counts, strict=False))[first:]:
        yield f"{start:>8,} - {end:<8,} {'█' * -(-count * BAR // most)} {count:,}"


def title(shown: Preview) -> str:
    """Say which row it is, and what its colour means."""
    if shown.said in UNLIKELIER:
        return f"Row {shown.row} ({shown.said}) as the model sees it; what becomes less likely is red"
    said, means = (f" ({shown.said})", "becomes likelier") if shown.said else ("", "is learnt")
    return f"Row {shown.row}{said} as the model sees it; what {means} is green"


def preview(shown: Preview) -> Text:
    """Return a rendered row, its learnt parts in green, or in red where they become less likely; long ones are cut."""
    text = Text()
    for part, learnt in shown.parts:
        text.append(part, ("red" if shown.said in UNLIKELIER else "green") if learnt else "dim")
    if len(text) > SHOWN:
        text.truncate(SHOWN)
        text.append(" …")
    return text
