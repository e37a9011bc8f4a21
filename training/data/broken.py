"""Texts that went through the wrong encoding, and what they were: found, and repaired where a round trip proves it."""

import re
import unicodedata

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


def unmangled(text: str) -> str:
    """The text with what was read in the wrong encoding read in the right one; other parts stay as they are."""
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
    """The text in NFC where it holds Hangul in parts; as it is elsewhere."""
    return unicodedata.normalize("NFC", text) if JAMO.search(text) else text


def mended(text: str) -> str:
    """What `--fix` makes of a text: read rightly, composed, without control characters and halves of characters."""
    return SURROGATES.sub("", CONTROLS.sub("", composed(unmangled(text))))
