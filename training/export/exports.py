"""The folder of an export: what was asked, what came of it, how far it is. Everything that matters is a file.

export.json        what was asked, of which adapter, and a mark of the files it is made from
adapter/, merged/  and <Model>-<adapter>-Q4_K_M.gguf, <Model>-<adapter>-gptq/: the artefacts, whole once they are there
Modelfile          for Ollama; a further GGUF's is Modelfile.Q8_0
parity.json        a verdict an artefact
events.jsonl       what happened and why, in words
state.json         how things stand
.work/             what is built on the way; gone at the end
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from playground.errors import SetupError, UnknownNameError
from playground.settings import Settings
from training.export.atomic import remove, replacing
from training.export.plan import Wanted

Status = Literal["preparing", "running", "done", "failed"]
ASKED, STATE, PARITY = "export.json", "state.json", "parity.json"
OWN = (ASKED, STATE, PARITY, "events.jsonl", ".lock")


class Asked(BaseModel):
    """What makes two exports the same; `mark` changes with the adapter's and the base's files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    variant: str
    run: str = ""
    stem: str
    wanted: tuple[Wanted, ...]
    dtype: str
    imatrix: str = ""
    mark: str


class State(BaseModel):
    """How things stand, for whoever watches. Times in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Status = "preparing"
    fraction: float = 0.0
    stage: str = ""
    started: float = 0.0
    ended: float | None = None
    variants: tuple[str, ...] = ()
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Export:
    """An export by its folder."""

    folder: Path

    @property
    def name(self) -> str:
        """What the folder is called."""
        return self.folder.name

    @property
    def work(self) -> Path:
        """What is built on the way."""
        return self.folder / ".work"

    def path(self, wanted: Wanted) -> Path:
        """Where an artefact lies, or will."""
        return self.folder / wanted.place(self.asked().stem)

    def asked(self) -> Asked:
        """What was asked; ValueError where the file is missing or says something else."""
        try:
            return Asked.model_validate_json((self.folder / ASKED).read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise ValueError(f"{self.folder / ASKED} cannot be read") from error

    def state(self) -> State:
        """How things stand; one whose file cannot be read is preparing still."""
        with suppress(OSError, ValidationError):
            return State.model_validate_json((self.folder / STATE).read_text(encoding="utf-8"))
        return State()

    def tell(self, **changes: Any) -> State:
        """Write down a change of state."""
        state = self.state().model_copy(update=changes)
        self.write(STATE, state.model_dump_json(indent=1))
        return state

    def happened(self, kind: str, message: str, **more: Any) -> None:
        """Add an event: `message` is a sentence for people."""
        row = {"at": time.time(), "kind": kind, "message": message, **more}
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def events(self) -> list[dict[str, Any]]:
        """What happened, oldest first; what a killed process wrote half is left out."""
        rows = []
        with suppress(OSError):
            for line in (self.folder / "events.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError):
                    rows.append(json.loads(line))
        return rows

    def verdicts(self) -> dict[str, dict[str, Any]]:
        """The parity verdicts so far, as JSON values, by the artefact's label."""
        with suppress(OSError, ValueError):
            rows = json.loads((self.folder / PARITY).read_text(encoding="utf-8"))
            return rows if isinstance(rows, dict) else {}
        return {}

    def judge(self, label: str, verdict: dict[str, Any]) -> None:
        """Write down one verdict."""
        self.write(PARITY, as_text(self.verdicts() | {label: verdict}))

    def write(self, name: str, text: str) -> None:
        """Replace one of its files, whole or not at all."""
        with replacing(self.folder / name) as part:
            part.write_text(text, encoding="utf-8")

    def forget(self) -> None:
        """Take out of the folder all that is an export's and no artefact."""
        remove(self.work)
        for name in OWN:
            (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the export: two processes would build the same files. The system frees it when a process dies."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise SetupError(
                f"The export {self.name} is being made by another process.", "Wait for it, or stop it first."
            ) from error
        try:
            yield
        finally:
            lock.release()


def as_text(rows: dict[str, Any]) -> str:
    """JSON for people to read, too."""
    return json.dumps(rows, ensure_ascii=False, indent=1)


def folder(settings: Settings) -> Path:
    """Where exports live, a folder each, unless asked otherwise."""
    return settings.data / "exports"


def listed(settings: Settings) -> list[Export]:
    """Every export in the data folder, the newest first."""
    found = [Export(path.parent) for path in folder(settings).glob(f"*/{ASKED}")]
    return sorted(found, key=lambda export: (export.state().started, export.name), reverse=True)


def find(settings: Settings, name: str) -> Export:
    """An export by its name or its folder."""
    if (Path(name) / ASKED).is_file():
        return Export(Path(name).resolve())
    known = {export.name: export for export in listed(settings)}
    if name not in known:
        raise UnknownNameError("export", name, known, f"Exports lie in {folder(settings)}.")
    return known[name]


def unfinished(settings: Settings, asked: Asked, out: Path | None) -> Export | None:
    """The export that was begun with just this and did not end well: in `out`, or the newest in the data folder."""
    for export in [Export(out)] if out else listed(settings):
        with suppress(ValueError):
            if _same(export.asked(), asked) and export.state().status != "done":
                return export
    return None


def _same(begun: Asked, asked: Asked) -> bool:
    return begun.model_copy(update={"source": asked.source}) == asked  # a run and its adapter are one source


def place(settings: Settings, stem: str) -> Path:
    """A folder for a new export, not made yet."""
    made = folder(settings) / f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    while made.exists():
        number += 1
        made = made.with_name(f"{made.name.partition('+')[0]}+{number}")
    return made


def begin(where: Path, asked: Asked) -> Export:
    """A new export with what was asked in it; SetupError where the folder cannot be written to."""
    export = Export(where)
    try:
        where.mkdir(parents=True, exist_ok=True)
        export.forget()
        export.write(ASKED, asked.model_dump_json(indent=1))
        export.tell(started=time.time())
    except OSError as error:
        raise SetupError(
            f"{where} cannot be written to: {error.strerror}.", "Choose a folder of yours: --out DIR, or MADANG_DATA."
        ) from error
    return export


def mark(adapter: Path, base: Path) -> str:
    """A mark of the files an export is made from: the adapter's bytes; name, size and date of the base's weights."""
    digest = hashlib.sha256()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        digest.update((adapter / name).read_bytes())
    for file in sorted(base.glob("*.safetensors")):
        stat = file.stat()
        digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
