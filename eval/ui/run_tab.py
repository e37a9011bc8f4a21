"""Evaluate: lays out the tab, makes a command of its form, starts that as a job, shows how it goes. Scores nothing."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from eval.progress import Progress
from eval.words import both, card, form_error, problem, texts
from playground.catalogue.variants import Remote, load_or_none
from playground.errors import MadangError
from playground.escape import Markup, escaped
from playground.page import cards, mine
from playground.page.components import Command, Components, lead, plain, tab_here
from playground.page.events import PRESSES, SILENT, Updates, Values, clocked, in_turn
from playground.page.form import no_number, values_of, whole
from playground.page.markup import bar, button, tab_button
from playground.page.mine import Mine
from playground.page.number import duration
from playground.settings import Settings
from playground.system import jobs
from playground.system.jobs import Job
from playground.system.progress import OPTION

KIND = "eval"
SUITES = ("quick", "kobest")
TASKS = ("boolq", "copa", "hellaswag", "sentineg", "wic")
EARLIER = 6
AFTER = ("speed", "drift")
"""Steps of a run that come when it is scored."""
EVERY_S = 1.0
SHEET = Path(__file__).with_name("page.css")


def render(settings: Settings, program: Command, components: Components) -> None:
    """Lay out the tab, inside the caller's gr.Tab."""
    lead(texts, "evaluate", SHEET)
    with gr.Column(elem_id="evaluate-form"):
        fields = _form(components, _names(settings))
        with gr.Row(elem_classes="buttons"):
            pressed = components.make(gr.Button, "evaluate.start", variant="primary", elem_id="evaluate-start", scale=0)
    notice = plain(elem_id="evaluate-said")
    shown = plain(elem_id="evaluate-jobs", js_on_load=PRESSES)
    timer = gr.Timer(EVERY_S, active=False)
    _wire(settings, program, fields, (pressed, notice, shown, timer))


def _names(settings: Settings) -> list[str]:
    return [variant.name for variant in load_or_none(settings) or ()]


def _form(components: Components, names: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    add = partial(components.field, fields, "evaluate")
    pick = partial(add, gr.Dropdown)
    with gr.Row():
        pick("variants", choices=names, value=[], multiselect=True, scale=2)
        pick("suite", choices=list(SUITES), value=SUITES[0], allow_custom_value=True)
    with gr.Row():
        pick("tasks", choices=list(TASKS), value=[], multiselect=True, scale=2)
        pick("shots", choices=["0", "5"], value=[], multiselect=True, allow_custom_value=True)
        add(gr.Number, "limit", value=no_number, precision=0)
    with gr.Row():
        add(gr.Textbox, "data", max_lines=1, scale=2)
    with gr.Row(elem_classes="ticks"):
        for name, value in {"chat_template": False, "speed": True, "drift": True}.items():
            add(gr.Checkbox, name, value=value, min_width=0)
    return fields


def _wire(
    settings: Settings,
    program: Command,
    fields: dict[str, Any],
    parts: tuple[gr.Button, gr.HTML, gr.HTML, gr.Timer],
) -> None:
    pressed, notice, shown, timer = parts
    owner, own = gr.State(""), Mine("evaluate", fields)
    outputs: list[Block] = [notice, shown, timer]

    def tick(who: str) -> Updates:
        return clocked(timer, lambda: jobs.busy(settings, KIND), lambda: {shown: html(settings, who)})

    def seen(who: str, fault: str = "") -> Updates:
        return {notice: fault, **tick(who)}

    def handle_start(values: Values) -> Updates:
        return seen(values[owner], start(settings, program, values_of(fields, values), values[owner]))

    def handle_action(who: str, event: gr.EventData) -> Updates:
        return seen(who, act(settings, str(event.action), str(event.name), who))

    def arrive(values: Values) -> Updates:
        """Return the variants as they are now; on the first visit the form as this browser left it, too."""
        kept, names, picks = values[own.kept] or {}, _names(settings), fields["variants"]
        who = values[owner] or mine.owner(kept)
        filled = {} if values[owner] else own.filled(kept)
        wanted = [mine.asked_for(kept)] if mine.asked_for(kept) else filled.get(picks, values[picks])
        chosen = gr.update(choices=names, value=[name for name in wanted or () if name in names])
        return {**filled, picks: chosen, owner: who, own.kept: {"owner": who}, **seen(who)}

    def suite(name: str) -> Any:
        return gr.update(visible=name in SUITES, value=[])

    ordered = in_turn("evaluate")
    pressed.click(handle_start, {*fields.values(), owner}, outputs, **ordered)
    shown.click(handle_action, owner, outputs, **ordered)
    timer.tick(tick, owner, [shown, timer], **ordered)
    found = [*outputs, *fields.values(), owner, own.kept]
    own.keep(own.coming(tab_here()).then(arrive, {owner, own.kept, fields["variants"]}, found, **ordered))
    fields["suite"].change(suite, fields["suite"], fields["tasks"], **SILENT)


def command(settings: Settings, program: Command, form: Mapping[str, Any]) -> list[str]:
    """Return the `madang eval` that the form describes; `{job}` becomes the job's folder."""
    if not form["variants"]:
        raise form_error("evaluate.no_variant")
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
            raise form_error("evaluate.no_folder", path=folder)
        made += ["--data", str(folder)]
    made += ["--chat-template"] if form["chat_template"] else []
    made += [f"--{'' if form[name] else 'no-'}{name}" for name in ("speed", "drift")]
    return [*made, *OPTION]


def _whole(field: str, value: object, least: int) -> int:
    found = whole(value, least)
    if found is None:
        raise form_error("evaluate.number", field=field, value=value, least=least)
    return found


def start(settings: Settings, program: Command, form: Mapping[str, Any], owner: str = "") -> str:
    """Start what the form describes, for a browser; return HTML of what is wrong, or nothing."""
    try:
        made = command(settings, program, form)
        about = {"variants": list(form["variants"]), "suite": str(form["suite"] or SUITES[0]), "owner": owner}
        _begin(settings, made, about)
    except MadangError as error:
        return problem(error)
    return ""


def _begin(settings: Settings, made: Sequence[str], about: Mapping[str, Any]) -> None:
    if jobs.busy(settings, KIND):
        raise form_error("evaluate.busy")
    rows = [row for row in load_or_none(settings) or () if isinstance(row, Remote) and row.name in about["variants"]]
    jobs.start(settings, KIND, made, about, keys=[row.key_env for row in rows if row.key_env])


def act(settings: Settings, action: str, name: str, owner: str = "") -> str:
    """Answer a button on a job: cancel it, or start its command again; return HTML of what went wrong, or nothing.

    What a command has scored is not scored again.
    """
    try:
        if action == "cancel":
            jobs.cancel(jobs.find(settings, name))
        elif action == "again":
            old = jobs.find(settings, name)
            _begin(
                settings,
                [part.replace(str(old.folder), "{job}") for part in old.command],
                {**old.about, "owner": owner},
            )
    except MadangError as error:
        return problem(error)
    return ""


def html(settings: Settings, owner: str = "") -> str:
    """Return this browser's newest job, large, and all others in a line each."""
    found = jobs.listed(settings, KIND)
    newest = next((job for job in found if job.about.get("owner", "") in ("", owner)), None)
    lines = [_line(job) for job in found if job is not newest][:EARLIER]
    now = _now(newest) if newest else cards.nothing(texts, "evaluate.empty")
    return now + cards.earlier(both("evaluate.earlier"), lines)


def _now(job: Job) -> str:
    body = {"done": _done, "failed": _failed, "running": _running, "cancelling": _running}.get(job.state, _stopped)(job)
    log = cards.log(job, live=job.active)
    name = escaped(job.id)
    return f'<section class="job {job.state}" data-job="{name}"><header>{_head(job)}</header>{body}{log}</section>'


def _head(job: Job) -> str:
    word, name = both(f"evaluate.state_{job.state}"), str(job.about.get("suite", ""))
    return cards.head(job.state, word, name, job.about.get("variants", ()), duration(job.seconds))


def _line(job: Job) -> str:
    again = (
        cards.cancel(job, "cancel")
        if job.active
        else _again(job, "again" if job.state in ("cancelled", "lost") else "rerun")
    )
    return f'<div class="{job.state}">{_head(job)}{again}</div>'


def _again(job: Job, word: str = "rerun") -> str:
    return button("again", job.id, both(f"evaluate.{word}"))


def _running(job: Job) -> str:
    now = job.progress(Progress)
    step, numbers, share = both("evaluate.starting"), [], 0.0
    if now.variant:
        step = both("evaluate.running", variant=now.variant, shots=now.shots, step=_step(now.step))
        if now.runs > 1:
            numbers.append(both("evaluate.run_of", run=now.run, runs=now.runs))
        if now.total:
            numbers.append(both("evaluate.counted", done=f"{now.done:,}", total=f"{now.total:,}"))
            share = now.done / now.total
        if now.left_s:
            numbers.append(both("evaluate.left", time=duration(now.left_s)))
    return _each(now, share) + cards.under_way(step, share, numbers, cards.cancel(job, "cancel"))


def _each(now: Progress, share: float) -> str:
    """Return a bar for each run, in their order; one that is through is full. Nothing where there is one alone."""
    if len(now.plans) < 2:
        return ""
    rows = ""
    for place, (variant, shots) in enumerate(now.plans, start=1):
        done = 1.0 if place < now.run or (place == now.run and now.step in AFTER) else share * (place == now.run)
        name = f"{escaped(variant)} <small>{both('board.shots', shots=shots)}</small>"
        here = ' aria-current="step"' if place == now.run else ""
        rows += f"<li{here}><span>{name}</span>{bar(done)}</li>"
    return f'<ul class="each">{rows}</ul>'


def _step(step: str) -> str:
    """Return the runner's word for a step, and what it is busy with."""
    name, _, rest = step.partition(" ")
    if f"evaluate.step_{name}" not in texts:
        return step
    return Markup(both(f"evaluate.step_{name}") + escaped(f" {rest}" if rest else ""))


def _done(job: Job) -> str:
    return f"<footer>{tab_button('leaderboard', both('evaluate.open'))}{_again(job)}</footer>"


def _failed(job: Job) -> str:
    return card("evaluate.failed", *job.last_words()) + f"<footer>{_again(job)}</footer>"


def _stopped(job: Job) -> str:
    return f'<p class="step">{both("evaluate.kept")}</p><footer>{_again(job, "again")}</footer>'
