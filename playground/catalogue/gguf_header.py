"""The header of a GGUF file: its fields and how long the file must be. Reads no weights and trusts no length in it.

Format: github.com/ggml-org/ggml, docs/gguf.md. What an array holds is passed over: of a model's fields those are its
vocabulary, up to a million texts, and nobody here asks for them.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from playground.errors import VariantError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
LONGEST = 100 * 2**20
"""Bytes of header that are read at most; the largest vocabularies take some twenty million."""
LONGEST_TEXT = 2**20
AGAIN = "Download or export it again."
MOST_SIDES = 4
TEXT, ARRAY = 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
LENGTH = struct.Struct("<Q")
TYPES = {
    **{0: (1, 4), 1: (1, 2), 30: (1, 2), 28: (1, 8), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8)},
    **{2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 20: (32, 18), 39: (32, 17)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 21: (256, 110), 22: (256, 82), 23: (256, 136)},
    **{29: (256, 56), 34: (256, 54), 35: (256, 66), 40: (64, 36), 41: (128, 18), 42: (64, 18)},
}
"""Weights and bytes of a block of each of ggml's types; of one that is not here the place alone is checked."""
OTHERS = {
    b"algg": "it is a LoRA adapter in a form that llama.cpp gave up",
    b"tjgg": "it is a model in the form that came before GGUF",
    b"fmgg": "it is a model in the form that came before GGUF",
    b"lmgg": "it is a model in the form that came before GGUF",
    b"PK\3\4": "it is a ZIP file, as PyTorch writes",
    b"vers": "it is a pointer of Git LFS, not the file itself: `git lfs pull` brings that",
    b"<!do": "it is a web page, not the file itself",
    b"<!DO": "it is a web page, not the file itself",
    b"<htm": "it is a web page, not the file itself",
}
"""What files are that begin so, where people take them for GGUF."""


@dataclass(frozen=True)
class Header:
    """What a GGUF says of itself. `fields`: no arrays in it. `size`: bytes that the file must have at least."""

    fields: Mapping[str, Any]
    tensors: int
    size: int

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
            raise VariantError(f"{path} is no file.", "Check `source` (and `file`) in the catalogue: `madang models`.")
        return _read(path, found.st_size, found.st_mtime_ns)
    except FileNotFoundError as error:
        hint = "Check `source` (and `file`) in the catalogue: `madang models`."
        raise VariantError(f"{path} does not exist.", hint) from error
    except OSError as error:
        raise VariantError(f"{path} cannot be read: {error.strerror}.", "It must be a file you may read.") from error


@lru_cache(maxsize=64)
def _read(path: Path, size: int, changed: int) -> Header:
    with path.open("rb") as file:
        _check_start(path, file.read(24))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            try:
                return _header(_Cursor(view, min(size, LONGEST)))
            except (struct.error, ValueError, LookupError) as error:
                raise VariantError(f"{path} is cut short or damaged inside its header.", AGAIN) from error


def _check_start(path: Path, start: bytes) -> None:
    if start[:4] != MAGIC:
        kind = OTHERS.get(start[:4], f"it begins with {start[:4]!r}")
        raise VariantError(f"{path} is no GGUF file: {kind}.", AGAIN)
    if len(start) < 24:
        raise VariantError(f"{path} is cut short after {len(start)} bytes.", AGAIN)
    version = int.from_bytes(start[4:8], "little")
    if version not in VERSIONS:
        big = int.from_bytes(start[4:8], "big") in VERSIONS
        raise VariantError(
            f"{path} is a GGUF {'for big-endian machines' if big else f'of version {version}'}.",
            f"Versions {' and '.join(map(str, VERSIONS))}, little-endian, are read; export it again.",
        )


class _Cursor:
    """A place in a header. Every step is held against the header's longest length, so that none can run away."""

    def __init__(self, view: mmap.mmap, limit: int) -> None:
        self.view, self.limit, self.at = view, limit, 8

    def step(self, size: int) -> int:
        """Go on by so many bytes and return where they begin."""
        begin, self.at = self.at, self.at + size
        if self.at > self.limit:
            raise ValueError(f"the header ends at {self.limit}")
        return begin

    def number(self, form: str) -> Any:
        """Read one number, or one true or false."""
        return struct.unpack_from(form, self.view, self.step(struct.calcsize(form)))[0]

    def text(self) -> str:
        """Read one text; one longer than a megabyte is passed over."""
        size = self.number("<Q")
        begin = self.step(size)
        return self.view[begin : begin + size].decode(errors="replace") if size <= LONGEST_TEXT else ""

    def value(self, kind: int) -> Any:
        """Read one value; of an array, pass over it and return None."""
        if kind == TEXT:
            return self.text()
        return self.array(1) if kind == ARRAY else self.number(SCALARS[kind])

    def array(self, depth: int) -> None:
        """Pass over an array, which may hold arrays."""
        kind, count = self.number("<I"), self.number("<Q")
        if kind == TEXT:
            self.texts(count)
        elif kind != ARRAY:
            self.step(struct.calcsize(SCALARS[kind]) * count)
        elif depth > 3 or count > self.limit:
            raise ValueError("arrays in arrays without end")
        else:
            for _ in range(count):
                self.array(depth + 1)

    def texts(self, count: int) -> None:
        """Pass over texts, as fast as Python can: there are hundreds of thousands."""
        at, limit, view, length = self.at, self.limit - 8, self.view, LENGTH.unpack_from
        for _ in range(count):
            if at > limit:
                raise ValueError("texts go on past the header's end")
            at += 8 + length(view, at)[0]
        self.at = at
        self.step(0)


def _header(cursor: _Cursor) -> Header:
    tensors, count = cursor.number("<Q"), cursor.number("<Q")
    fields: dict[str, Any] = {}
    for _ in range(count):
        key, kind = cursor.text(), cursor.number("<I")
        value = cursor.value(kind)
        if kind != ARRAY:
            fields[key] = value
    ends = [_end(cursor) for _ in range(tensors)]
    alignment = fields.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0:
        raise ValueError(alignment)
    begin = -(-cursor.at // alignment) * alignment
    return Header(fields, tensors, begin + max(ends) if ends else cursor.at)


def _end(cursor: _Cursor) -> int:
    """Return where a tensor's bytes end, counted from where the weights begin."""
    cursor.text()
    sides = cursor.number("<I")
    if sides > MOST_SIDES:
        raise ValueError(sides)
    weights: int = prod(cursor.number("<Q") for _ in range(sides))
    block, size = TYPES.get(cursor.number("<I"), (1, 0))
    begin: int = cursor.number("<Q")
    return begin + weights // block * size
