"""Parsers of server-sent events and of JSON lines, from bytes to the data of each event."""

import re
from collections.abc import Iterator

LONGEST_LINE = 2**20
LINE_END = re.compile(rb"\r\n|\n|\r")


class TooLong(Exception):  # noqa: N818 - a signal, not an error
    """A line, or the data of one event, is longer than any honest one."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit


class Events:
    """Takes bytes as they come and gives the data of each complete event; other fields are not used by this API."""

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self._limit = limit
        self._rest = b""
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
        text = self._rest + part
        if not self._begun and len(text) >= 3:
            self._begun, text = True, text.removeprefix(b"\xef\xbb\xbf")
        begin = 0
        for found in LINE_END.finditer(text):
            if found.group() == b"\r" and found.end() == len(text):
                break  # its line feed may be on the way
            yield text[begin : found.start()]
            begin = found.end()
        self._rest = text[begin:]
        if len(self._rest) > self._limit:
            raise TooLong(self._limit)


class Lines(Events):
    """The same of a stream that has a JSON object in every line (application/x-ndjson)."""

    def feed(self, part: bytes) -> Iterator[str]:
        """Yield the lines that this part completes, empty ones left out. Raises TooLong."""
        yield from (line.decode(errors="replace") for line in self._lines(part) if line.strip())
