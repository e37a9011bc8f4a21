"""How exports look on the page: the newest one or the one viewed, and a line for each of the earlier ones."""

from collections.abc import Mapping
from pathlib import Path

from playground.page import cards
from playground.page.markup import Markup, button, chat_button, escaped, tab_button
from playground.settings import Settings
from training.export.exports import State
from training.export.plan import Wanted, bytes_of
from training.run.folders import Progress
from training.run.memory import size
from training.ui import export_verdicts, exporting
from training.ui.export_sizes import called
from training.ui.exporting import ExportRow
from training.ui.rows import chosen, earlier
from training.words import both, card, texts

RESUMABLE = ("stopped", "lost", "failed")
COLOURS = {"preparing": "running", "elsewhere": "running", "stopped": "cancelled", "parity": "failed"}
"""The states whose colours others wear: those of any job."""
PUSHING = "Pushing to "
QUANTIZING = "Quantizing to "
CONVERTING = "Converting to a "


def html(settings: Settings, viewed: str = "") -> tuple[str, str]:
    """Return the export that is viewed, else the newest; and the earlier ones, a line each."""
    found = exporting.everything(settings)
    if not found:
        return _empty(settings), ""
    shown, names = chosen(found, viewed), exporting.in_catalogue(settings)
    return _card(shown, names), earlier(found, both("export.earlier"), lambda one: _line(one, one is shown))


def _empty(settings: Settings) -> str:
    """Nothing exported yet, or nothing there to be exported."""
    key = "empty" if exporting.sources(settings) else "nothing"
    hidden = " data-none" if key == "nothing" else ""  # the style sheet then hides the form
    train = tab_button("train", both("export.to_train"), kind="go" if key == "nothing" else "")
    return cards.nothing(texts, f"export.{key}", f'<p class="more"{hidden}>{train}</p>')


def _card(one: ExportRow, names: Mapping[Path, str]) -> str:
    busy = one.standing in ("preparing", "running", "cancelling", "elsewhere")
    body = _under_way(one) if busy else _ended(one)
    rest = (_artefacts(one, names) + export_verdicts.html(one) + _notes(one)) if one.folder else ""
    log = "" if one.job and one.job.active else cards.log(one.job, live=False)
    return f'<section class="job export {one.standing}"><header>{_head(one)}</header>{body}{rest}{log}</section>'


def _head(one: ExportRow) -> str:
    asked = one.asked
    about = one.job.about if one.job else {}
    name = asked.variant if asked else str(about.get("title", ""))
    chips = [called(artefact.label) for artefact in asked.wanted] if asked else _chips(str(about.get("to", "")))
    colour, word = COLOURS.get(one.standing, one.standing), both(f"export.state_{one.standing}")
    return cards.head(colour, word, name, chips, cards.when(one.job, one.started))


def _chips(to: str) -> list[Markup]:
    kinds = [part.partition(":") for part in to.split(",") if part]
    return [called(level.upper() if level else "GPTQ" if kind == "gptq" else kind) for kind, _, level in kinds]


def _line(one: ExportRow, shown: bool) -> str:
    look = "" if shown else button("show", one.name, both("export.show"))
    return f'<div class="{one.standing}">{_head(one)}{look}</div>'


def _under_way(one: ExportRow) -> str:
    now = one.job.progress(Progress) if one.job and one.job.active else Progress()
    state = one.folder.state() if one.folder else State()
    fraction = now.fraction or state.fraction
    said = both("export.stopping") if one.standing == "cancelling" else stage(now.stage or state.stage)
    stop = cards.cancel(one.job, "stop") if one.job else ""
    return cards.under_way(said, fraction, [f"{100 * fraction:.0f}%"] if fraction else [], stop)


def stage(told: str) -> str:
    """Return the step that `madang export` says it is at, in both languages."""
    if told.startswith(PUSHING):
        return both("export.at_pushing", repo=told.removeprefix(PUSHING))
    if told.startswith(QUANTIZING):
        return both("export.at_quantizing", level=told.removeprefix(QUANTIZING))
    if told.startswith(CONVERTING):
        return both("export.at_converting", level=told.removeprefix(CONVERTING).removesuffix(" GGUF"))
    key = "export.at_" + told.lower().replace(" ", "_")
    return both(key) if key in texts else escaped(told) if told else both("stage.starting")


def _ended(one: ExportRow) -> str:
    """Return how it ended, what that means, and what can be done now."""
    if one.standing == "parity":
        told = card("export.parity_failed", both("export.parity_means"), both("export.parity_todo"))
        force = button("force", one.name, both("export.force"))
        return f"{told}{cards.footer((), force + _again(one))}"
    if one.standing == "done":
        return f'<p class="step made">{both(f"export.{_made(one)}")}</p>{_pushed(one)}'
    if one.standing == "failed":
        message = card("export.failed", *one.error())
    else:
        message = f'<p class="step">{both(f"export.{one.standing}")}</p>'
    return f"{message}{cards.footer((), _again(one))}"


def _pushed(one: ExportRow) -> str:
    """Return where it lies on the Hub, why it does not, and the button that brings it there."""
    links = ""
    for event in one.folder.events() if one.folder else []:
        if event.get("kind") == "push":
            url = escaped(event.get("url", ""))
            links += f'<li><a href="{url}" target="_blank" rel="noopener">{url.removeprefix("https://")}</a></li>'
    listed = f'<ul class="events pushed">{links}</ul>' if links else ""
    failed = one.job is not None and one.job.state == "failed"
    fault = card("export.push_failed", *one.job.last_words()) if one.job and failed else ""
    push = button("push", one.name, both("export.push"))
    return f"{fault}{listed}{cards.footer((), push)}"


def _made(one: ExportRow) -> str:
    """Return what is said of one that is done, by its worst verdict."""
    found = {verdict.verdict for verdict in one.folder.verdicts().values()} if one.folder else set()
    if "fail" in found:
        return "forced"
    return "made_warned" if "warn" in found else "made" if found else "made_unjudged"


def _again(one: ExportRow) -> str:
    if one.folder is None:
        return ""
    key, kind = ("export.resume", "go") if one.standing in RESUMABLE else ("export.retry", "")
    return button("resume", one.name, both(key), kind)


def _artefacts(one: ExportRow, names: Mapping[Path, str]) -> str:
    """Return one row per artefact: what it is, its size, its verdict, and the name under which it can be asked."""
    if one.asked is None or one.folder is None:
        return ""
    rows = "".join(_artefact(one, wanted, one.folder.path(wanted), names) for wanted in one.asked.wanted)
    place = f'<p class="soft place-of">{both("export.folder")} <code>{escaped(one.folder.folder)}</code></p>'
    return f'<div class="artefacts">{rows}</div>{place}'


def _artefact(one: ExportRow, wanted: Wanted, path: Path, names: Mapping[Path, str]) -> str:
    there = path.exists()
    verdict = one.folder.verdicts().get(wanted.label) if one.folder else None
    name = names.get(path, "") if there else ""
    chat = chat_button(name, both("export.to_chat"))
    joined = f'<p class="joined">{both("export.joined")} <code>{escaped(name)}</code>{chat}</p>' if name else ""
    held = size(bytes_of(path)) if there else both("export.not_yet")
    return (
        f'<div class="artefact"><p><b>{called(wanted.label)}</b><span class="file">{escaped(path.name)}</span>'
        f"<small>{held}</small>{export_verdicts.badge(verdict)}</p>{export_verdicts.causes(verdict)}{joined}</div>"
    )


def _notes(one: ExportRow) -> str:
    told = [event for event in one.folder.events() if event.get("kind") == "note"] if one.folder else []
    rows = "".join(f"<li>{escaped(event.get('message', ''))}</li>" for event in told)
    return f'<ul class="events">{rows}</ul>' if rows else ""
