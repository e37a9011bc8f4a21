"""HTML that the tabs of every wing show alike: the kind of a variant, empty places, and jobs under way or ended."""

from collections.abc import Iterable
from datetime import datetime

from playground.escape import Markup, escaped
from playground.page.markup import bar, button
from playground.page.number import duration
from playground.page.words import Texts, both, texts
from playground.system.jobs import Job

LOG_LINES = 8
FOLDED_LINES = 60
COLOURS = {
    **dict.fromkeys(("preparing", "finishing", "elsewhere"), "running"),
    **{"stopped": "cancelled", "parity": "failed"},
}
"""States that wear the colours of another, one of those that any job has."""


def badge(kind: str) -> str:
    """Return the kind of a variant as a small label; a kind that has no word is shown as it is."""
    name = both(f"kind.{kind}") if f"kind.{kind}" in texts else escaped(kind)
    return f'<span class="badge badge-{escaped(kind)}">{name}</span>'


def nothing(texts: Texts, key: str, more: str = "") -> str:
    """Return what stands where there is nothing to show yet, and what to do: the texts `key` and `key_todo`."""
    todo = f'<p class="todo">{texts.both(f"{key}_todo")}</p>'
    return f'<div class="nothing"><i class="yard"></i><p>{texts.both(key)}</p>{todo}{more}</div>'


def head(state: str, word: Markup, name: str, chips: Iterable[str], when: str) -> str:
    """Return the head line of a job: how it stands (which colours it, and a word), its name, chips, and when."""
    shown = "".join(f"<b>{escaped(chip)}</b>" for chip in chips)
    named = f'<span class="what">{escaped(name)}</span>{shown}'
    return f'<span class="state-{escaped(COLOURS.get(state, state))}">{word}</span>{named}<small>{when}</small>'


def when(job: Job | None, started: float) -> str:
    """Return how long a job has run; of one that has ended, when it was started."""
    if job and job.active:
        return duration(job.seconds)
    return datetime.fromtimestamp(started).strftime("%Y-%m-%d %H:%M") if started else ""


def under_way(step: str, share: float | None, counted: Iterable[str], buttons: str) -> str:
    """Return what a job does now: its step, a bar (endless where no share is known), and its numbers."""
    return f'<p class="step">{step}</p>{bar(share or None)}{footer(counted, buttons)}'


def footer(counted: Iterable[str], buttons: str) -> str:
    """Return the last line of a job: numbers on the left, buttons on the right."""
    numbers = "".join(f"<span>{number}</span>" for number in counted)
    return f'<footer><div class="counted">{numbers}</div>{buttons}</footer>'


def earlier(title: str, lines: Iterable[str]) -> str:
    """Return the jobs before the newest, one line per job, under their title; nothing where there are none."""
    listed = "".join(lines)
    return f'<h3>{title}</h3><div class="jobs">{listed}</div>' if listed else ""


def cancel(job: Job | None, action: str, word: str = "") -> str:
    """Return the button that stops a job, whose press is reported as `action`; none where it does not run."""
    if job is None or job.state != "running":
        return ""
    return button(action, job.id, word or both("job.cancel"), "cancel")


def events(lines: Iterable[str], kind: str = "events") -> str:
    """Return what happened in a job as a list of lines of HTML; nothing where there are none."""
    rows = "".join(f"<li>{line}</li>" for line in lines)
    return f'<ul class="{kind}">{rows}</ul>' if rows else ""


def log(job: Job | None, live: bool) -> str:
    """Return the last lines that a job printed; more of them, but folded away, where it is not `live`."""
    lines = job.log(LOG_LINES if live else FOLDED_LINES) if job else []
    if not lines:
        return ""
    text = f"<pre>{escaped(chr(10).join(lines))}</pre>"
    return text if live else f"<details><summary>{both('job.log')}</summary>{text}</details>"
