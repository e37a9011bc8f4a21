"""Parsers of server-sent events and of JSON lines, from bytes to the data of each event, and of the JSON in it."""

import json
import re
from collections.abc import Iterator
from typing import Any

from playground.escape import HALVES

LONGEST_LINE = 2**20
LINE_END = re.compile(rb"\r\n|\n|\r")
BOM = b"\xef\xbb\xbf"


def read_json(text: str) -> Any:
    """Return what JSON says, halves of signs in its texts replaced; raises ValueError for all that is no JSON."""
    try:
        found = json.loads(text)
        return _whole(found) if "\\ud" in text or "\\uD" in text else found
    except RecursionError as error:
        raise ValueError("nested without end") from error


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {_whole(name): _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return value.translate(HALVES) if isinstance(value, str) else value


class TooLong(Exception):  # noqa: N818 - a signal, not an error
    """A line, or the data of one event, is longer than any honest one."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit


class Events:
    """Takes bytes as they come and gives the data of each complete event; other fields are not used by this API."""

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self._limit = limit
        self._line: list[bytes] = []
        """Parts of the line that is under way: each part is searched once, however small they come."""
        self._length = 0
        self._rest = b""
        """A line's end of which more may come, or a part of the mark that some streams begin with."""
        self._data: list[str] = []
        self._size = 0
        self._begun = False

    def feed(self, part: bytes) -> Iterator[str]:
        """Yield the data of events that this part completes. Raises TooLong."""
        for line in self._lines(part):
            if not line:
                if self._data:
                    yield self._taken()
                continue
            name, _, value = line.partition(b":")
            if name != b"data":
                continue  # a comment, or a field that nobody needs
            self._size += len(line)
            if self._size > self._limit:
                raise TooLong(self._limit)
            self._data.append(value.removeprefix(b" ").decode(errors="replace"))

    def end(self) -> str | None:
        """Return the last event at the end of the stream: some servers leave out its blank line, or the line's end."""
        return next(self.feed(b"\n"), None) or (self._taken() if self._data else None)

    def _taken(self) -> str:
        data, self._data, self._size = "\n".join(self._data), [], 0
        return data

    def _lines(self, part: bytes) -> Iterator[bytes]:
        text, self._rest = self._rest + part, b""
        if not self._begun and len(text) < len(BOM) and BOM.startswith(text):
            self._rest = text
            return
        text, self._begun = text if self._begun else text.removeprefix(BOM), True
        if text.endswith(b"\r"):  # its line feed may be on the way
            text, self._rest = text[:-1], b"\r"
        begin = 0
        for found in LINE_END.finditer(text):
            yield b"".join([*self._line, text[begin : found.start()]])
            self._line, self._length, begin = [], 0, found.end()
        self._line.append(text[begin:])
        self._length += len(text) - begin
        if self._length > self._limit:
            raise TooLong(self._limit)


class Lines(Events):
    """The same of a stream that has a JSON object in every line (application/x-ndjson)."""

    def feed(self, part: bytes) -> Iterator[str]:
        """Yield the lines that this part completes, empty ones left out. Raises TooLong."""
        yield from (line.decode(errors="replace") for line in self._lines(part) if line.strip())
