"""The folder of an export: what was asked, what came of it, how far it is. Everything that matters is a file.

export.json        what was asked, of which adapter, and a mark of the files it is made from
adapter/, merged/  and <Model>-<adapter>-Q4_K_M.gguf, <Model>-<adapter>-gptq-compressed-tensors/: the artefacts, each
                   whole once it is there
README.md          the model card of the GGUFs; the other artefacts have theirs inside
Modelfile          for Ollama; a further GGUF's is Modelfile.Q8_0
parity.json        a verdict an artefact
events.jsonl       what happened and why, in words
state.json         how things stand
.work/             what is built on the way; gone at the end
"""

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from playground.errors import SetupError
from playground.settings import Settings
from playground.system.atomic import remove
from training.export.plan import Wanted
from training.run import folders
from training.run.folders import EVENTS, LOCK, STATE, Folder

Status = Literal["preparing", "running", "done", "failed"]
ASKED, PARITY = "export.json", "parity.json"
OWN = (ASKED, STATE, PARITY, EVENTS, LOCK)


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


class State(folders.State):
    """How an export stands: the share done, the step under way, and the variants that it became."""

    status: Status = "preparing"
    fraction: float = 0.0
    stage: str = ""
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Export(Folder[State]):
    """An export by its folder."""

    noun, asked_in = "export", ASKED
    taken = "The export {name} is being made"
    _state = State

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

    def verdicts(self) -> dict[str, dict[str, Any]]:
        """The parity verdicts so far, as JSON values, by the artefact's label."""
        with suppress(OSError, ValueError):
            rows = json.loads((self.folder / PARITY).read_text(encoding="utf-8"))
            return rows if isinstance(rows, dict) else {}
        return {}

    def judge(self, label: str, verdict: dict[str, Any]) -> None:
        """Write down one verdict."""
        self.write(PARITY, as_text(self.verdicts() | {label: verdict}))

    def forget(self) -> None:
        """Take out of the folder all that is an export's and no artefact."""
        remove(self.work)
        for name in OWN:
            (self.folder / name).unlink(missing_ok=True)


def as_text(rows: dict[str, Any]) -> str:
    """JSON for people to read, too."""
    return json.dumps(rows, ensure_ascii=False, indent=1)


def folder(settings: Settings) -> Path:
    """Where exports live, a folder each, unless asked otherwise."""
    return settings.data / "exports"


def listed(settings: Settings) -> list[Export]:
    """Every export in the data folder, the newest first."""
    return folders.listed(folder(settings), Export)


def find(settings: Settings, name: str) -> Export:
    """An export by its name or its folder."""
    return folders.find(folder(settings), Export, name)


def unfinished(settings: Settings, asked: Asked, out: Path | None) -> Export | None:
    """The export that was begun with just this and did not end well: in `out`, or the newest in the data folder."""
    for export in [Export(out)] if out else listed(settings):
        with suppress(ValueError):
            if _same(export.asked(), asked) and export.state().status != "done":
                return export
    return None


def finished(settings: Settings, asked: Asked, out: Path | None) -> Export | None:
    """The export that was made of just this and has all its files still: in `out`, or the newest in the data folder."""
    for export in [Export(out)] if out else listed(settings):
        with suppress(ValueError):
            whole = all((export.folder / wanted.place(asked.stem)).exists() for wanted in asked.wanted)
            if whole and _same(export.asked(), asked) and export.state().status == "done":
                return export
    return None


def _same(begun: Asked, asked: Asked) -> bool:
    return begun.model_copy(update={"source": asked.source}) == asked  # a run and its adapter are one source


def place(settings: Settings, stem: str) -> Path:
    """A folder for a new export, not made yet."""
    return folders.place(folder(settings), stem)


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
