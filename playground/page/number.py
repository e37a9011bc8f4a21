"""How times and sizes are written for people."""

from playground.escape import Markup
from playground.page.words import bilingual
from playground.system.hardware import GIB, MIB
from playground.wording import Language

UNITS: dict[Language, tuple[str, str, str]] = {"ko": ("시간", "분", "초"), "en": (" h", " min", " s")}


def duration(seconds: float) -> Markup:
    """Return a time as people say it, in both languages: its two largest units."""
    return bilingual(lambda language: _duration(seconds, *UNITS[language]))


def _duration(seconds: float, hour: str, minute: str, second: str) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}{hour} {minutes}{minute}"
    return f"{minutes}{minute} {rest}{second}" if minutes else f"{rest}{second}"


def size(count: int) -> str:
    """Return bytes of memory or of a download, by powers of 1024."""
    return f"{count / GIB:.1f} GB" if count >= GIB else f"{count / MIB:.0f} MB"


def disk_size(count: float) -> str:
    """Return bytes of a file, by powers of 1000, as lm-eval's readers know them from the Hub."""
    for unit, step, digits in (("GB", 1e9, 2), ("MB", 1e6, 0)):
        if count >= step:
            return f"{count / step:.{digits}f} {unit}"
    return f"{count / 1e3:.0f} kB"
