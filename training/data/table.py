"""Rows as they stand in a file, before anyone asks what they mean."""

from dataclasses import dataclass, field
from typing import Any

from training.data.findings import Finding

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows, and their `numbers`: the line in JSONL, CSV and text files, counted from 1 elsewhere and in folders.

    `faults` are about rows that could not be read, and about files that are not UTF-8.
    """

    rows: list[Row]
    numbers: list[int]
    name: str
    faults: list[Finding] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Every column of any row, in the order in which they first appear."""
        return list(dict.fromkeys(name for row in self.rows for name in row))
