"""FineTune-tunes on the page: begun, stopped and resumed as jobs, and how each of them stands. Draws nothing."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from playground.errors import ConfigError
from playground.page.tabs import Program
from playground.settings import Settings
from playground.system import jobs
from playground.system.jobs import Job
from training.recipe import Recipe
from training.run import runs as folders
from training.run.runs import Run
from training.ui import form
from training.words import form_error

KIND = "train"
GRACE_S = 120.0
"""How long a stop may take: the step that runs is finished, and a checkpoint written."""
EARLIER = 8
Standing = Literal["preparing", "running", "cancelling", "finishing", "elsewhere", "done", "stopped", "failed", "lost"]


@dataclass(frozen=True)
class FineTune:
    """A fine-tune: its run folder, the newest job that worked on it, or both; one of them may be missing."""

    run: Run | None
    job: Job | None

    @property
    def name(self) -> str:
        """What the page calls it by."""
        return self.run.name if self.run else self.job.id if self.job else ""

    @property
    def recipe(self) -> Recipe | None:
        """What its folder says it is; None before there is one, or where it cannot be read."""
        with suppress(ConfigError):
            return self.run.recipe() if self.run else None
        return None

    @property
    def started(self) -> float:
        """When it was last set going."""
        return self.job.started if self.job else self.run.state().started if self.run else 0.0

    @property
    def standing(self) -> Standing:
        """How it stands: the job says whether it goes on, the folder how it ended."""
        status = self.run.state().status if self.run else "preparing"
        if self.job and self.job.active:
            if self.job.state == "cancelling":
                return "cancelling"
            return "finishing" if status == "done" else "running" if status == "running" else "preparing"
        if status in ("done", "stopped", "failed"):
            return status
        if self.run is None:
            return "failed" if self.job and self.job.state == "failed" else "stopped"
        return "elsewhere" if self.run.held else "lost"

    @property
    def active(self) -> bool:
        """Whether the page has something to watch."""
        return self.standing in ("preparing", "running", "cancelling", "finishing", "elsewhere")

    def error(self) -> tuple[str, str]:
        """Message and hint of what ended it."""
        state = self.run.state() if self.run else None
        if state and state.status == "failed" and state.message:
            return state.message, state.hint
        return self.job.last_words() if self.job else ("", "")


def everything(settings: Settings) -> list[FineTune]:
    """Every fine-tune, the newest first; the jobs that came to no run with them."""
    worked: dict[str, Job] = {}
    alone = []
    for job in jobs.listed(settings, KIND):
        if run := _run_of(job):
            worked.setdefault(run, job)
        else:
            alone.append(FineTune(None, job))
    found = [FineTune(run, worked.get(run.name)) for run in folders.listed(settings)]
    return sorted([*found, *alone], key=lambda fine: fine.started, reverse=True)


def _run_of(job: Job) -> str:
    return str(job.progress().get("run") or job.about.get("run") or "")


def start(settings: Settings, program: Program, values: form.Form) -> None:
    """Begin the run that the form describes."""
    _refuse_second(settings)
    recipe, path = form.recipe(settings, values)
    command = [*program, "--data", str(settings.data), "train", str(path), "--progress", "{job}/progress.json"]
    about = {"title": recipe.name, "method": recipe.method, "model": recipe.model, "form": dict(values)}
    jobs.start(settings, KIND, command, about, GRACE_S)


def resume(settings: Settings, program: Program, name: str) -> None:
    """Go on with a run where its last checkpoint is."""
    _refuse_second(settings)
    run = folders.find(settings, name)
    command = [*program, "--data", str(settings.data), "train", "--resume", run.name]
    about = {"title": run.name, "run": run.name}
    jobs.start(settings, KIND, [*command, "--progress", "{job}/progress.json"], about, GRACE_S)


def _refuse_second(settings: Settings) -> None:
    if jobs.busy(settings, KIND):
        raise form_error("train.busy")


def last_form(settings: Settings, kinds: Sequence[str]) -> dict[str, object]:
    """What the form held when it was last used; empty before that."""
    for job in jobs.listed(settings):
        if job.kind in kinds and isinstance(job.about.get("form"), dict):
            return dict(job.about["form"])
    return {}
