"""What a look at the data finds: which rows, how bad it is, and the remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["fatal", "warning", "note"]
SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One kind of fault and every row that has it. fatal: training cannot use these rows, and refuses the file.

    `rows` is empty where it concerns the whole file. `fix`: whether `--fix` repairs these rows or leaves them out.
    `about`: names or values out of the data that the message tells, for pages in other languages.
    """

    check: str
    severity: Severity
    rows: tuple[int, ...]
    message: str
    remedy: str
    fix: bool = False
    about: str = ""

    @property
    def count(self) -> int:
        """Return how many rows have it."""
        return len(self.rows)


def listed(rows: Iterable[int]) -> str:
    """Write row numbers as people read them: the first few, and how many more there are."""
    rows = list(rows)
    more = f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return ", ".join(map(str, rows[:SHOWN])) + more


def many(count: int, what: str = "row") -> str:
    """Write `1 row`, `2,000 rows`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def fatal(findings: Iterable[Finding]) -> str:
    """Return what keeps training from using the file, as an error says it; empty where nothing does."""
    found = [finding for finding in findings if finding.severity == "fatal"]
    return "; ".join(f"{f.message} ({listed(f.rows)})" if f.rows else f.message for f in found)
