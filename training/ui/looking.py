"""A look at the training data: `madang data check` as a job, and its report as HTML. Reads no data itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playground.escape import escaped
from playground.page.components import Command
from playground.page.markup import button
from playground.page.words import bilingual
from playground.settings import Settings
from playground.system import jobs
from playground.system.jobs import Job
from training.data.findings import listed
from training.ui import columns, form, reports
from training.ui.plots import histogram
from training.ui.reports import Report
from training.words import both, card, texts, words

KIND = "train-data"
SHOWN = 900
"""Characters of a rendered row."""


def command(settings: Settings, program: Command, values: form.Form, fix: Path | None = None) -> list[str]:
    """Return the `madang data check` of the form's data, as its recipe would read them."""
    recipe, _ = form.recipe(settings, values)
    data = recipe.data
    made = [*program, "--data", str(settings.data), "data", "check", data.source, "--json"]
    made += ["--model", recipe.model, "--method", recipe.method, "--split", data.split, "--format", data.format]
    made += [part for field, name in data.columns.items() for part in ("--column", f"{field}={name}")]
    made += ["--prompt-format", data.prompt_format] if data.prompt_format else []
    if length := recipe.trainer.get("max_length"):
        made += ["--max-length", str(length)]
    return [*made, "--fix", str(fix)] if fix else made


def start(settings: Settings, program: Command, values: form.Form, owner: str = "", before: str = "") -> str:
    """Look at the form's data, for a browser and instead of the job that it saw before; return the job's id."""
    made = command(settings, program, values)
    about = {"title": _title(values), "form": dict(values), "owner": owner}
    return reports.start(settings, KIND, made, about, before)


def fix(settings: Settings, program: Command, name: str, owner: str = "") -> str:
    """Look once more at what a job looked at, and write a cleaned copy; return the new job's id."""
    values = jobs.find(settings, name).about["form"]
    stem = Path(str(values["source"]).rstrip("/")).stem
    target = settings.data / form.UPLOADS / f"{stem.removesuffix('-clean')}-clean.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    made = command(settings, program, values, target)
    return reports.start(settings, KIND, made, {"title": _title(values), "form": values, "owner": owner}, name)


def read_as(settings: Settings, program: Command, before: str, picked: str, owner: str = "") -> tuple[str, str]:
    """Look again at a job's data, its columns read as picked (JSON); return the job's id and the form's field."""
    values = dict(jobs.find(settings, before).about["form"])
    columns = "\n".join(f"{field}={column}" for field, column in dict(json.loads(picked)).items() if column)
    return start(settings, program, values | {"columns": columns}, owner, before), columns


def _title(values: form.Form) -> str:
    source = str(values["source"]).strip()
    return Path(source).name if Path(source).exists() else source


def html(settings: Settings, name: str, source: object = None) -> str:
    """Return the look of a job; nothing where there is none, or where the form names another `source` by now."""
    job = reports.find(settings, name)
    looked_at = job.about.get("form", {}).get("source") if job else None
    if source is not None and _stripped(looked_at) != _stripped(source):
        return ""
    return reports.html(job, "look", _report)


def _stripped(source: object) -> str:
    return str(source or "").strip()


def _report(job: Job, report: Report) -> str:
    """Return the whole report; of a file in no known format what is wrong, and the form that names its columns."""
    if report.get("unread"):
        return card("look.failed", *job.last_words()) + columns.html(job, report)
    verdict = "refused" if report["fatal"] else "usable"
    count = f"{report['rows']:,}"
    facts = f"<span>{both('look.format', format=report['format'])}</span><span>{both('look.rows', count=count)}</span>"
    head = f'<p class="facts"><b class="verdict-{verdict}">{both(f"look.{verdict}")}</b>{facts}</p>'
    found = _fixed(report) + _findings(job, report) + columns.html(job, report)
    return head + found + _lengths(report) + _previews(report)


def _fixed(report: Report) -> str:
    fixed = report.get("fixed")
    if not fixed:
        return ""
    use = button("use", fixed["file"], both("look.use"), "go")
    count = f"{fixed['rows']:,}"
    return f'<p class="fixed">{both("look.fixed", file=Path(fixed["file"]).name, count=count)} {use}</p>'


def _findings(job: Job, report: Report) -> str:
    found = report["findings"]
    if not found:
        return f'<p class="soft">{both("look.clean")}</p>'
    rows = "".join(f'<li class="{escaped(finding["severity"])}">{_finding(finding)}</li>' for finding in found)
    fixable = any(finding["fix"] for finding in found) and not report.get("fixed")
    cleaned = f"<footer>{button('fix', job.id, both('look.fix'))}</footer>" if fixable else ""
    return f'<ul class="findings">{rows}</ul>{cleaned}'


def _finding(finding: Mapping[str, Any]) -> str:
    """Return a finding in the check's English or in our Korean, with our words for the remedy where there are any."""
    key = f"found.{finding['check']}"
    where = listed(finding["rows"])
    message, todo = finding["message"], finding["remedy"]
    if key in texts:
        english, about = message, finding.get("about", "")
        message = bilingual(lambda code: words("ko")[key].format(about=about) if code == "ko" else english)
        todo = both(f"{key}_todo")
    rows = f"<small>{both('look.where', rows=_where(finding['rows'], where))}</small>" if where else ""
    severity = both(f"look.{finding['severity']}")
    return f"<em>{severity}</em><div><strong>{escaped(message)}</strong>{rows}<p>{escaped(todo)}</p></div>"


def _where(rows: list[int], where: str) -> str:
    first, _, more = where.partition(" and ")
    if not more:
        return first
    return both("look.and_more", first=first, more=f"{len(rows) - first.count(',') - 1:,}")


def _lengths(report: Report) -> str:
    lengths = report["lengths"]
    if not lengths:
        return ""
    numbers = {name: f"{round(lengths[name]):,}" for name in ("median", "p95", "p99", "maximum", "recommended")}
    message = both("look.lengths", **numbers)
    use = button("set", f"max_length={lengths['recommended']}", both("look.use_length", length=numbers["recommended"]))
    drawn = histogram(lengths["histogram"]["edges"], lengths["histogram"]["counts"], lengths["recommended"])
    return f'<h4>{both("look.length")}</h4>{drawn}<p class="soft">{message}</p><footer>{use}</footer>'


def _previews(report: Report) -> str:
    shown = "".join(
        f"<figure><figcaption>{_row(one)}</figcaption><pre>{_parts(one['parts'])}</pre></figure>"
        for one in report["previews"]
    )
    if not shown:
        return ""
    return f'<h4>{both("look.previews")}</h4><p class="soft">{both("look.learnt")}</p><div class="rows">{shown}</div>'


def _row(one: Mapping[str, Any]) -> str:
    return both(f"look.row_{one['said']}" if one.get("said") else "look.row", row=one["row"])


def _parts(parts: list[Mapping[str, Any]]) -> str:
    made, left = [], SHOWN
    for part in parts:
        text = part["text"][:left]
        left -= len(text)
        made.append(f"<mark>{escaped(text)}</mark>" if part["learnt"] else escaped(text))
        if left <= 0:
            return "".join(made) + " …"
    return "".join(made)
