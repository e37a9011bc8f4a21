"""A folder in which long work stands: its files, its state, what happened in it, its lock. Knows of no kind of work."""

import json
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from playground.errors import SetupError
from playground.system.atomic import replacing
from playground.system.locks import locked

S = TypeVar("S", bound=BaseModel)
STATE, EVENTS, LOCK = "state.json", "events.jsonl", ".lock"


@dataclass(frozen=True)
class Folder(Generic[S]):
    """Work by its folder; S is what its state.json holds, all of it with defaults."""

    folder: Path

    taken: ClassVar[str]
    """What is said to a second process: `The run {name} is being trained`."""
    _state: ClassVar[type[BaseModel]]

    @property
    def name(self) -> str:
        """Its id: what the folder is called."""
        return self.folder.name

    def state(self) -> S:
        """How things stand; what cannot be read is at its beginning still."""
        kind: type[S] = self._state  # type: ignore[assignment]  # a class variable cannot be typed by S
        with suppress(OSError, ValueError):
            return kind.model_validate_json((self.folder / STATE).read_text(encoding="utf-8"))
        return kind()

    def tell(self, **changes: Any) -> S:
        """Write down a change of state."""
        state = self.state().model_copy(update=changes)
        self.write(STATE, state.model_dump_json(indent=1))
        return state

    def happened(self, kind: str, message: str, **more: Any) -> None:
        """Add an event: `message` is a sentence for people."""
        row = {"at": time.time(), "kind": kind, "message": message, **more}
        with (self.folder / EVENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def events(self) -> list[dict[str, Any]]:
        """What happened, oldest first."""
        return self.lines(EVENTS)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of one of its files; what a killed process wrote half is left out."""
        rows = []
        with suppress(OSError):
            for line in (self.folder / name).read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError):
                    row = json.loads(line)
                    if isinstance(row, dict):
                        rows.append(row)
        return rows

    def write(self, name: str, text: str) -> None:
        """Replace one of its files, whole or not at all."""
        with replacing(self.folder / name) as part:
            part.write_text(text, encoding="utf-8")

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder: two processes at work would spoil it. The system frees it when a process dies."""
        said = self.taken.format(name=self.name)
        refusal = SetupError(f"{said} by another process.", "Wait for it, or stop it first.")
        return locked(self.folder / LOCK, refusal)

    @property
    def held(self) -> bool:
        """Whether a process is at work in it."""
        try:
            with self.locked():
                return False
        except SetupError:
            return True


def place(parent: Path, stem: str) -> Path:
    """Where new work goes: a folder named after this second, numbered where there is one. It is not made yet."""
    made = parent / f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    while made.exists():
        number += 1
        made = made.with_name(f"{made.name.partition('+')[0]}+{number}")
    return made
