"""The folder of an export: what was asked, what came of it, how far it is. Everything that matters is a file.

export.json        what was asked, of which adapter, and a mark of the files it is made from
adapter/, merged/  and <Model>-<adapter>-Q4_K_M.gguf, <Model>-<adapter>-gptq-compressed-tensors/: the artefacts, each
                   whole once it is there
README.md          the model card of the GGUFs; the other artefacts have theirs inside
Modelfile          for Ollama; a further GGUF's is Modelfile.Q8_0
parity.json        one verdict per artefact
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

from pydantic import TypeAdapter, ValidationError, model_validator

from playground.errors import SetupError
from playground.settings import Settings
from playground.system.atomic import remove
from playground.values import Value
from training.export.parity.verdict import Verdict
from training.export.plan import Wanted
from training.run import folders
from training.run.folders import EVENTS, LOCK, STATE, Folder

Status = Literal["preparing", "running", "done", "failed"]
Outcome = Literal["", "done", "stopped", "parity", "error"]
"""How the work ended; empty before it did."""
ASKED, PARITY = "export.json", "parity.json"
OWN = (ASKED, STATE, PARITY, EVENTS, LOCK)
VERDICTS = TypeAdapter(dict[str, Verdict])


class Asked(Value):
    """What makes two exports the same; `mark` changes with the adapter's and the base's files."""

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
    outcome: Outcome = ""
    fraction: float = 0.0
    stage: str = ""
    variants: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _with_outcome(cls, row: Any) -> Any:
        """Read a file from before `outcome` was written: there the sentence alone says how the work ended."""
        if not isinstance(row, dict) or "outcome" in row or row.get("status") not in ("done", "failed"):
            return row
        said = str(row.get("message"))
        failed = "stopped" if said == "Stopped." else "parity" if said.startswith("Parity failed") else "error"
        return row | {"outcome": "done" if row["status"] == "done" else failed}


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
        """Return where an artefact lies, or will."""
        return self.folder / wanted.place(self.asked().stem)

    def asked(self) -> Asked:
        """Return what was asked; ValueError where the file is missing or says something else."""
        try:
            return Asked.model_validate_json((self.folder / ASKED).read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise ValueError(f"{self.folder / ASKED} cannot be read") from error

    def verdicts(self) -> dict[str, Verdict]:
        """Return the parity verdicts so far by the artefact's label; none where the file cannot be read."""
        with suppress(OSError, ValueError):
            return VERDICTS.validate_json((self.folder / PARITY).read_bytes())
        return {}

    def judge(self, label: str, verdict: Verdict) -> None:
        """Write down the verdict on an artefact."""
        self._write_verdicts(self.verdicts() | {label: verdict})

    def unjudge(self, label: str) -> None:
        """Take back the verdict on an artefact that was built anew since."""
        verdicts = self.verdicts()
        if verdicts.pop(label, None):
            self._write_verdicts(verdicts)

    def end(self, outcome: Outcome, message: str = "", hint: str = "", **more: Any) -> None:
        """Write down how the work ended; the sentences are for people."""
        status = "done" if outcome == "done" else "failed"
        self.tell(status=status, outcome=outcome, message=message, hint=hint, ended=time.time(), **more)

    def _write_verdicts(self, verdicts: dict[str, Verdict]) -> None:
        rows = VERDICTS.dump_python(verdicts, mode="json")
        self.write(PARITY, json.dumps(rows, ensure_ascii=False, indent=1))

    def forget(self) -> None:
        """Take out of the folder all that is an export's and no artefact."""
        remove(self.work)
        for name in OWN:
            (self.folder / name).unlink(missing_ok=True)


def folder(settings: Settings) -> Path:
    """Return the folder that holds one folder for each export, unless another was asked for."""
    return settings.data / "exports"


def listed(settings: Settings) -> list[Export]:
    """Return every export in the data folder, the newest first."""
    return folders.listed(folder(settings), Export)


def find(settings: Settings, name: str) -> Export:
    """Return an export by its name or its folder."""
    return folders.find(folder(settings), Export, name)


def begun(settings: Settings, asked: Asked, out: Path | None, reuse: bool) -> Export | None:
    """Return the export that was begun with just this, to go on with: in `out`, or the newest in the data folder.

    One that ended well counts with `reuse` alone, before all others, and only while it has all its files.
    """
    same = [export for export in ([Export(out)] if out else listed(settings)) if _is_of(export, asked)]
    done = [export for export in same if export.state().status == "done"]
    whole = [export for export in done if all(export.path(wanted).exists() for wanted in asked.wanted)]
    left = [export for export in same if export not in done]
    return next(iter([*(whole if reuse else []), *left]), None)


def _is_of(export: Export, asked: Asked) -> bool:
    """Return whether an export was asked for just this; a run and its adapter are one source."""
    with suppress(ValueError):
        return export.asked().model_copy(update={"source": asked.source}) == asked
    return False


def place(settings: Settings, stem: str) -> Path:
    """Return a folder for a new export, not made yet."""
    return folders.place(folder(settings), stem)


def begin(where: Path, asked: Asked) -> Export:
    """Begin an export: write what was asked into its folder. SetupError where that cannot be written to."""
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
    """Return a hash of what an export is made from: the adapter's bytes; name, size and date of the base's files."""
    digest = hashlib.sha256()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        digest.update((adapter / name).read_bytes())
    for file in sorted(base.glob("*.safetensors")):
        stat = file.stat()
        digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
