"""Paths as people give them: what they name on this disk, and whether that is a file at all."""

import stat
import unicodedata
from pathlib import Path

from playground.errors import ConfigError, MadangError
from playground.wording import worded

SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def refuse_special(path: Path, kind: type[MadangError] = ConfigError) -> None:
    """Refuse a pipe, a device or a socket: what comes out of one comes once, or without end."""
    what = SPECIAL.get(stat.S_IFMT(path.stat().st_mode)) if path.exists() else None
    if what:
        raise kind(worded("paths.no_file", path=path, what=what), worded("paths.no_file_hint"))


def as_stored(path: Path) -> Path:
    """Return the path as it stands on disk where its Hangul is in parts there, as macOS writes it; else as it is."""
    if path.exists() or path.parent == path:
        return path
    folder = as_stored(path.parent)
    wanted = unicodedata.normalize("NFC", path.name)
    there = folder.iterdir() if folder.is_dir() and not path.name.isascii() else iter(())
    return next((entry for entry in there if unicodedata.normalize("NFC", entry.name) == wanted), folder / path.name)
