"""Encodings: how a file's bytes become text, and texts that were read in a wrong one, repaired where that is certain.

A repair is certain where the text goes back to bytes that are valid in the encoding they must have come from.
"""

import gzip
import re
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE, getincrementaldecoder
from collections.abc import Callable, Iterator
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import IO, BinaryIO, cast

CLEAN, MIXED = "utf-8-sig", "utf-8"
"""UTF-8 throughout, with or without a mark; and UTF-8 with bytes in it that are none."""
LEGACY = {"utf-16": "UTF-16", "utf-32": "UTF-32", "cp949": "CP949"}
MARKS = {BOM_UTF32_LE: "utf-32", BOM_UTF32_BE: "utf-32", BOM_UTF16_LE: "utf-16", BOM_UTF16_BE: "utf-16"}
"""What a file begins with that says its encoding; UTF-32's first, whose mark begins as UTF-16's."""
UNMARKED = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
LEGACY |= {name: f"{name[:6].upper()} without a byte order mark" for name in UNMARKED}
SAMPLE = 1 << 16
LONGEST = 1_000_000
"""Characters of a row at most, as it stands in the file: more than any context holds, and seconds of work for each."""
TOO_LONG = f"longer than {LONGEST:,} characters: more than any context holds"
GZIP = b"\x1f\x8b"
HANGUL = re.compile(r"[가-힣]")
USUAL = re.compile(r"[\t\n\r -~가-힣]")
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
    """Return how the file's bytes become text: UTF-8, else UTF-16, UTF-32 or CP949 if the whole is that, else MIXED."""
    with open_bytes(path) as file:
        sample = file.read(SAMPLE)
    if found := next((name for mark, name in MARKS.items() if sample.startswith(mark)), _unmarked(sample)):
        return found
    if _decodes(path, "utf-8"):
        return CLEAN
    return "cp949" if _decodes(path, "cp949", wanted=HANGUL.search) else MIXED


def _unmarked(sample: bytes) -> str:
    """Return in which of UNMARKED nearly all is ASCII or Hangul; empty without NUL bytes, which all four have."""
    whole = sample[: len(sample) // 4 * 4] if len(sample) == SAMPLE else sample
    for name in UNMARKED if b"\0" in sample else ():
        text = whole.decode(name, "replace")
        if len(USUAL.findall(text)) > 0.8 * len(text):
            return name
    return ""


def _decodes(path: Path, encoding: str, wanted: Callable[[str], object] = lambda text: True) -> bool:
    """Return whether all bytes are of that encoding, and some of the text is as wanted."""
    decoder, seen = getincrementaldecoder(encoding)(), False
    try:
        with open_bytes(path) as file:
            for part in iter(partial(file.read, 1 << 20), b""):
                text = decoder.decode(part)
                seen = seen or bool(wanted(text))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return seen or encoding == "utf-8"


def open_bytes(path: Path) -> IO[bytes]:
    """Open the file, unpacked where its first bytes say gzip, whatever its name says."""
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def open_text(path: Path, encoding: str, newline: str | None = None) -> IO[str]:
    """Open the file as text; bytes that are not of its encoding come as characters that ESCAPED finds."""
    errors = "surrogateescape" if encoding == MIXED else "strict"
    return TextIOWrapper(cast(BinaryIO, open_bytes(path)), encoding, errors, newline)


def lines(file: IO[str], most: int = LONGEST) -> Iterator[str | None]:
    """Yield the lines of a text; None for one of more than `most` characters, which is never held whole."""
    while line := file.readline(most + 1):
        long = len(line) > most
        yield None if long else line
        while long and line and not line.endswith(("\n", "\r")):
            line = file.readline(LONGEST)


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
