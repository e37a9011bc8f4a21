"""Rows of CSV and TSV, with the habits of spreadsheets: `sep=`, semicolons, columns and rows of nothing at the end."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from playground.errors import ConfigError
from training.data.columns import NOT_UTF8, Numbered, header
from training.data.encodings import ESCAPED, LONGEST, MIXED, TOO_LONG, lines, open_text
from training.data.examples import Row

MARKS = ",;\t"
LONGEST_LINE = 4 * LONGEST
"""More than a field may have, so that a header of too many columns is told from a field without an end."""


def rows(path: Path, encoding: str, mark: str = "") -> Numbered:
    """Yield the records below the header with the line that each begins in. `mark` parts fields; found where empty."""
    with open_text(path, encoding, newline="") as file:
        above, mark = _begin(path, file, mark)
        reader = csv.reader(_lines(path, file), delimiter=mark, strict=True)
        csv.field_size_limit(LONGEST)
        names = header(path, _record(path, reader, above) or [])
        begins = above + reader.line_num + 1
        while (fields := _record(path, reader, above)) is not None:
            if isinstance(fields, str) or len(fields) == 1 or any(map(str.strip, fields)):
                yield begins, _fields(names, fields, encoding)
            begins = above + reader.line_num + 1


def _begin(path: Path, file: IO[str], mark: str) -> tuple[int, str]:
    """Leave the file at its header; return how many lines stand above it, and what parts its fields."""
    for above, line in enumerate(_lines(path, file)):
        said = line.strip("\ufeff\r\n")
        if said[:4].lower() == "sep=" and len(said) == 5:
            return above + 1, said[4]
        if said.strip(MARKS + " "):
            file.seek(0)
            for _ in range(above):
                file.readline()
            return above, mark or max(MARKS, key=said.count)
    return 0, ","


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    for number, line in enumerate(lines(file, LONGEST_LINE), start=1):
        if line is None:
            raise _endless(path, number)
        yield line


def _endless(path: Path, number: int) -> ConfigError:
    return ConfigError(
        f"{path}, line {number}: a field is {TOO_LONG}.",
        "A quote that stays open takes in all that follows: close it, or part the text into rows.",
    )


def _record(path: Path, reader: Any, above: int) -> list[str] | str | None:
    """Return the next record, what is wrong with it, or None at the end."""
    begins = above + reader.line_num + 1
    try:
        fields: list[str] | None = next(reader, None)
    except csv.Error as error:
        if "field limit" in str(error):
            raise _endless(path, begins) from error
        return f"not valid CSV ({error}); a quote may stay open in or above it"
    return fields


def _fields(names: list[str], fields: list[str] | str, encoding: str) -> Row | str:
    """Return a record as a row; text in a column without a name has the name of its place."""
    if isinstance(fields, str):
        return fields
    if encoding == MIXED and ESCAPED.search("".join(fields)):
        return NOT_UTF8
    if len(fields) < len(names) or any(field.strip() for field in fields[len(names) :]):
        return f"{len(fields)} columns where the header has {len(names)}"
    named = enumerate(zip(names, fields, strict=False), start=1)
    return {name or f"column {place}": field for place, (name, field) in named if name or field.strip()}
