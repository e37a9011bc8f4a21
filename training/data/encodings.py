"""Encodings: how a file's bytes become text, and texts that were read in a wrong one, repaired where that is certain.

A repair is certain where the text goes back to bytes that are valid in the encoding they must have come from.
"""

import gzip
import re
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, cast

CLEAN, MIXED = "utf-8-sig", "utf-8"
"""UTF-8 throughout, with or without a mark; and UTF-8 with bytes in it that are none."""
LEGACY = {"utf-16": "UTF-16", "cp949": "CP949"}
HANGUL = re.compile(r"[가-힣]")
ESCAPED = re.compile(r"[\udc80-\udcff]")
"""Bytes that Python could not decode, as `surrogateescape` brings them."""
SURROGATES = re.compile(r"[\ud800-\udfff]")
REPLACED = re.compile("\ufffd")
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
JAMO = re.compile(r"[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]")

SUSPECT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xff\u1100-\u11ff\ua960-\ua97f\ud7b0-\udfff\ufffd]")
"""Any character without which a text needs no closer look."""

_WINDOWS = {bytes([byte]).decode("cp1252", "ignore"): byte for byte in range(0x80, 0xA0)}
_WINDOWS.pop("")  # five bytes mean nothing in CP1252: programs keep them as control characters
_BYTES = {chr(byte): byte for byte in range(0x80, 0x100)} | _WINDOWS
_NEXT = "[\x80-\xbf" + "".join(map(re.escape, _WINDOWS)) + "]"
UTF8_AS_LATIN = re.compile(f"(?:[\xc2\xc3]{_NEXT}|[\xe0-\xef]{_NEXT}{{2}}|[\xf0-\xf4]{_NEXT}{{3}})+")
"""UTF-8 read as Latin-1 or CP1252: `ì•ˆë…•`. Two-byte letters count where they are Latin-1's own."""
CP949_AS_LATIN = re.compile("(?:[\xb0-\xc8][\xa1-\xfe]){2,}")
"""CP949 read as Latin-1: `¾È³ç`. Two syllables or more, which no European word looks like."""


def encoding_of(path: Path) -> str:
    """Return how the file's bytes become text: UTF-8, else UTF-16 or CP949 where the whole file is that, else MIXED."""
    with _open_bytes(path) as file:
        if file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE):
            return "utf-16"
    if _decodes(path, "utf-8"):
        return CLEAN
    return "cp949" if _decodes(path, "cp949", wanted=HANGUL.search) else MIXED


def _decodes(path: Path, encoding: str, wanted: Callable[[str], object] = lambda text: True) -> bool:
    """Return whether all bytes are of that encoding, and some of the text is as wanted."""
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
    """Open the file as text; bytes that are not of its encoding come as characters that ESCAPED finds."""
    errors = "surrogateescape" if encoding == MIXED else "strict"
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding=encoding, errors=errors, newline=newline)
    return path.open(encoding=encoding, errors=errors, newline=newline)


def unmangled(text: str) -> str:
    """Return the text with what was read in the wrong encoding read in the right one; other parts stay."""
    text = UTF8_AS_LATIN.sub(_from_utf8, text)
    return CP949_AS_LATIN.sub(_from_cp949, text)


def _from_utf8(found: re.Match[str]) -> str:
    try:
        return bytes(_BYTES[char] for char in found[0]).decode("utf-8")
    except UnicodeDecodeError:
        return found[0]


def _from_cp949(found: re.Match[str]) -> str:
    try:
        return found[0].encode("latin-1").decode("cp949")
    except UnicodeDecodeError:
        return found[0]


def composed(text: str) -> str:
    """Return the text in NFC where it holds Hangul in parts; as it is elsewhere."""
    return unicodedata.normalize("NFC", text) if JAMO.search(text) else text


def mended(text: str) -> str:
    """Return what `--fix` makes of a text: read rightly, composed, without control and half characters."""
    return SURROGATES.sub("", CONTROLS.sub("", composed(unmangled(text))))
