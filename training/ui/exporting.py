"""Exports on the page: what the form asks for, begun and taken up again as jobs, and how each stands. Draws nothing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from playground.catalogue.variants import HUB_ID, Adapter, load_or_none
from playground.errors import MadangError
from playground.page.components import Command
from playground.settings import Settings
from playground.system import jobs
from playground.system.progress import OPTION
from training.export import exports, plan, registering
from training.export.exports import Asked, Export
from training.export.plan import Wanted
from training.run import runs
from training.ui.rows import Row
from training.words import form_error

KIND = "export"
GRACE_S = 30.0
"""How long a cancelled export may take to put away what it was building."""
FORMATS = ("adapter", "merged", "gptq")
LEVELS = ("q4_k_m", "q5_k_m", "q8_0", "f16")
BEGIN: Mapping[str, Any] = {
    **{"formats": [], "levels": ["q4_k_m"], "others": "", "dtype": "own", "name": ""},
    **{"repo": "", "seen": "private", "replace": False, "base": ""},
}
"""What the fields begin as."""
Form = Mapping[str, Any]
Standing = Literal["preparing", "running", "cancelling", "elsewhere", "done", "parity", "failed", "stopped", "lost"]


class ExportRow(Row[Export]):
    """An export on the page."""

    @property
    def asked(self) -> Asked | None:
        """What was asked; None before there is a folder, or where it cannot be read."""
        with suppress(ValueError):
            return self.folder.asked() if self.folder else None
        return None

    @property
    def standing(self) -> Standing:
        """How it stands: the job says whether it goes on, the folder how it ended."""
        if self.job and self.job.active:
            return "cancelling" if self.job.state == "cancelling" else "running" if self.folder else "preparing"
        if self.folder is None:
            return "failed" if self.job and self.job.state == "failed" else "stopped"
        state = self.folder.state()
        if state.status == "done":
            return "done"
        if state.status != "failed":
            return "elsewhere" if self.folder.held else "stopped" if self._cancelled else "lost"
        if self._cancelled or state.outcome == "stopped":
            return "stopped"
        return "parity" if state.outcome == "parity" else "failed"

    @property
    def failed(self) -> list[str]:
        """Labels of what behaves otherwise than its source."""
        verdicts = self.folder.verdicts() if self.folder else {}
        return [label for label, verdict in verdicts.items() if verdict.verdict == "fail"]

    @property
    def _cancelled(self) -> bool:
        return self.job is not None and self.job.state == "cancelled"


def everything(settings: Settings) -> list[ExportRow]:
    """Return every export, the newest first; the jobs that came to no folder with them."""
    folders = {str(export.folder): export for export in exports.listed(settings)}
    return ExportRow.joined(folders, jobs.listed(settings, KIND), "export")


def sources(settings: Settings) -> list[str]:
    """List what can be exported: adapters, the newest runs' first, and finished runs that are in no catalogue."""
    finished = [(run.name, run.state()) for run in runs.listed(settings)]
    trained = [state.variant or name for name, state in finished if state.status == "done"]
    found = load_or_none(settings)
    if found is None:
        return []
    adapters = [variant.name for variant in found if isinstance(variant, Adapter)]
    runs_alone = {name for name, _ in finished}
    offered = [name for name in trained if name in adapters or name in runs_alone]
    return list(dict.fromkeys([*offered, *adapters]))


def wanted(form: Form) -> tuple[Wanted, ...]:
    """Return the artefacts that are ticked, GPTQ, which takes longest, last; a level that does not exist is raised."""
    formats, levels = list(form["formats"] or ()), list(form["levels"] or ())
    levels += [part.strip().lower() for part in str(form["others"] or "").split(",") if part.strip()]
    named = [name for name in ("adapter", "merged") if name in formats]
    named += [f"gguf:{level.removeprefix('gguf:')}" for level in levels]
    named += ["gptq"] if "gptq" in formats else []
    if not named:
        raise form_error("export.no_format")
    return plan.parse(",".join(named))


def text(artefacts: Sequence[Wanted]) -> str:
    """Return the artefacts as --to takes them."""
    return ",".join(f"gguf:{one.level}" if one.kind == "gguf" else one.kind for one in artefacts)


def command(settings: Settings, program: Command, form: Form) -> list[str]:
    """Return the `madang export` of what the form asks for."""
    if not form["source"]:
        raise form_error("export.no_source")
    made = _verb(settings, program, str(form["source"]), wanted(form))
    made += ["--dtype", str(form["dtype"])] if form["dtype"] in ("bf16", "fp16") else []
    name = str(form["name"] or "").strip()
    made += ["--name", name] if name else []
    made += pushing(form)
    return [*made, *OPTION]


def pushing(form: Form) -> list[str]:
    """Return the options that push to the form's repository, if it names one. The token is never among them."""
    repo, base = (str(form[name] or "").strip() for name in ("repo", "base"))
    if not repo:
        return []
    if not HUB_ID.fullmatch(repo):
        raise form_error("export.bad_repo", repo=repo)
    made = ["--push", repo, *(["--public"] if form["seen"] == "public" else [])]
    return made + (["--replace"] if form["replace"] else []) + (["--base", base] if base else [])


def start(settings: Settings, program: Command, form: Form, owner: str = "") -> None:
    """Begin the export that the form describes, for a browser."""
    _refuse_second(settings)
    made = command(settings, program, form)
    about = {"title": str(form["source"]), "to": text(wanted(form)), "owner": owner}
    jobs.start(settings, KIND, made, about, GRACE_S)


def again(settings: Settings, program: Command, name: str, *options: str, owner: str = "") -> None:
    """Go on with an export as it was asked for; `--force` puts what failed parity into the catalogue all the same."""
    _refuse_second(settings)
    export = exports.find(settings, name)
    try:
        asked = export.asked()
    except ValueError as error:
        raise MadangError(str(error), "Begin it anew.") from error
    made = _verb(settings, program, asked.source, asked.wanted) + ["--dtype", asked.dtype, "--name", asked.stem]
    made += ["--imatrix", asked.imatrix] if asked.imatrix else []
    about = {"title": asked.variant, "to": text(asked.wanted), "export": str(export.folder), "owner": owner}
    jobs.start(settings, KIND, [*made, *options, *OPTION], about, GRACE_S)


def push(settings: Settings, program: Command, name: str, form: Form, owner: str = "") -> None:
    """Upload a finished export to the form's repository. What failed parity and is in the catalogue goes along."""
    options = pushing(form)
    if not options:
        raise form_error("export.no_repo")
    export = exports.find(settings, name)
    forced = export.state().status == "done" and ExportRow(export, None).failed
    folder = ["--out", str(export.folder)]  # this one, not the newest of its kind
    again(settings, program, name, *folder, *options, *(["--force"] if forced else []), owner=owner)


def _verb(settings: Settings, program: Command, source: str, artefacts: Sequence[Wanted]) -> list[str]:
    return [*program, "--data", str(settings.data), "export", source, "--to", text(artefacts)]


def _refuse_second(settings: Settings) -> None:
    if jobs.busy(settings, KIND):
        raise form_error("export.busy")


def in_catalogue(settings: Settings) -> dict[Path, str]:
    """Return the variants of the catalogue by the file or folder that they are."""
    found = load_or_none(settings)
    return {} if found is None else registering.by_place(found)
