"""What a run would be, before it is one: `madang train --dry-run` as a job, and what it told as HTML."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from playground.escape import Markup, escaped
from playground.page.components import Command
from playground.settings import Settings
from playground.system.jobs import Job
from playground.system.progress import OPTION
from training.run.memory import size
from training.ui import form, reports
from training.ui.reports import Report
from training.words import both, texts

KIND = "train-check"
SMALL = 0.02
"""Parts of the memory below this share are not named."""


def command(settings: Settings, program: Command, values: form.Form) -> tuple[list[str], str]:
    """Return the command that dry-runs the form's recipe, and the recipe's name."""
    recipe, path = form.recipe(settings, values)
    made = [*program, "--data", str(settings.data), "train", str(path), "--dry-run", "--json"]
    return [*made, *OPTION], recipe.name


def start(settings: Settings, program: Command, values: form.Form, owner: str = "", before: str = "") -> str:
    """Check the form's run, for a browser and instead of the job that it saw before; return the job's id."""
    made, name = command(settings, program, values)
    return reports.start(settings, KIND, made, {"title": name, "form": dict(values), "owner": owner}, before)


def html(settings: Settings, name: str) -> str:
    """Return the check of a job, or nothing."""
    return reports.html(reports.find(settings, name), "check", _report)


def _report(job: Job, report: Report) -> str:
    bars = "".join(_bar(place) for place in report["memory"])
    return (
        f"{facts((both(f'check.{name}'), value) for name, value in _facts(report))}<h4>{both('check.memory')}</h4>"
        f'<div class="memory">{bars}</div>{_remedies(report)}{_yaml(report)}'
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return names and what is known of them as a list of two columns; all of it HTML."""
    return f'<dl class="facts">{"".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)}</dl>'


def _facts(report: Report) -> Iterator[tuple[str, Markup]]:
    counted, plan, recipe = report["parameters"], report["plan"], report["recipe"]
    trained, total = (f"{counted[name]:,}" for name in ("trainable", "total"))
    share = f"{100 * counted['share']:.2f}"
    yield "trainable", both("check.of", trained=trained, total=total, share=share, rank=plan["rank"])
    if untied := counted.get("untied"):
        yield "tied", both("check.parts", count=f"{untied:,}")
    if coming := report.get("download"):
        yield "weights", both("check.to_come", size=size(coming["size"]), free=size(coming["free"]))
    held = f"{report['held_out']:,}"
    rows = f"{report['rows']:,}"
    yield "data", both("check.held" if report["held_out"] else "check.rows", rows=rows, held=held)
    batch, devices = plan["batch"] * plan["accumulation"], recipe["devices"]
    numbers = {"batch": plan["batch"], "accumulation": plan["accumulation"], "devices": devices}
    yield "steps", both("check.steps_of", steps=f"{report['steps']:,}")
    yield "effective", both("check.on_many" if devices > 1 else "check.batch_of", all=batch * devices, **numbers)
    yield "length", both("check.tokens", count=f"{plan['max_length']:,}")
    yield "engine", Markup("Unsloth" if report["engine"] == "unsloth" else "PEFT + TRL")


def _bar(place: Mapping[str, Any]) -> str:
    """Return one kind of memory, and the parts of it that are worth naming."""
    parts = sorted(place["parts"], key=lambda part: -part["size"])
    named = " · ".join(
        f"{_part(part['name'])} {size(part['size'])}" for part in parts if part["size"] >= SMALL * place["need"]
    )
    needs = both("check.need", need=size(place["need"]), have=size(place["have"]))
    drawn = [part["size"] for part in parts]
    return room(place["place"], place["need"], place["have"], place["fits"], needs, drawn, f"<small>{named}</small>")


def room(name: str, need: int, have: int, fits: bool, needs: str, parts: Iterable[int], small: str) -> str:
    """Return what is needed of a memory or disk against what is free, in bytes, as a bar of its parts.

    `needs` says it in words and `small` stands below, both HTML.
    """
    whole = max(need, have, 1)
    drawn = "".join(f'<i style="width: {100 * part / whole:.2f}%"></i>' for part in parts)
    over = "" if fits else f' style="--free: {100 * have / whole:.2f}%"'
    kind, verdict = ("fits", "check.fits") if fits else ("over", "check.fits_not")
    words = f"<strong>{both(f'check.{name}')}</strong><span>{needs}</span><b>{both(verdict)}</b>"
    return f'<div class="place {kind}"><p>{words}</p><div class="stack"{over}>{drawn}</div>{small}</div>'


def _part(name: str) -> str:
    key = "part." + name.replace(" ", "_")
    return both(key) if key in texts else escaped(name)


def _remedies(report: Report) -> str:
    """Return what to change until it fits, in order."""
    found = report.get("remedies") or ()
    if not found:
        return ""
    rows = "".join(f"<li>{_remedy(one)}</li>" for one in found)
    return (
        f'<h4>{both("check.remedies")}</h4><ol class="remedies">{rows}</ol><p class="soft">{both("check.ladder")}</p>'
    )


def _remedy(one: Mapping[str, Any]) -> str:
    length, verdict = f"{one['length']:,}", "then_fits" if one["fits"] else "not_enough"
    words = both("remedy." + one["name"], batch=one["batch"], length=length)
    return f"{words} <small>{both(f'check.{verdict}')}</small>"


def _yaml(report: Report) -> str:
    text, name = report["yaml"], report["recipe"]["name"].replace("/", "-").replace(":", "-")
    link = (
        f'<a class="download" download="{escaped(name)}.yaml" '
        f'href="data:text/yaml;charset=utf-8,{quote(text)}">{both("check.download")}</a>'
    )
    return f"<details><summary>{both('check.recipe')}</summary><pre>{escaped(text)}</pre>{link}</details>"
