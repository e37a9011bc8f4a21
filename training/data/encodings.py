"""The encoding of a file, found from its bytes, and the file as text in it; gzipped files are opened as they are."""

import gzip
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, cast

from training.data.broken import HANGUL

CLEAN, MIXED = "utf-8-sig", "utf-8"
"""UTF-8 throughout, with or without a mark; and UTF-8 with bytes in it that are none."""
LEGACY = {"utf-16": "UTF-16", "cp949": "CP949"}


def encoding_of(path: Path) -> str:
    """How the file's bytes become text: UTF-8, else UTF-16 or CP949 where the whole file is that, else MIXED."""
    with _open_bytes(path) as file:
        if file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE):
            return "utf-16"
    if _decodes(path, "utf-8"):
        return CLEAN
    return "cp949" if _decodes(path, "cp949", wanted=HANGUL.search) else MIXED


def _decodes(path: Path, encoding: str, wanted: Callable[[str], object] = lambda text: True) -> bool:
    """Whether all bytes are of that encoding, and some of the text is as wanted."""
    decoder, seen = getincrementaldecoder(encoding)(), False
    try:
        with _open_bytes(path) as file:
            for part in iter(partial(file.read, 1 << 20), b""):
                text = decoder.decode(part)
                seen = seen or bool(wanted(text))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return seen or encoding == "utf-8"


def _open_bytes(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def open_text(path: Path, encoding: str, newline: str | None = None) -> IO[str]:
    """The file as text; bytes that are not of its encoding come as characters that ESCAPED finds."""
    errors = "surrogateescape" if encoding == MIXED else "strict"
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding=encoding, errors=errors, newline=newline)
    return path.open(encoding=encoding, errors=errors, newline=newline)
