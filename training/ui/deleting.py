"""Runs, exports and uploads that go: what is asked before, and what keeps one. Nothing goes that a variant needs."""

from pathlib import Path

from playground.catalogue.variants import Stored, load_or_none
from playground.escape import escaped
from playground.page.markup import button
from playground.settings import Settings
from playground.system import jobs
from playground.system.atomic import remove
from training.export import exports
from training.export.exports import Export
from training.export.plan import bytes_of
from training.run import runs
from training.run.memory import size
from training.run.runs import Run
from training.ui import form
from training.ui.rows import folder_of
from training.words import both, form_error

WORKING = ("train", "train-check", "train-data", "export")
"""Kinds of jobs that read an upload, or work on a run or an export."""


def press(kind: str, name: str) -> str:
    """Return the button that asks whether a run, an export or an upload shall go."""
    return button("delete", f"{kind} {name}", both("delete.press"))


def act(settings: Settings, action: str, named: str) -> str:
    """Ask whether it shall go, or do what was answered (`delete_yes`, `delete_no`); return HTML of the question."""
    if action == "delete":
        return question(settings, named)
    if action == "delete_yes":
        delete(settings, named)
    return ""


def question(settings: Settings, named: str) -> str:
    """Return what would go and how large it is, with a button for yes and one for no. Raises where it must stay."""
    path = _free(settings, named)
    said = both("delete.ask", name=path.name, size=size(bytes_of(path)))
    yes, no = button("delete_yes", named, both("delete.yes"), "cancel"), button("delete_no", named, both("delete.no"))
    return f'<div class="card asking" role="alert"><p>{said}</p><footer>{yes}{no}</footer></div>'


def delete(settings: Settings, named: str) -> None:
    """Delete it, after the question. Raises where it must stay, or some of it stayed."""
    path = _free(settings, named)
    remove(path)
    if path.exists():
        raise form_error("delete.left", path=path)


def uploads(settings: Settings) -> str:
    """Return the uploaded files with their sizes, folded away; nothing where there are none."""
    folder = settings.data / form.UPLOADS
    files = sorted(path for path in folder.glob("*") if path.is_file()) if folder.is_dir() else []
    rows = "".join(
        f"<div><span>{escaped(file.name)}</span><small>{size(bytes_of(file))}</small>{press('upload', file.name)}</div>"
        for file in files
    )
    count = {"count": len(files), "size": size(sum(map(bytes_of, files)))}
    summary = f"<summary>{both('delete.uploads', **count)}</summary>"
    return f'<details class="uploads">{summary}<div class="jobs">{rows}</div></details>' if files else ""


def _free(settings: Settings, named: str) -> Path:
    """Return the place of `KIND NAME`; raise where it is not there, is worked on, or holds what a variant is."""
    kind, _, name = named.partition(" ")
    parents = {
        "run": runs.folder(settings),
        "export": exports.folder(settings),
        "upload": settings.data / form.UPLOADS,
    }
    parent = parents.get(kind, Path())
    path = parent / name
    if kind not in parents or name in ("", ".", "..") or path.parent != parent or path.is_symlink():
        raise form_error("delete.gone", name=name)
    if not path.exists():
        raise form_error("delete.gone", name=name)
    if _is_worked_on(settings, kind, path):
        raise form_error("delete.busy", name=name)
    if needed := _variants(settings, path):
        raise form_error("delete.needed", name=name, variants=", ".join(needed))
    return path


def _is_worked_on(settings: Settings, kind: str, path: Path) -> bool:
    if (kind == "run" and Run(path).held) or (kind == "export" and Export(path).held):
        return True
    active = [job for job in jobs.listed(settings) if job.active and job.kind in WORKING]
    if kind == "upload":
        return bool(active)
    return any(folder_of(job, kind) in ("", path.name, str(path)) for job in active)


def _variants(settings: Settings, path: Path) -> list[str]:
    """Return the variants that lie there; a catalogue that cannot be read may have some, so it raises."""
    found = load_or_none(settings)
    if found is None:
        raise form_error("delete.unknown", name=path.name)
    whole = path.resolve()
    local = [one for one in found if isinstance(one, Stored) and one.is_local]
    return [one.name for one in local if whole in (one.path.resolve(), *one.path.resolve().parents)]
