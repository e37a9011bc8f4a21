"""How exports look on the page: the newest or the one viewed with its verdicts, and a line for each earlier one."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from playground.escape import Markup, escaped, link
from playground.page import cards
from playground.page.markup import button, chat_button, tab_button, table
from playground.page.words import read
from playground.settings import Settings
from training.export.exports import State
from training.export.parity import Cause, Grade, Verdict
from training.export.plan import Wanted, bytes_of
from training.run.folders import Event, Progress
from training.run.memory import size
from training.ui import deleting, exporting, using
from training.ui.export_sizes import called
from training.ui.exporting import ExportRow
from training.ui.rows import Asked, can_be_asked, chosen, earlier
from training.words import both, card, texts

BUSY = ("preparing", "running", "cancelling", "elsewhere")
RESUMABLE = ("stopped", "lost", "failed")
PUSHING = "Pushing to "
QUANTIZING = "Quantizing to "
CONVERTING = "Converting to a "


def html(settings: Settings, viewed: str = "", owner: str = "") -> tuple[str, str]:
    """Return the export that is viewed, else this browser's newest; and all of the machine's, one line each."""
    found = exporting.everything(settings)
    shown, names = chosen(found, viewed, owner), exporting.in_catalogue(settings)
    lines = earlier(found, both("export.earlier"), lambda one: _line(one, one is shown))
    return _card(shown, names, partial(can_be_asked, settings)) if shown else _empty(settings), lines


def _empty(settings: Settings) -> str:
    """Say that nothing is exported yet, or that there is nothing to be exported."""
    key = "empty" if exporting.sources(settings) else "nothing"
    hidden = " data-none" if key == "nothing" else ""  # the style sheet then hides the form
    train = tab_button("train", both("export.to_train"), kind="go" if key == "nothing" else "")
    return cards.nothing(texts, f"export.{key}", f'<p class="more"{hidden}>{train}</p>')


def _card(one: ExportRow, names: Mapping[Path, str], can_chat: Asked) -> str:
    body = _under_way(one) if one.standing in BUSY else _ended(one)
    rest = (_artefacts(one, names, can_chat) + _verdicts(one) + _notes(one)) if one.folder else ""
    log = "" if one.job and one.job.active else cards.log(one.job, live=False)
    return f'<section class="job export {one.standing}"><header>{_head(one)}</header>{body}{rest}{log}</section>'


def _head(one: ExportRow) -> str:
    asked = one.asked
    about = one.job.about if one.job else {}
    name = asked.variant if asked else str(about.get("title", ""))
    chips = [called(artefact.label) for artefact in asked.wanted] if asked else _chips(str(about.get("to", "")))
    word = both(f"export.state_{one.standing}")
    return cards.head(one.standing, word, name, chips, cards.when(one.job, one.started))


def _chips(to: str) -> list[Markup]:
    kinds = [part.partition(":") for part in to.split(",") if part]
    return [called(level.upper() if level else "GPTQ" if kind == "gptq" else kind) for kind, _, level in kinds]


def _line(one: ExportRow, shown: bool) -> str:
    look = "" if shown else button("show", one.name, both("export.show"))
    gone = "" if one.standing in BUSY else deleting.press("export", one.name)
    return f'<div class="{one.standing}">{_head(one)}{look}{gone}</div>'


def _under_way(one: ExportRow) -> str:
    now = one.job.progress(Progress) if one.job and one.job.active else Progress()
    state = one.folder.state() if one.folder else State()
    fraction = now.fraction or state.fraction
    step = both("export.stopping") if one.standing == "cancelling" else stage(now.stage or state.stage)
    counted = [f"{100 * fraction:.0f}%"] if fraction else []
    return cards.under_way(step, fraction, counted, cards.cancel(one.job, "stop"))


def stage(name: str) -> str:
    """Return the step that `madang export` says it is at, in both languages."""
    if name.startswith(PUSHING):
        return both("export.at_pushing", repo=name.removeprefix(PUSHING))
    if name.startswith(QUANTIZING):
        return both("export.at_quantizing", level=name.removeprefix(QUANTIZING))
    if name.startswith(CONVERTING):
        return both("export.at_converting", level=name.removeprefix(CONVERTING).removesuffix(" GGUF"))
    key = "export.at_" + name.lower().replace(" ", "_")
    return both(key) if key in texts else escaped(name) if name else both("stage.starting")


def _ended(one: ExportRow) -> str:
    """Return how it ended, what that means, and what can be done now."""
    if one.standing == "parity":
        fault = card("export.parity_failed", both("export.parity_means"), both("export.parity_todo"))
        force = button("force", one.name, both("export.force"))
        return f"{fault}{cards.footer((), force + _again(one))}"
    if one.standing == "done":
        return f'<p class="step made">{both(f"export.{_made(one)}")}</p>{_pushed(one)}'
    if one.standing == "failed":
        message = card("export.failed", *one.error())
    else:
        message = f'<p class="step">{both(f"export.{one.standing}")}</p>'
    return f"{message}{cards.footer((), _again(one))}"


def _pushed(one: ExportRow) -> str:
    """Return where it lies on the Hub, why it does not, and the button that brings it there."""
    links = [link(event.url) for event in _events(one, "push")]
    failed = one.job is not None and one.job.state == "failed"
    fault = card("export.push_failed", *one.job.last_words()) if one.job and failed else ""
    push = button("push", one.name, both("export.push"))
    return f"{fault}{cards.events(links, 'events pushed')}{cards.footer((), push)}"


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


def _artefacts(one: ExportRow, names: Mapping[Path, str], can_chat: Asked) -> str:
    """Return one row per artefact: what it is, its size, its verdict, and the name under which it can be asked."""
    if one.asked is None or one.folder is None:
        return ""
    found = [(wanted, one.folder.path(wanted)) for wanted in one.asked.wanted]
    rows = "".join(_artefact(one, wanted, path, names.get(path, ""), can_chat) for wanted, path in found)
    place = f'<p class="soft place-of">{both("export.folder")} <code>{escaped(one.folder.folder)}</code></p>'
    elsewhere = using.html(one.folder)
    return f'<div class="artefacts">{rows}</div>{elsewhere}{place}'


def _artefact(one: ExportRow, wanted: Wanted, path: Path, listed: str, can_chat: Asked) -> str:
    there = path.exists()
    verdict = one.folder.verdicts().get(wanted.label) if one.folder else None
    name = listed if there else ""
    chat = chat_button(name, both("export.to_chat")) if name and can_chat(name) else ""
    judge = tab_button("evaluate", both("train.to_evaluate"), "", name)
    joined = f'<p class="joined">{both("export.joined")} <code>{escaped(name)}</code>{judge}{chat}</p>' if name else ""
    held = size(bytes_of(path)) if there else both("export.not_yet")
    return (
        f'<div class="artefact"><p><b>{called(wanted.label)}</b><span class="file">{escaped(path.name)}</span>'
        f"<small>{held}</small>{_badge(verdict)}</p>{_causes(verdict)}{joined}</div>"
    )


def _notes(one: ExportRow) -> str:
    return cards.events(read(event.message) for event in _events(one, "note"))


def _events(one: ExportRow, kind: str) -> list[Event]:
    return [event for event in one.folder.events() if event.kind == kind] if one.folder else []


def _badge(verdict: Verdict | None) -> str:
    """Return pass, warn or fail as a badge; nothing where the artefact was not judged."""
    if verdict is None:
        return ""
    word = "normal" if _is_normal(verdict) else verdict.verdict
    return f'<em class="verdict-{verdict.verdict}">{both(f"export.verdict_{word}")}</em>'


def _is_normal(verdict: Verdict) -> bool:
    """Return whether it passed and answers otherwise all the same, as its level does."""
    answers = verdict.step("answers")
    return verdict.verdict == "pass" and answers.get("same") != answers.get("answers")


def _causes(verdict: Verdict | None) -> str:
    """Return what probably broke, one sentence per cause."""
    if verdict is not None and _is_normal(verdict):
        answers, drift = verdict.step("answers"), verdict.drift
        top = f"{drift.same_top:.1%}" if drift else "–"
        numbers = {"same": answers["same"], "count": answers["answers"], "top": top}
        return f'<p class="soft">{both("export.normal_means", **numbers)}</p>'
    if verdict is None or verdict.verdict == "pass":
        return ""
    lines = "".join(f"<li>{_cause(cause, verdict.verdict)}</li>" for cause in verdict.causes)
    return f'<ul class="causes {verdict.verdict}">{lines}</ul>' if lines else ""


def _cause(cause: Cause, grade: Grade) -> str:
    """Return what the cause means and what helps; a milder sentence where there is one for a warning."""
    key = f"export.cause_{cause}"
    if grade == "warn" and f"{key}_warn" in texts:
        return both(f"{key}_warn")
    return f'{both(key)} <small class="remedy">{both(f"export.remedy_{cause}")}</small>'


def _verdicts(one: ExportRow) -> str:
    """Return the table of drifts, and all that the checks said."""
    verdicts = one.folder.verdicts() if one.folder else {}
    if not verdicts:
        return ""
    rows = [_row(label, verdict) for label, verdict in verdicts.items() if verdict.drift]
    drift = ""
    if rows:
        head = (both(f"export.drift_{name}") for name in ("build", "kl", "top", "perplexity", "answers"))
        drift = f'<h4>{both("export.drift")}</h4><div class="drift">{table(rows, head)}</div>'
        drift += f'<p class="soft">{both("export.drift_info")}</p>'
    return drift + _arrived(verdicts) + "".join(_lines(label, verdict) for label, verdict in verdicts.items())


def _row(label: str, verdict: Verdict) -> tuple[str, ...]:
    drift, answers = verdict.drift, verdict.step("answers")
    assert drift is not None
    name = f"<b>{called(label)}</b><small>{both('export.drift_against', name=drift.against)}</small>"
    same = f"{answers['same']} / {answers['answers']}" if "same" in answers else "–"
    return name, f"{drift.mean_kl:.4f}", f"{drift.same_top:.1%}", f"×{drift.perplexity_ratio:.3f}", same


def _arrived(verdicts: Mapping[str, Verdict]) -> str:
    """Return the table of what each build holds of the adapter, where rounding swallowed some of it in one."""
    if not any("swallowed" in verdict.causes for verdict in verdicts.values()):
        return ""
    found = [(label, row) for label, verdict in verdicts.items() if (row := verdict.arrived)]
    rows = [(f"<b>{called(one)}</b>", f"{row.all:.0%}", _shares(row.types), _shares(row.finer)) for one, row in found]
    head = (both("export.drift_build"), *(both(f"export.arrived_{name}") for name in ("share", "types", "finer")))
    shown = f'<h4>{both("export.arrived")}</h4><div class="drift">{table(rows, head)}</div>'
    return f'{shown}<p class="soft">{both("export.arrived_info")}</p>'


def _shares(shares: Mapping[str, float]) -> str:
    return escaped(", ".join(f"{kind} {share:.0%}" for kind, share in shares.items()) or "–")


def _lines(label: str, verdict: Verdict) -> str:
    lines = "".join(f'<li lang="en">{escaped(line)}</li>' for line in verdict.lines)
    rows = _steps(verdict) + lines
    if not rows:
        return ""
    shown = " open" if verdict.verdict == "fail" else ""
    summary = both("export.compared", name=called(label))
    return f'<details class="compared"{shown}><summary>{summary}</summary><ul>{rows}</ul></details>'


def _steps(verdict: Verdict) -> str:
    """Return what each step compared, in both languages; the lines that follow say it in English, in every detail."""
    files, text, answers = (verdict.step(name) for name in ("files", "text", "answers"))
    lines = []
    if "tensors" in files:
        lines.append(both("export.step_files", count=files["tensors"]))
    if "tokens" in text:
        lines.append(both("export.step_text", conversations=text["conversations"], tokens=text["tokens"]))
    if drift := verdict.drift:
        lines.append(both("export.step_numbers", kl=f"{drift.mean_kl:.4f}", top=f"{drift.same_top:.1%}"))
    if "same" in answers:
        lines.append(both("export.step_answers", count=answers["answers"], same=answers["same"]))
    return "".join(f"<li>{line}</li>" for line in lines)
