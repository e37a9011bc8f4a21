"""How far a job's command is, in a file that the command writes and the page reads. A wing names the fields."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from playground.system.atomic import write_beside

Tell = Callable[[float, str], None]
"""Hears which share of the work is done, and what happens now."""
OPTION = ("--progress", "{job}/progress.json")
"""How a command is told the file when it is started as a job."""
EVERY_S = 0.3
"""How often numbers are written; new words are written at once."""


class Progress(BaseModel):
    """What a wing's own class derives from. Every field of it has a default: a command says what it knows by now."""

    model_config = ConfigDict(frozen=True, extra="ignore")


P = TypeVar("P", bound=Progress)


class ProgressFile(Generic[P]):
    """The writer: keeps what the command says in `now`, and replaces the file with it; None writes no file."""

    def __init__(self, path: Path | None, now: P) -> None:
        self.now = now
        self._path, self._written = path, 0.0

    def tell(self, **changes: Any) -> None:
        """Change some fields. Numbers that follow one another too fast stay out of the file."""
        before, self.now = self.now, self.now.model_copy(update=changes)
        new_words = any(isinstance(value, str) and value != getattr(before, key) for key, value in changes.items())
        if self._path is None or not (new_words or time.monotonic() - self._written > EVERY_S):
            return
        self._written = time.monotonic()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_beside(self._path, self.now.model_dump_json(exclude_unset=True))


def read(path: Path, kind: type[P]) -> P:
    """Read what a command said last; all of it defaults where it said nothing that can be read."""
    with suppress(OSError, ValueError):
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    return kind()
