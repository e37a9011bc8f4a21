"""Rows of JSON: one object a line, or a document that is a list of them, holds one, or has its columns as lists.

A document is cut into its rows before any is parsed, so that a broken or giant one is a finding and the whole is never
held as text and as objects at once.
"""

import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from playground.errors import ConfigError
from training.data.columns import MOST_COLUMNS, NOT_UTF8, Numbered, composed_row, header
from training.data.encodings import CLEAN, ESCAPED, LONGEST, MIXED, TOO_LONG, composed, lines, open_bytes, open_text
from training.data.examples import Row

TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[][{}]', re.DOTALL)
ONE_LIST = re.compile(rb'\s*\{\s*"([^"\\]*)"\s*:\s*(?=\[)')
NO_OBJECTS = re.compile(rb'\s*\[\s*(["\[\w-])')
TURNS = ("messages", "conversations")
MOST_BYTES, MOST_KEYS, MOST_PARTS = 4 * LONGEST, 50 * MOST_COLUMNS, 2 * LONGEST


class Endless(ValueError):
    """Raised for a row, by its number, that is too long and has so many parts that finding its end takes minutes."""


class Twice(ValueError):
    """Raised for an object that names one key twice with values that differ: parsers keep the last without a word."""


def rows(path: Path, encoding: str, split: str, listed: bool) -> Numbered:
    """Yield the rows of a file; `listed`: its name says JSON lines, which a document may bear as well."""
    return _lines(path, encoding) if _is_lined(path, encoding, listed) else _document(path, encoding, split)


def _is_lined(path: Path, encoding: str, listed: bool) -> bool:
    """Return whether it is JSON lines, whatever its name says: a first line that is an object, and more after it."""
    with open_text(path, encoding) as file:
        said = (line for line in lines(file) if line is None or line.strip())
        first, second = [*islice(said, 2), "", ""][:2]
    if listed:
        return first is None or not first.lstrip("\ufeff \t").startswith("[")
    return second != "" and first is not None and isinstance(_row(first), dict)


def _lines(path: Path, encoding: str) -> Numbered:
    with open_text(path, encoding) as file:
        for number, line in enumerate(lines(file), start=1):
            if line is None:
                yield number, TOO_LONG
            elif line.strip():
                yield number, _row(line, encoding)


def _row(text: str, encoding: str = CLEAN) -> Row | str:
    if encoding == MIXED and ESCAPED.search(text):
        return NOT_UTF8
    if text.count('":') > MOST_KEYS:  # parsed, each is some hundred bytes
        return f"with more than {MOST_KEYS:,} keys"
    try:
        return _checked(json.loads(text, object_pairs_hook=_object))
    except (ValueError, RecursionError) as error:
        return _said(error)


def _checked(value: Any) -> Row | str:
    """Return a row, or what keeps a value from being one."""
    if not isinstance(value, dict):
        return "not a JSON object"
    return f"with more than {MOST_COLUMNS:,} columns" if len(value) > MOST_COLUMNS else value


def _said(error: ValueError | RecursionError) -> str:
    """Say what is wrong with the text of a row."""
    if isinstance(error, Twice):
        return str(error)
    known = {RecursionError: "nested too deeply", json.JSONDecodeError: getattr(error, "msg", "")}
    return f"not valid JSON ({known.get(type(error), error)})"


def _object(pairs: list[tuple[str, Any]]) -> Row:
    """Return an object with its names composed; one that stands twice must say the same both times."""
    found = composed_row(dict(pairs))
    if len(found) < len(pairs):
        for name, value in pairs:
            if repr(found[composed(name)]) != repr(value):  # true equals 1 in Python
                raise Twice(f"{composed(name)!r} stands twice in one object")
    return found


def _document(path: Path, encoding: str, split: str) -> Numbered:
    raw = _bytes(path, encoding)
    if first := NO_OBJECTS.match(raw):
        raise ConfigError(
            f"{path} is a list of {_kind(first[1])}, and rows are objects.", 'Write each as {"text": …}, for example.'
        )
    try:
        spans = _spans(raw)
    except Endless as error:
        raise ConfigError(
            f"{path}, row {error}: {TOO_LONG}, in too many parts to look for its end.",
            "Take it out, or save the rows as JSONL, which is read line by line.",
        ) from error
    if spans is None:
        yield from _whole(path, raw, encoding, split)
        return
    errors = "surrogateescape" if encoding == MIXED else "strict"
    for number, (begin, end) in enumerate(spans, start=1):
        row = TOO_LONG if end - begin > MOST_BYTES else _row(raw[begin:end].decode("utf-8", errors), encoding)
        if isinstance(row, str) and row.startswith("not valid JSON"):
            _content(path, raw, encoding)  # which says where
        yield number, row


def _bytes(path: Path, encoding: str) -> bytes:
    """Return a document as UTF-8."""
    if encoding in (CLEAN, MIXED):
        with open_bytes(path) as file:
            return file.read().removeprefix(b"\xef\xbb\xbf")
    with open_text(path, encoding) as text:
        return text.read().lstrip("\ufeff").encode()


def _spans(raw: bytes) -> list[tuple[int, int]] | None:
    """Return where the objects of a document's only list begin and end; None where it is anything else, or broken."""
    named = ONE_LIST.match(raw)
    if named and named[1].decode(errors="replace") in TURNS:
        return None  # a single row
    found: list[tuple[int, int]] = []
    depth, begin, last = 0, 0, named.end() if named else len(raw) - len(raw.lstrip())
    if raw[last : last + 1] != b"[":
        return None
    last, first = last + 1, 0
    for count, token in enumerate(TOKEN.finditer(raw, last)):
        mark = raw[token.start() : token.start() + 1]
        if depth == 0 and (
            mark in b'["' or raw[last : token.start()].strip() != (b"," if found and mark == b"{" else b"")
        ):
            return None
        if depth == 0 and mark == b"{":
            begin, first = token.start(), count
        if count - first > MOST_PARTS and token.start() - begin > MOST_BYTES:
            raise Endless(f"{len(found) + 1:,}")
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(mark, 0)
        if depth == 0 and mark != b'"':
            last = token.end()
            found.append((begin, last))
        if depth < 0:
            return found if raw[token.end() :].strip() == (b"}" if named else b"") else None
    return None


def _whole(path: Path, raw: bytes, encoding: str, split: str) -> Numbered:
    """Yield the rows of a document that cannot be cut into them before it is parsed."""
    if not raw.strip():
        return
    if len(raw) > MOST_BYTES and any(token.end() - token.start() > MOST_BYTES for token in TOKEN.finditer(raw)):
        raise ConfigError(f"{path} holds a text that is {TOO_LONG}.", "Save it as one list of objects, a text each.")
    for number, row in enumerate(_list(_content(path, raw, encoding), path, split), start=1):
        broken = encoding == MIXED and ESCAPED.search(json.dumps(row, ensure_ascii=False))
        yield number, NOT_UTF8 if broken else _checked(row)


def _content(path: Path, raw: bytes, encoding: str) -> Any:
    """Return what a whole document holds; ConfigError says where it is broken."""
    text = raw.decode("utf-8", "surrogateescape" if encoding == MIXED else "strict")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}).",
            "Correct it there. One object a line is JSONL: give the file that suffix.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {_said(error)}.", "Save it as one list of objects, each key once.") from error


def _list(content: Any, path: Path, split: str) -> Sequence[Any]:
    """Return the rows in a document: itself, its only list, the list of that split, or its columns side by side."""
    if isinstance(content, list):
        return content
    named = content if isinstance(content, dict) else {}
    if rows := _table(named, path):
        return rows
    lists = {name: value for name, value in named.items() if isinstance(value, list)}
    if any(not isinstance(first, list) for name in TURNS for first in lists.get(name, [])[:1]):
        return [content]  # a single row
    of_objects = [name for name, value in lists.items() if value and isinstance(value[0], dict)]
    if split in lists and (split in of_objects or not lists[split]):
        return lists[split]
    if len(of_objects) == len(lists) == 1:
        return lists[of_objects[0]]
    if columns := {} if of_objects else lists or _by_index(named):
        return _side_by_side(columns, path)
    said = f"an object with the lists {', '.join(lists)}" if lists else f"{_article(content)} and no list of rows"
    raise ConfigError(f"{path} holds {said}.", "Save it as one list of objects, or as JSONL.")


def _table(content: dict[str, Any], path: Path) -> list[Row]:
    """Return the rows of a table whose names stand apart from its cells, as pandas writes it; none where it is none."""
    names, cells = content.get("columns"), content.get("data")
    if not (isinstance(names, list) and isinstance(cells, list) and content.keys() <= {"columns", "index", "data"}):
        return []
    if not all(isinstance(row, list) and len(row) == len(names) for row in cells):
        return []
    named = header(path, names)
    return [dict(zip(named, row, strict=True)) for row in cells]


def _by_index(content: dict[str, Any]) -> dict[str, list[Any]]:
    """Return columns that have each cell by its row's number, as pandas writes them; none where that is not so."""
    cells = [value for value in content.values() if isinstance(value, dict)]
    if not cells or len(cells) < len(content) or not all(name.isdecimal() for cell in cells for name in cell):
        return {}
    return {name: [value[key] for key in sorted(value, key=int)] for name, value in content.items()}


def _side_by_side(columns: dict[str, list[Any]], path: Path) -> list[Row]:
    """Return the rows of columns that a document has as lists."""
    sizes = {len(column) for column in columns.values()}
    if len(sizes) > 1:
        said = ", ".join(f"{name} {len(column):,}" for name, column in columns.items())
        raise ConfigError(
            f"{path} has its columns as lists, of unlike length: {said}.", "Save it as a list of objects."
        )
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _kind(first: bytes) -> str:
    """Return what values are that begin with this byte."""
    return {b'"': "texts", b"[": "lists"}.get(first, "numbers or the like")


def _article(content: Any) -> str:
    names = {dict: "an object", str: "a string", int: "a number", float: "a number", bool: "a truth value"}
    return names.get(type(content), "nothing")
