"""Long work as subprocesses: started with a command, watched through files, cancelled politely. Imports no engine.

A job is a folder: job.json says what runs and how it ended, log.txt holds all it printed, progress.json (which the
command itself replaces) how far it is. A keeper process stands between the page and the command: it writes down how
the command ended, so that a job survives a reload of the page and even the page's own end.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from playground.errors import ConfigError, SetupError, UnknownNameError
from playground.settings import EVERY, ONLINE, Settings, child_environment
from playground.system.atomic import remove, write_beside
from playground.system.logs import tail
from playground.system.processes import ProcessId, kill, tree, wait_or_end
from playground.system.progress import P, read
from playground.wording import revived, worded

State = Literal["running", "cancelling", "done", "failed", "cancelled", "lost"]
STARTING_S = 30.0
"""How long a keeper may take to come up before its job counts as lost."""
GRACE_S = 20.0
"""How long a cancelled command may take to put away what it has."""
KEPT = 20
ERROR = "error.json"
ROOT = Path(__file__).resolve().parents[2]


class Job(BaseModel):
    """A job as job.json describes it; `about` holds what its starter wants to remember (strings and numbers)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: str
    command: tuple[str, ...]
    cwd: str
    started: float
    about: dict[str, Any] = {}
    grace_s: float = GRACE_S
    pids: tuple[ProcessId, ...] = ()
    """Keeper and command, once they run."""
    code: int | None = None
    ended: float | None = None
    folder: Path = Path()

    @property
    def state(self) -> State:
        """How the job stands, from its files and processes; `lost`: its keeper never wrote down how it ended."""
        asked = (self.folder / "cancel").exists()
        if self.ended is not None:
            return "done" if self.code == 0 else "cancelled" if asked else "failed"
        alive = any(process.alive for process in self.pids) if self.pids else time.time() - self.started < STARTING_S
        if alive:
            return "cancelling" if asked else "running"
        return "cancelled" if asked else "lost"

    @property
    def active(self) -> bool:
        """Whether it still runs."""
        return self.state in ("running", "cancelling")

    @property
    def seconds(self) -> float:
        """Seconds that it ran, or has run until now."""
        return (self.ended or time.time()) - self.started

    @property
    def progress_file(self) -> Path:
        """Where the command says how far it is, if it is given progress.OPTION."""
        return self.folder / "progress.json"

    def progress(self, kind: type[P]) -> P:
        """Return what the command said last, as the wing's own kind of progress."""
        return read(self.progress_file, kind)

    def log(self, lines: int = 12) -> list[str]:
        """Return the last lines that it printed."""
        return tail(self.folder / "log.txt", lines)

    def last_words(self) -> tuple[str, str]:
        """Return the error and the hint that the command ended with, or else its last line."""
        with suppress(OSError, ValueError):
            message, hint = json.loads((self.folder / ERROR).read_text(encoding="utf-8"))
            return revived(message), revived(hint)
        lines = self.log(200)
        errors = [index for index, line in enumerate(lines) if line.startswith("error: ")]
        if not errors:
            return (lines[-1] if lines else f"exit code {self.code}"), ""
        rest = lines[errors[-1] :]
        hints = [line.removeprefix("hint: ") for line in rest if line.startswith("hint: ")]
        return rest[0].removeprefix("error: "), (hints or [""])[0]


def folder(settings: Settings) -> Path:
    """Return where jobs live, one folder per job."""
    return settings.data / "jobs"


def start(
    settings: Settings,
    kind: str,
    command: Sequence[str],
    about: Mapping[str, Any] | None = None,
    grace_s: float = GRACE_S,
    keys: Sequence[str] = (),
) -> Job:
    """Start a command as a job; raises SetupError. `{job}` in its arguments becomes the job's folder.

    `keys`: variables with keys that it needs beside what reaches the Hub.
    """
    made = f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
    where = folder(settings) / made
    _prune(settings, kind)
    job = Job(
        id=made,
        kind=kind,
        command=tuple(part.replace("{job}", str(where)) for part in command),
        cwd=str(Path.cwd()),
        started=time.time(),
        about=dict(about or {}),
        grace_s=grace_s,
        folder=where,
    )
    try:
        where.mkdir(parents=True)
        _write(job)
        keeper = subprocess.Popen(
            [sys.executable, "-m", "playground.system.jobs", str(where)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=child_environment({"MADANG_ERROR_FILE": str(where / ERROR)}, keys=[*ONLINE, *keys]),
            start_new_session=True,
        )
    except OSError as error:
        raise SetupError(worded("jobs.job_could_not", where=where, strerror=error.strerror)) from error
    threading.Thread(target=keeper.wait, daemon=True).start()  # so that no zombie stays behind
    return job


def listed(settings: Settings, kind: str | None = None) -> list[Job]:
    """Return every job that can be read, the newest first."""
    found = []
    for path in folder(settings).glob("*/job.json"):
        with suppress(ConfigError):
            found.append(_read(path.parent))
    return sorted((job for job in found if kind in (None, job.kind)), key=lambda job: job.started, reverse=True)


def busy(settings: Settings, *kinds: str) -> bool:
    """Return whether a job of these kinds runs."""
    return any(job.active for job in listed(settings) if job.kind in kinds)


def find(settings: Settings, name: str) -> Job:
    """Return a job by its id; raises UnknownNameError."""
    known = {job.id: job for job in listed(settings)}
    if name not in known:
        raise UnknownNameError(worded("noun.job"), name, known)
    return known[name]


def cancel(job: Job) -> None:
    """Ask a job to stop: its keeper interrupts the command, and kills it where that does not help."""
    if not job.active:
        return
    (job.folder / "cancel").touch()
    if job.pids and not job.pids[0].alive:  # its keeper is gone: there is nobody else to ask
        for process in job.pids[1:]:
            if process.alive:
                kill(tree(process.pid))


def _prune(settings: Settings, kind: str) -> None:
    """Delete the oldest jobs of a kind beyond those kept, but none that runs."""
    for job in [job for job in listed(settings, kind) if not job.active][KEPT - 1 :]:
        remove(job.folder)


def _read(where: Path) -> Job:
    try:
        row = json.loads((where / "job.json").read_text(encoding="utf-8"))
        return Job.model_validate(row | {"folder": where})
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise ConfigError(worded("jobs.holds_no_job", where=where, error=error)) from error


def _write(job: Job) -> None:
    write_beside(job.folder / "job.json", job.model_dump_json(exclude={"folder"}, indent=2))


def keep(where: Path) -> None:
    """Run the command of a folder's job to its end, as its keeper, and write down how it ended."""
    job = _read(where)
    # The command is interrupted, not its keeper. SIG_IGN it would inherit, and then hear of no interrupt.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    code = 127
    try:
        with (where / "log.txt").open("wb") as log:
            command = subprocess.Popen(
                job.command,
                cwd=job.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment({"PYTHONUNBUFFERED": "1", "COLUMNS": "160"}, keys=EVERY),
            )
            job = job.model_copy(update={"pids": (ProcessId.of(), ProcessId.of(command.pid))})
            _write(job)
            interrupt = signal.SIGINT if os.name == "posix" else signal.SIGTERM
            code = wait_or_end(command, (where / "cancel").exists, interrupt, job.grace_s)
    except OSError as error:
        (where / "log.txt").write_text(f"error: The command could not be started: {error}.\n", encoding="utf-8")
    finally:
        _write(job.model_copy(update={"code": code, "ended": time.time()}))


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
