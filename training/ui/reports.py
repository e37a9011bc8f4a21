"""Reports: commands that run as a job and print one JSON object, started, waited for and read. Knows no command."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from playground.escape import escaped
from playground.page import cards
from playground.page.number import duration
from playground.settings import Settings
from playground.system import jobs
from playground.system.jobs import Job
from training.run.folders import Progress
from training.words import both, card, texts

Report = Mapping[str, Any]
GRACE_S = 5.0
LOOKING_FOR = "Looking for"


def start(settings: Settings, kind: str, command: Sequence[str], about: Mapping[str, Any], before: str = "") -> str:
    """Start a command that reports as a job; return its id. The one shown `before` is cancelled: nobody waits for it.

    Those of other browsers and pages go on.
    """
    if job := find(settings, before):
        jobs.cancel(job)
    return jobs.start(settings, kind, command, about, GRACE_S).id


def find(settings: Settings, name: str) -> Job | None:
    """Return a job by its id; None where it is gone, as the oldest are one day."""
    return next((job for job in jobs.listed(settings) if job.id == name), None) if name else None


def html(job: Job | None, section: str, draw: Callable[[Job, Report], str]) -> str:
    """Return a job's report as HTML; nothing where none was asked for.

    `section` is that of its texts: `heading`, and `failed` where there is no report. `draw` makes HTML of one.
    """
    if job is None:
        return ""
    report = None if job.active else read(job)
    body = draw(job, report) if report else _without(job, f"{section}.failed")
    head = f"<h3>{both(f'{section}.heading')}</h3><small>{escaped(job.about.get('title', ''))}</small>"
    return f'<section class="job asked {job.state}"><header>{head}</header>{body}</section>'


def read(job: Job) -> Report | None:
    """Return the JSON object that a job printed, whatever its exit code; None where there is none."""
    try:
        file = job.folder / "log.txt"
        changed = file.stat()
        return _read(file, changed.st_mtime_ns, changed.st_size)
    except OSError:
        return None


@lru_cache(maxsize=8)
def _read(file: Path, changed: int, size: int) -> dict[str, Any] | None:
    for line in reversed(file.read_text(encoding="utf-8", errors="replace").splitlines()):
        if line.startswith("{"):
            try:
                row = json.loads(line)
            except ValueError:
                return None
            return row if isinstance(row, dict) else None
    return None


def _without(job: Job, failed: str) -> str:
    """Return what is shown of a job without a report: that it works, that it was stopped, or why it failed."""
    if job.active:
        return cards.under_way(stage(job), None, [duration(job.seconds)], cards.cancel(job, "stop"))
    if job.state in ("cancelled", "lost"):
        return f'<p class="step">{both(f"train.asked_{job.state}")}</p>'
    return card(failed, *job.last_words())


def stage(job: Job) -> str:
    """Return the step that a command under way says it is at."""
    name = job.progress(Progress).stage
    if name.startswith(LOOKING_FOR):
        return both("stage.looking", model=name.removeprefix(LOOKING_FOR).strip())
    key = "stage." + name.lower().replace(" ", "_")
    return both(key) if key in texts else escaped(name) if name else both("stage.starting")
