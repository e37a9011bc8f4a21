"""One file's rows: JSON, JSONL, CSV, TSV, Parquet or text, gzipped or not, with the line of each.

A text file holds one text a paragraph: blank lines part them. A `.json` file may be an array, an object that holds one
list (or one list a split), or JSON lines under the wrong name.
"""

import gzip
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from playground.errors import ConfigError
from playground.system.paths import refuse_special
from training.data import csv_rows, json_rows, parquet_rows
from training.data.columns import NOT_UTF8, Numbered
from training.data.encodings import (
    CLEAN,
    ESCAPED,
    LEGACY,
    LONGEST,
    MIXED,
    TOO_LONG,
    composed,
    encoding_of,
    lines,
    open_text,
)
from training.data.examples import Row, Table
from training.data.findings import Finding
from training.data.sniffing import refuse_foreign

KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
MARKS = {".tsv": "\t"}
"""What parts the fields of a kind; a .csv may use semicolons or tabs, as spreadsheets of some countries do."""
REMEDY = "Correct these lines, or let --fix leave them out."


def kind(path: Path) -> str:
    """Return the suffix that says how a file is read, without `.gz`; empty where none of KINDS."""
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    readable = suffix in KINDS and not (suffix == ".parquet" and name.endswith(".gz"))
    return suffix if readable else ""


def read(path: Path, split: str = "train", limit: int | None = None) -> Table:
    """Read the rows of one file; broken ones become findings, and a file that is none of its kind a ConfigError."""
    refuse_special(path)
    if not kind(path):
        raise ConfigError(
            f"{path} is no data file: {path.suffix or 'a name without a suffix'} is not read.",
            f"Save it as one of {', '.join(KINDS)}; the text ones may be gzipped.",
        )
    rows: list[Row] = []
    numbers: list[int] = []
    wrong: dict[str, list[int]] = defaultdict(list)
    with _explained(path):
        refuse_foreign(path, kind(path))
        encoding = encoding_of(path) if kind(path) != ".parquet" else CLEAN
        for number, row in _rows(path, encoding, split):
            if limit is not None and len(rows) >= limit:
                break
            if isinstance(row, str):
                wrong[row].append(number)
            else:
                rows.append(row)
                numbers.append(number)
    faults = [Finding("unreadable", "fatal", tuple(lines), what, REMEDY, True) for what, lines in wrong.items()]
    return Table(rows, numbers, str(path), [*_about_encoding(path, encoding), *faults])


def _about_encoding(path: Path, encoding: str) -> list[Finding]:
    if encoding not in LEGACY:
        return []
    name = LEGACY[encoding]
    remedy = f"It is read as {name}, but other programs may not: save it as UTF-8, or let --fix write UTF-8."
    return [Finding("file-encoding", "warning", (), f"{path.name} reads as {name}, not UTF-8", remedy, True)]


def _rows(path: Path, encoding: str, split: str) -> Numbered:
    suffix = kind(path)
    if suffix == ".parquet":
        return parquet_rows.rows(path)
    if suffix in (".json", ".jsonl"):
        return json_rows.rows(path, encoding, composed(split), listed=suffix == ".jsonl")
    return _paragraphs(path, encoding) if suffix == ".txt" else csv_rows.rows(path, encoding, MARKS.get(suffix, ""))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigError(f"{path} is broken or cut short: {error}.", "Copy or download the file again.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not {error.encoding.upper()} throughout: {error.reason}.", "Save it again as UTF-8."
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "It must be a file you may read.") from error


def _paragraphs(path: Path, encoding: str) -> Numbered:
    said: list[str] = []
    begins = size = 0
    with open_text(path, encoding) as file:
        for number, line in enumerate(chain(lines(file), [""]), start=1):
            if line is None or line.strip():
                begins = begins if size else number
                size += LONGEST + 1 if line is None else len(line)
                if size > LONGEST:
                    said.clear()
                else:
                    said.append(str(line).rstrip("\n"))
            elif size:
                yield begins, f"{TOO_LONG}; blank lines part texts" if size > LONGEST else _paragraph(said, encoding)
                said, size = [], 0


def _paragraph(said: list[str], encoding: str) -> Row | str:
    text = "\n".join(said).lstrip("\ufeff")
    return NOT_UTF8 if encoding == MIXED and ESCAPED.search(text) else {"text": text}
