"""Fine-tunes on the page: begun, stopped and resumed as jobs, and how each of them stands. Draws nothing."""

from contextlib import suppress
from typing import Literal

from playground.errors import ConfigError
from playground.page.components import Command
from playground.settings import Settings
from playground.system import jobs
from playground.system.jobs import Job
from playground.system.progress import OPTION
from training.passthrough import tracker_keys
from training.recipe import Recipe
from training.run import runs as folders
from training.run.runs import Run
from training.ui import form
from training.ui.rows import Row, folder_of
from training.words import form_error

KIND = "train"
GRACE_S = 120.0
"""How long a stop may take: the step that runs is finished, and a checkpoint written."""
Standing = Literal["preparing", "running", "cancelling", "finishing", "elsewhere", "done", "stopped", "failed", "lost"]


class RunRow(Row[Run]):
    """A fine-tune on the page."""

    @property
    def recipe(self) -> Recipe | None:
        """What its folder says it is; None before there is one, or where it cannot be read."""
        with suppress(ConfigError):
            return self.folder.recipe() if self.folder else None
        return None

    @property
    def standing(self) -> Standing:
        """How it stands: the job says whether it goes on, the folder how it ended."""
        status = self.folder.state().status if self.folder else "preparing"
        if self.job and self.job.active:
            if self.job.state == "cancelling":
                return "cancelling"
            return "finishing" if status == "done" else "running" if status == "running" else "preparing"
        if status in ("done", "stopped", "failed"):
            return status
        if self.folder is None:
            return "failed" if self.job and self.job.state == "failed" else "stopped"
        return "elsewhere" if self.folder.held else "lost"

    @property
    def active(self) -> bool:
        """Whether the page has something to watch."""
        return self.standing in ("preparing", "running", "cancelling", "finishing", "elsewhere")


def everything(settings: Settings) -> list[RunRow]:
    """Return every fine-tune, the newest first; the jobs that came to no run with them."""
    runs = {run.name: run for run in folders.listed(settings)}
    rows = RunRow.joined(runs, jobs.listed(settings, KIND), "run")
    return [row for row in rows if row.folder or not _is_deleted(settings, row.job)]


def _is_deleted(settings: Settings, job: Job | None) -> bool:
    """Return whether the run that a job worked on is gone: then nothing of it is shown."""
    name = folder_of(job, "run") if job else ""
    return bool(name) and not (folders.folder(settings) / name).exists()


def start(settings: Settings, program: Command, values: form.Form, owner: str = "", before: str = "") -> str:
    """Begin the run that the form describes, for a browser; return its job's id. It never takes another's place."""
    _refuse_second(settings)
    recipe, path = form.recipe(settings, values)
    command = [*program, "--data", str(settings.data), "train", str(path), *OPTION]
    about = {"title": recipe.name, "method": recipe.method, "model": recipe.model, "owner": owner}
    return jobs.start(settings, KIND, command, about, GRACE_S, tracker_keys(recipe)).id


def resume(settings: Settings, program: Command, name: str, owner: str = "") -> None:
    """Go on with a run where its last checkpoint is."""
    _refuse_second(settings)
    run = folders.find(settings, name)
    command = [*program, "--data", str(settings.data), "train", "--resume", run.name]
    about = {"title": run.name, "run": run.name, "owner": owner}
    jobs.start(settings, KIND, [*command, *OPTION], about, GRACE_S, tracker_keys(run.recipe()))


def _refuse_second(settings: Settings) -> None:
    if jobs.busy(settings, KIND):
        raise form_error("train.busy")
