"""What Evaluate does: make a command of the form, start it as a job, show how it goes. Scores nothing itself."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from eval.ui.said import Html, both, card, empty
from eval.words import words
from playground.catalogue.variants import Catalogue
from playground.errors import ConfigError, MadangError
from playground.page.kit import lasting
from playground.settings import Settings
from playground.system import jobs
from playground.system.jobs import Job

KIND = "eval"
SUITES = ("quick", "kobest")
TASKS = ("boolq", "copa", "hellaswag", "sentineg", "wic")
EARLIER = 6
LOG_LINES = 8
Program = Sequence[str]
"""How this program is called: the interpreter and its front door. app.py says it."""


class FormError(MadangError):
    """The form is wrong; message and hint are keys of words, filled with `values`."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(words("en")[key].format(**values), words("en")[f"{key}_hint"])
        self.key, self.values = key, values


def command(settings: Settings, program: Program, form: Mapping[str, Any]) -> list[str]:
    """The `madang eval` that the form describes; `{job}` becomes the job's folder."""
    if not form["variants"]:
        raise FormError("evaluate.no_variant")
    made = [*program, "--data", str(settings.data), "eval", str(form["suite"] or SUITES[0]).strip()]
    for variant in form["variants"]:
        made += ["--variant", variant]
    if form["tasks"]:
        made += ["--tasks", ",".join(form["tasks"])]
    for shots in form["shots"] or ():
        made += ["--shots", str(_whole("shots", shots, 0))]
    if form["limit"] not in (None, ""):
        made += ["--limit", str(_whole("limit", form["limit"], 1))]
    if data := str(form["data"] or "").strip():
        folder = Path(data).expanduser().absolute()
        if not folder.is_dir():
            raise FormError("evaluate.no_folder", path=folder)
        made += ["--data", str(folder)]
    made += ["--chat-template"] if form["chat_template"] else []
    made += [f"--{'' if form[name] else 'no-'}{name}" for name in ("speed", "drift")]
    return [*made, "--progress", "{job}/progress.json"]


def _whole(field: str, value: object, least: int) -> int:
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if number < least or number != int(number):
        raise FormError("evaluate.number", field=field, value=value, least=least)
    return int(number)


def start(settings: Settings, program: Program, form: Mapping[str, Any]) -> str:
    """Start what the form describes; HTML of what is wrong, or nothing."""
    try:
        made = command(settings, program, form)
        about = {"variants": list(form["variants"]), "suite": str(form["suite"] or SUITES[0])}
        _begin(settings, made, about)
    except MadangError as error:
        return problem(error)
    return ""


def again(settings: Settings, name: str) -> str:
    """Start an earlier job's command once more: what it scored is not scored again."""
    try:
        old = jobs.find(settings, name)
        made = [part.replace(str(old.folder), "{job}") for part in old.command]
        _begin(settings, made, old.about)
    except MadangError as error:
        return problem(error)
    return ""


def _begin(settings: Settings, made: Sequence[str], about: Mapping[str, Any]) -> None:
    if any(job.active for job in jobs.listed(settings, KIND)):
        raise FormError("evaluate.busy")
    jobs.start(settings, KIND, made, about)


def act(settings: Settings, action: str, name: str) -> str:
    """A button on a job: cancel, or again; HTML of what went wrong, or nothing."""
    if action == "again":
        return again(settings, name)
    try:
        if action == "cancel":
            jobs.cancel(jobs.find(settings, name))
    except MadangError as error:
        return problem(error)
    return ""


def problem(error: MadangError) -> str:
    """A fault of the form in both languages, any other error as it is."""
    if isinstance(error, FormError):
        values = {k: both(f"evaluate.{v}") if k == "field" else v for k, v in error.values.items()}
        return card("evaluate.problem", both(error.key, **values), both(f"{error.key}_hint"))
    return card("evaluate.problem", error.message, error.hint)


def variants(settings: Settings) -> list[str]:
    """Names in the catalogue; none where it cannot be read (Models says why)."""
    try:
        return list(Catalogue.load(settings).names)
    except ConfigError:
        return []


def html(settings: Settings) -> str:
    """The newest job, large, and those before it in a line each."""
    found = jobs.listed(settings, KIND)
    if not found:
        return empty("evaluate.empty")
    earlier = "".join(_line(job) for job in found[1 : EARLIER + 1])
    heading = f"<h3>{both('evaluate.earlier')}</h3>" if earlier else ""
    return f'{_now(found[0])}{heading}<div class="jobs">{earlier}</div>'


def active(settings: Settings) -> bool:
    """Whether the page has something to watch."""
    return any(job.active for job in jobs.listed(settings, KIND))


def _now(job: Job) -> str:
    body = {"done": _done, "failed": _failed, "running": _running, "cancelling": _running}.get(job.state, _stopped)(job)
    return f'<section class="job {job.state}" data-job="{job.id}"><header>{_head(job)}</header>{body}</section>'


def _head(job: Job) -> str:
    chips = "".join(f"<b>{escape(name)}</b>" for name in job.about.get("variants", ()))
    state = f'<span class="state-{job.state}">{both(f"evaluate.state_{job.state}")}</span>'
    took = both("evaluate.took", time=lasting(job.seconds))
    return f'{state}<span class="what">{escape(str(job.about.get("suite", "")))}</span>{chips}<small>{took}</small>'


def _line(job: Job) -> str:
    return f'<div class="{job.state}">{_head(job)}{_button("again", job, _go_on(job)) if not job.active else ""}</div>'


def _go_on(job: Job) -> str:
    return "again" if job.state in ("cancelled", "lost") else "rerun"


def _button(action: str, job: Job, text: str) -> str:
    said = both(f"evaluate.{text}")
    return f'<button type="button" class="{action}" data-action="{action}" data-name="{job.id}">{said}</button>'


def _running(job: Job) -> str:
    told = job.progress()
    step, numbers, share = both("evaluate.starting"), [], 0.0
    if told.get("variant"):
        step = both("evaluate.running", variant=told["variant"], shots=told["shots"], step=_step(str(told["step"])))
        if told["runs"] > 1:
            numbers.append(both("evaluate.run_of", run=told["run"], runs=told["runs"]))
        if told["total"]:
            numbers.append(both("evaluate.counted", done=f"{told['done']:,}", total=f"{told['total']:,}"))
            share = told["done"] / told["total"]
        if told["left_s"]:
            left = float(told["left_s"])
            numbers.append(both("evaluate.left", time=lasting(left)))
    bar = (
        f'<div class="bar"><i style="width: {100 * share:.1f}%"></i></div>'
        if share
        else '<div class="bar endless"><i></i></div>'
    )
    counted = "".join(f"<span>{number}</span>" for number in numbers)
    cancel = _button("cancel", job, "cancel") if job.state == "running" else ""
    return f'<p class="step">{step}</p>{bar}<footer><div class="counted">{counted}</div>{cancel}</footer>{_log(job)}'


def _step(step: str) -> Html:
    """The runner's word for a step, and what it is busy with."""
    name, _, rest = step.partition(" ")
    if f"evaluate.step_{name}" not in words("en"):
        return Html(escape(step))
    return Html(both(f"evaluate.step_{name}") + escape(f" {rest}" if rest else ""))


def _done(job: Job) -> str:
    button = f'<button type="button" class="go" data-tab="leaderboard">{both("evaluate.open")}</button>'
    return f"<footer>{button}{_button('again', job, 'rerun')}</footer>{_log(job, open_=False)}"


def _failed(job: Job) -> str:
    message, hint = job.last_words()
    return (
        card("evaluate.failed", message, hint)
        + f"<footer>{_button('again', job, 'rerun')}</footer>{_log(job, open_=False)}"
    )


def _stopped(job: Job) -> str:
    footer = f"<footer>{_button('again', job, 'again')}</footer>"
    return f'<p class="step">{both("evaluate.kept")}</p>{footer}{_log(job, open_=False)}'


def _log(job: Job, open_: bool = True) -> str:
    lines = job.log(LOG_LINES if open_ else 60)
    if not lines:
        return ""
    text = f"<pre>{escape(chr(10).join(lines))}</pre>"
    return text if open_ else f"<details><summary>{both('evaluate.log')}</summary>{text}</details>"
