"""One file's rows: JSON, JSONL, CSV, TSV, Parquet or text, gzipped or not, with the line of each.

A text file holds one text a paragraph: blank lines part them. A `.json` file may be an array, an object that holds one
list (or one list a split), or JSON lines under the wrong name.
"""

import csv
import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from playground.errors import ConfigError
from training.data.encodings import CLEAN, ESCAPED, LEGACY, MIXED, encoding_of, open_text
from training.data.examples import Row, Table
from training.data.findings import Finding

KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
LARGEST_FIELD = 2**31 - 1
NOT_UTF8 = "not UTF-8"
REMEDY = "Correct these lines, or let --fix leave them out."
Numbered = Iterator[tuple[int, Row | str]]
"""Line or place, and the row; or what is wrong with it."""


def kind(path: Path) -> str:
    """Return the suffix that says how a file is read, without `.gz`; empty where none of KINDS."""
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    readable = suffix in KINDS and not (suffix == ".parquet" and name.endswith(".gz"))
    return suffix if readable else ""


def read(path: Path, split: str = "train", limit: int | None = None) -> Table:
    """Read the rows of one file; broken ones become findings, and a file that is none of its kind a ConfigError."""
    if not kind(path):
        raise ConfigError(
            f"{path} is no data file: {path.suffix or 'a name without a suffix'} is not read.",
            f"Save it as one of {', '.join(KINDS)}; the text ones may be gzipped.",
        )
    rows: list[Row] = []
    numbers: list[int] = []
    wrong: dict[str, list[int]] = defaultdict(list)
    with _explained(path):
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
        return _parquet(path)
    if suffix in (".json", ".jsonl"):
        return _lines(path, encoding) if _is_lined(path, encoding) else _json(path, encoding, split)
    return _paragraphs(path, encoding) if suffix == ".txt" else _csv(path, encoding, suffix)


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


def _is_lined(path: Path, encoding: str) -> bool:
    """Return whether it is JSON lines, whatever its name says: a first line that is an object, and more after it."""
    with open_text(path, encoding) as file:
        first, second = [*islice((line for line in file if line.strip()), 2), "", ""][:2]
    if kind(path) == ".jsonl":
        return not first.lstrip("\ufeff \t").startswith("[")
    return bool(second) and isinstance(_parsed(first), dict)


def _parsed(text: str) -> Any:
    """Return a JSON value, or a str that says why the text is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return f"not valid JSON ({error.msg})"
    except (ValueError, RecursionError) as error:
        return f"not valid JSON ({error})"


def _lines(path: Path, encoding: str) -> Numbered:
    with open_text(path, encoding) as file:
        for number, line in enumerate(file, start=1):
            if encoding == MIXED and ESCAPED.search(line):
                yield number, NOT_UTF8
            elif line.strip():
                yield number, _row(_parsed(line))


def _row(value: Any) -> Row | str:
    if isinstance(value, dict):
        return value
    return value if isinstance(value, str) and value.startswith("not valid") else "not a JSON object"


def _json(path: Path, encoding: str, split: str) -> Numbered:
    with open_text(path, encoding) as file:
        text = file.read().lstrip("\ufeff")
    if not text.strip():
        return
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}).",
            "Correct it there. One object a line is JSONL: give the file that suffix.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}.", "Save it as one list of objects.") from error
    for number, row in enumerate(_list(content, path, split), start=1):
        broken = encoding == MIXED and ESCAPED.search(json.dumps(row, ensure_ascii=False))
        yield number, NOT_UTF8 if broken else _row(row)


def _list(content: Any, path: Path, split: str) -> list[Any]:
    """Return the rows in a JSON document: itself, its only list, or the list of that split."""
    if isinstance(content, list):
        return content
    named = content if isinstance(content, dict) else {}
    lists = {name: value for name, value in named.items() if isinstance(value, list)}
    if set(lists) & {"messages", "conversations"}:
        return [content]  # a single row
    if split in lists or len(lists) == 1:
        return lists.get(split) or next(iter(lists.values()))
    said = f"an object with the lists {', '.join(lists)}" if lists else f"{_article(content)} and no list of rows"
    raise ConfigError(f"{path} holds {said}.", "Save it as one list of objects, or as JSONL.")


def _article(content: Any) -> str:
    names = {dict: "an object", str: "a string", int: "a number", float: "a number", bool: "a truth value"}
    return names.get(type(content), "nothing")


def _csv(path: Path, encoding: str, suffix: str) -> Numbered:
    csv.field_size_limit(LARGEST_FIELD)
    with open_text(path, encoding, newline="") as file:
        first = file.readline().lstrip("\ufeff")
        file.seek(0)
        lines = csv.reader(file, delimiter=_delimiter(first, suffix), strict=True)
        header = [name.lstrip("\ufeff").strip() for name in next(lines, [])]
        _check_header(path, header)
        begins = lines.line_num + 1
        while (fields := _record(lines)) is not None:
            if fields:
                yield begins, _fields(header, fields, encoding)
            begins = lines.line_num + 1


def _delimiter(header: str, suffix: str) -> str:
    """Return the tab of a .tsv; a .csv may use semicolons or tabs, as spreadsheets of some countries do."""
    return "\t" if suffix == ".tsv" else max(",;\t", key=header.count)


def _check_header(path: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ConfigError(f"{path} has the column {twice[0]!r} twice.", "Rename one of them in the first line.")


def _record(lines: Any) -> list[str] | str | None:
    """Return the next record, what is wrong with it, or None at the end."""
    try:
        fields: list[str] | None = next(lines, None)
    except csv.Error as error:
        return f"not valid CSV ({error}); a quote may stay open in or above it"
    return fields


def _fields(header: list[str], fields: list[str] | str, encoding: str) -> Row | str:
    if isinstance(fields, str):
        return fields
    if encoding == MIXED and ESCAPED.search("".join(fields)):
        return NOT_UTF8
    if len(fields) != len(header):
        return f"{len(fields)} columns where the header has {len(header)}"
    return dict(zip(header, fields, strict=True))


def _paragraphs(path: Path, encoding: str) -> Numbered:
    lines: list[str] = []
    begins = 0
    with open_text(path, encoding) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                begins = begins if lines else number
                lines.append(line.rstrip("\n"))
            elif lines:
                yield begins, _paragraph(lines, encoding)
                lines = []
    if lines:
        yield begins, _paragraph(lines, encoding)


def _paragraph(lines: list[str], encoding: str) -> Row | str:
    text = "\n".join(lines).lstrip("\ufeff")
    return NOT_UTF8 if encoding == MIXED and ESCAPED.search(text) else {"text": text}


def _parquet(path: Path) -> Numbered:
    import pandas

    try:
        frame = pandas.read_parquet(path, dtype_backend="pyarrow")
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise
        said = str(error).splitlines()[0]
        raise ConfigError(f"{path} is not a whole Parquet file: {said}", "Copy or download it again.") from error
    names = [str(name) for name in frame.columns]
    cells = ([None if cell is pandas.NA else cell for cell in frame[name].array] for name in frame.columns)
    for number, row in enumerate(zip(*cells, strict=True), start=1):
        yield number, dict(zip(names, row, strict=True))
