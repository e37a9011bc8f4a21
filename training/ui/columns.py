"""The form that says which column of a file is which, as HTML beside the look at its data."""

from collections.abc import Mapping
from typing import Any

from playground.escape import escaped
from playground.page.markup import button
from playground.system.jobs import Job
from training.data.names import meant
from training.methods import METHODS
from training.words import both

FIELDS = {
    "conversation": ("instruction", "output", "input", "system", "messages"),
    "text": ("text",),
    "preference": ("prompt", "chosen", "rejected", "system"),
    "rated": ("prompt", "completion", "label", "system"),
}
"""Kind of rows -> the fields that its columns are read as."""


def html(job: Job, report: Mapping[str, Any]) -> str:
    """Return a list for each field of what the method learns from; open where the file could not be read."""
    found, form = report.get("columns"), job.about.get("form") or {}
    way = METHODS.get(str(form.get("method")))
    if not found or way is None:
        return ""
    said = dict(line.partition("=")[::2] for line in str(form.get("columns") or "").splitlines())
    fields = "".join(_field(name, said.get(name) or meant(name, list(found)), found) for name in FIELDS[way.kinds[0]])
    press = button("columns", job.id, both("columns.read"), "go")
    shown = " open" if report.get("unread") else ""
    summary = f"<summary>{both('columns.heading')}</summary>"
    return f'<details class="columns" data-picks{shown}>{summary}<div>{fields}</div><footer>{press}</footer></details>'


def _field(name: str, chosen: str, columns: Mapping[str, str]) -> str:
    """Return the list of a field: no column, or one of the file's with what it holds."""
    options = "".join(
        f'<option value="{escaped(column)}"{" selected" if column == chosen else ""}>{_shown(column, sample)}</option>'
        for column, sample in columns.items()
    )
    label = f"<span>{both(f'columns.{name}')} <code>{name}</code></span>"
    return f'<label>{label}<select data-field="{name}"><option value="">–</option>{options}</select></label>'


def _shown(column: str, sample: str) -> str:
    return f"{escaped(column)} · {escaped(sample)}" if sample else escaped(column)
