"""The header of a GGUF file: its fields, its tensors and how long the file must be. Trusts no length in it.

Format: github.com/ggml-org/ggml, docs/gguf.md. Reads no weights. What an array holds is passed over: of a model's
fields those are its vocabulary, up to a million texts, and nobody here asks for them.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from playground.errors import VariantError
from playground.wording import worded

MAGIC = b"GGUF"
VERSIONS = (2, 3)
LONGEST = 100 * 2**20
"""Bytes of header that are read at most; the largest vocabularies take some twenty million."""
FIRST_READ = 4 * 2**20
LONGEST_TEXT = 2**20
MOST_FIELDS, MOST_TENSORS = 2**14, 2**17
"""Beyond these nothing but a damaged count goes: models have some fifty fields and some thousand tensors."""
AGAIN = "gguf_header.again"
MOST_SIDES, LONGEST_NAME = 4, 63
COUNT, TEXT, ARRAY = 4, 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
LENGTH = struct.Struct("<Q")
TYPES = {
    **{0: (1, 4), 1: (1, 2), 30: (1, 2), 28: (1, 8), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8)},
    **{2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 20: (32, 18), 39: (32, 17)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 21: (256, 110), 22: (256, 82), 23: (256, 136)},
    **{29: (256, 56), 34: (256, 54), 35: (256, 66), 40: (64, 36), 41: (128, 18), 42: (64, 18)},
}
"""Weights and bytes of a block of each of ggml's types."""
OTHERS = {
    b"algg": "gguf_header.lora_adapter_form",
    b"tjgg": "gguf_header.model_form_came",
    b"fmgg": "gguf_header.model_form_came",
    b"lmgg": "gguf_header.model_form_came",
    b"PK\3\4": "gguf_header.zip_file_pytorch",
    b"vers": "gguf_header.pointer_git_lfs",
    b"<!do": "gguf_header.web_page_not",
    b"<!DO": "gguf_header.web_page_not",
    b"<htm": "gguf_header.web_page_not",
}
"""What files are that begin so, where people take them for GGUF."""


@dataclass(frozen=True)
class Header:
    """What a GGUF says of itself. `size`: bytes that the file must have at least; its weights begin at `begin`.

    `fields` has no arrays in it: `lists` has their type and length. `shapes` has its tensors, the row's length first.
    """

    fields: Mapping[str, Any]
    lists: Mapping[str, tuple[int, int]]
    shapes: Mapping[str, tuple[int, ...]]
    begin: int
    size: int

    @property
    def tensors(self) -> int:
        """How many tensors it has."""
        return len(self.shapes)

    def text(self, key: str) -> str:
        """Return a field that is a text; empty where it is missing or none."""
        found = self.fields.get(key)
        return found if isinstance(found, str) else ""

    def number(self, key: str) -> int:
        """Return a field that is a whole number; 0 where it is missing or none."""
        found = self.fields.get(key)
        return found if isinstance(found, int) else 0


def read(path: Path) -> Header:
    """Return a file's header; raise VariantError for what is missing, is no GGUF or is damaged inside its header.

    It takes milliseconds (0.1 s for the largest vocabularies), once for each version of a file.
    """
    try:
        found = path.stat()
        if not path.is_file():
            raise VariantError(worded("gguf_header.no_file", path=path))
        return _read(path, found.st_size, found.st_mtime_ns)
    except FileNotFoundError as error:
        hint = worded("gguf_header.not_exist_hint")
        raise VariantError(worded("gguf_header.not_exist", path=path), hint) from error
    except OSError as error:
        raise VariantError(worded("gguf_header.cannot_read", path=path, strerror=error.strerror)) from error


@lru_cache(maxsize=64)
def _read(path: Path, size: int, changed: int) -> Header:
    # Read, not mapped: a file that somebody cuts short meanwhile would end the process that has it mapped.
    with path.open("rb") as file:
        raw = file.read(FIRST_READ)
        _check_start(path, raw[:24])
        limit = min(size, LONGEST)
        while True:
            try:
                return _header(_Cursor(raw, limit))
            except _MoreError:
                more = file.read(min(3 * len(raw), limit - len(raw)))
                if not more:
                    raise VariantError(worded("gguf_header.became_shorter_while", path=path), worded(AGAIN)) from None
                raw += more
            except (struct.error, ValueError) as error:
                raise VariantError(
                    worded("gguf_header.cut_short_damaged", path=path, error=error), worded(AGAIN)
                ) from error


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise VariantError(worded("gguf_header.empty_bytes", path=path), worded(AGAIN))
    if start[:4] != MAGIC:
        known = OTHERS.get(start[:4])
        kind = worded(known) if known else worded("gguf_header.begins_with", start=start[:4])
        raise VariantError(worded("gguf_header.no_gguf_file", path=path, kind=kind), worded(AGAIN))
    if len(start) < 24:
        raise VariantError(worded("gguf_header.cut_short_after", path=path, start_count=len(start)), worded(AGAIN))
    version = int.from_bytes(start[4:8], "little")
    if version not in VERSIONS:
        big = int.from_bytes(start[4:8], "big") in VERSIONS
        raise VariantError(
            worded(
                "gguf_header.gguf",
                path=path,
                big=worded("gguf_header.big_endian") if big else worded("gguf_header.of_version", version=version),
                versions=" and ".join(map(str, VERSIONS)),
            ),
        )


class _MoreError(Exception):
    """The header goes on past what was read of it."""


class _Cursor:
    """A place in a header. Every step is held against the header's longest length, so that none can run away."""

    def __init__(self, raw: bytes, limit: int) -> None:
        self.raw, self.limit, self.at = raw, limit, 8

    def step(self, size: int) -> int:
        """Go on by so many bytes and return where they begin."""
        begin, self.at = self.at, self.at + size
        if self.at > self.limit:
            raise ValueError(f"it goes on past byte {self.limit:,}, where the file or any header ends")
        if self.at > len(self.raw):
            raise _MoreError
        return begin

    def number(self, form: str) -> Any:
        """Read one number, or one true or false."""
        return struct.unpack_from(form, self.raw, self.step(struct.calcsize(form)))[0]

    def text(self) -> str:
        """Read one text; one longer than a megabyte is passed over."""
        size = self.number("<Q")
        begin = self.step(size)
        return self.raw[begin : begin + size].decode(errors="replace") if size <= LONGEST_TEXT else ""

    def scalar(self, kind: int) -> Any:
        """Read one value that is no array."""
        return self.text() if kind == TEXT else self.number(_form(kind))

    def array(self) -> tuple[int, int]:
        """Pass over an array, and return its type and length."""
        kind, count = self.number("<I"), self.number("<Q")
        if kind == TEXT:
            self.texts(count)
        else:
            self.step(struct.calcsize(_form(kind)) * count)
        return kind, count

    def texts(self, count: int) -> None:
        """Pass over texts, as fast as Python can: there are hundreds of thousands."""
        at, end, raw, length = self.at, min(self.limit, len(self.raw)) - 8, self.raw, LENGTH.unpack_from
        for _ in range(count):
            if at > end:
                self.at = at
                self.step(8)  # raises what is the matter
            at += 8 + length(raw, at)[0]
        self.at = at
        self.step(0)


def _form(kind: int) -> str:
    if kind not in SCALARS:
        raise ValueError(f"a field's type is {kind}, which there is not")
    return SCALARS[kind]


def _header(cursor: _Cursor) -> Header:
    tensors, count = cursor.number("<Q"), cursor.number("<Q")
    if count > MOST_FIELDS or tensors > MOST_TENSORS:
        raise ValueError(f"it counts {count:,} fields and {tensors:,} tensors")
    fields, lists = _fields(cursor, count)
    shapes: dict[str, tuple[int, ...]] = {}
    alignment, end = fields.get("general.alignment", 32), 0
    for _ in range(tensors):
        name, shape, kind, begin = _tensor(cursor)
        if name in shapes or len(name.encode()) > LONGEST_NAME:
            raise ValueError(f"the tensor {name[:99]!r} stands twice or has too long a name")
        if begin != end:
            raise ValueError(f"the tensor {name!r} begins at byte {begin:,} of the weights, and {end:,} is its place")
        shapes[name] = shape
        size = _bytes(name, shape, kind)
        last, end = end + size, -(-(end + size) // alignment) * alignment
    begin = -(-cursor.at // alignment) * alignment
    return Header(fields, lists, shapes, begin, begin + last if tensors else cursor.at)


def _fields(cursor: _Cursor, count: int) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    """Read the fields: those that are one value, and the types and lengths of those that are arrays."""
    fields: dict[str, Any] = {}
    lists: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        key, kind = cursor.text(), cursor.number("<I")
        if key in fields or key in lists:
            raise ValueError(f"the field {key[:99]!r} stands twice")
        if kind == ARRAY:
            lists[key] = cursor.array()
        else:
            fields[key] = cursor.scalar(kind)
        if key == "general.alignment" and (kind != COUNT or not _is_power(fields[key])):
            raise ValueError("general.alignment is no power of two as a number of 32 bits")
    return fields, lists


def _is_power(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def _tensor(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Read a tensor's name, sides, type and place."""
    name, sides = cursor.text(), cursor.number("<I")
    if sides > MOST_SIDES:
        raise ValueError(f"the tensor {name[:99]!r} has {sides:,} sides")
    shape = tuple(cursor.number("<Q") for _ in range(sides))
    return name, shape, cursor.number("<I"), cursor.number("<Q")


def _bytes(name: str, shape: tuple[int, ...], kind: int) -> int:
    """Return a tensor's length; ValueError for sides and types that there are not."""
    if kind not in TYPES:
        raise ValueError(f"the tensor {name!r} is of type {kind}, which this llama.cpp does not know")
    weights, (block, size) = prod(shape), TYPES[kind]
    if not 0 < weights < 2**63 or (shape[0] if shape else 1) % block:
        raise ValueError(f"the tensor {name!r} is {' x '.join(map(str, shape))}, which its type {kind} cannot be")
    return weights // block * size
