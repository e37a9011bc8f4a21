"""What the buttons of Train do; faults come back as HTML. Testable without Gradio."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from playground.errors import MadangError
from playground.page.tabs import Command
from playground.settings import Settings
from playground.system import jobs
from training.ui import checking, form, looking, runs
from training.words import problem

KINDS = (runs.KIND, checking.KIND, looking.KIND)
STARTS = {"look": looking.start, "check": checking.start, "start": runs.start}
NUMBERS = ("epochs", "batch", "accumulation", "max_length", "evaluation")


@dataclass(frozen=True)
class Done:
    """What a button did: a fault to show, fields to set, the run to look at (None: as before)."""

    fault: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    viewed: str | None = None


def begin(settings: Settings, program: Command, what: str, values: form.Form) -> Done:
    """Look at the data, check the run, or start it."""
    try:
        STARTS[what](settings, program, values)
    except MadangError as error:
        return Done(problem(error))
    return Done(viewed="" if what == "start" else None)


def act(settings: Settings, program: Command, action: str, name: str) -> Done:
    """Do what a button inside HTML says: on a job, on a run, or on the form's fields."""
    try:
        if action == "stop":
            jobs.cancel(jobs.find(settings, name))
        elif action == "resume":
            runs.resume(settings, program, name)
            return Done(viewed="")
        elif action == "fix":
            looking.fix(settings, program, name)
        elif action == "show":
            return Done(viewed=name)
        elif action == "use":
            return Done(fields={"source": name})
        elif action == "set":
            return Done(fields=dict(_pair(pair) for pair in name.split(",")))
    except MadangError as error:
        return Done(problem(error))
    return Done()


def _pair(pair: str) -> tuple[str, Any]:
    name, _, value = pair.partition("=")
    return name, float(value) if name in NUMBERS else value
