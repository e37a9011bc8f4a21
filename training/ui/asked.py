"""A question that a job of its own answers with one JSON object: asked, waited for, read. Knows no question."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from playground.page import cards
from playground.page.markup import escaped
from playground.page.number import duration
from playground.settings import Settings
from playground.system import jobs
from playground.system.jobs import Job
from training.run.folders import Progress
from training.words import both, card, texts

GRACE_S = 5.0
LOOKING_FOR = "Looking for"


def ask(settings: Settings, kind: str, command: Sequence[str], about: Mapping[str, Any]) -> None:
    """Start the job; one of its kind that still runs answers a question nobody has any more."""
    for job in jobs.listed(settings, kind):
        jobs.cancel(job)
    jobs.start(settings, kind, command, about, GRACE_S)


def newest(settings: Settings, kind: str) -> Job | None:
    """The question asked last."""
    return next(iter(jobs.listed(settings, kind)), None)


def answer(job: Job) -> dict[str, Any] | None:
    """The JSON object that the job printed, whatever its exit code; None where there is none."""
    try:
        file = job.folder / "log.txt"
        changed = file.stat()
        return _answer(file, changed.st_mtime_ns, changed.st_size)
    except OSError:
        return None


@lru_cache(maxsize=8)
def _answer(file: Path, changed: int, size: int) -> dict[str, Any] | None:
    for line in reversed(file.read_text(encoding="utf-8", errors="replace").splitlines()):
        if line.startswith("{"):
            try:
                row = json.loads(line)
            except ValueError:
                return None
            return row if isinstance(row, dict) else None
    return None


def panel(job: Job, title: str, body: str) -> str:
    """A section about the job's question, with what it asked about."""
    about = f"<small>{escaped(job.about.get('title', ''))}</small>"
    return f'<section class="job asked {job.state}"><header><h3>{both(title)}</h3>{about}</header>{body}</section>'


def unanswered(job: Job, failed: str) -> str:
    """What is shown of a job without an answer: that it works, that it was stopped, or why it failed."""
    if job.active:
        return cards.under_way(stage(job), None, [duration(job.seconds)], cards.cancel(job, "stop"))
    if job.state in ("cancelled", "lost"):
        return f'<p class="step">{both(f"train.asked_{job.state}")}</p>'
    return card(failed, *job.last_words())


def stage(job: Job) -> str:
    """The step that a command under way says it is at."""
    told = job.progress(Progress).stage
    if told.startswith(LOOKING_FOR):
        return both("stage.looking", model=told.removeprefix(LOOKING_FOR).strip())
    key = "stage." + told.lower().replace(" ", "_")
    return both(key) if key in texts else escaped(told) if told else both("stage.starting")
