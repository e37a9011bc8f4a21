"""What a look over this machine brings: models that could be added, and what is to say of the others and of folders."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playground.catalogue.remarks import Remark

HUB, OLLAMA, LM_STUDIO, FOLDER = "hub", "ollama", "lm_studio", "folder"
PLACES = (FOLDER, HUB, OLLAMA, LM_STUDIO)
"""Who keeps models: a folder that the owner names, the Hub's cache, and two other programs."""


@dataclass(frozen=True)
class Found:
    """A model on this machine; `source`, `file`, `revision` and `context` are as its row in the catalogue will say."""

    place: str
    title: str
    """What the program that keeps it calls it."""
    kind: str
    source: str
    path: Path
    """Where its files are: a GGUF's first file, or a folder."""
    size: int
    file: str | None = None
    revision: str | None = None
    context: int | None = None
    base: str = ""
    """Of an adapter: the base as its own config names it."""
    notes: tuple[Remark, ...] = ()
    obstacle: Remark | None = None
    """Why it is not offered; None where it is."""

    @property
    def id(self) -> str:
        """A short name for it that stays the same from one look to the next, for buttons."""
        return hashlib.sha256(f"{self.place}\0{self.path}".encode(errors="replace")).hexdigest()[:12]


@dataclass
class Look:
    """All that was found, and what is to be said of folders that could not be read or were too large."""

    found: list[Found] = field(default_factory=list)
    said: list[Remark] = field(default_factory=list)

    def refused(self, path: object, error: OSError) -> None:
        """Note a folder or file that is there and cannot be read."""
        said = Remark("found.closed", {"path": str(path), "why": error.strerror or type(error).__name__})
        if said not in self.said:
            self.said.append(said)

    def of(self, place: str) -> Iterator[Found]:
        """Yield what a place keeps."""
        return (one for one in self.found if one.place == place)
