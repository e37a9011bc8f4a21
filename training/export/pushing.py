"""Which repository each artefact of an export goes to, whether it may go there, and the upload. Builds nothing."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from playground.catalogue.files import read_json
from playground.errors import ConfigError
from playground.system.progress import Tell
from training.export import hub
from training.export.describing import CARD, Describer, hub_base, is_ours
from training.export.exports import Export
from training.export.origin import Origin
from training.export.plan import KINDS, Kind, Wanted

SUFFIXES: dict[Kind, str] = {"adapter": "", "merged": "-merged", "gguf": "-GGUF", "gptq": "-gptq"}
"""One repository a kind, as people look for them: OWNER/NAME is the adapter's."""
BASE_KEY = "base_model_name_or_path"
NAMES = ("_name_or_path", "name_or_path")
"""Fields of configs that say where a model was loaded from on the machine that saved it."""
PUSHED = "push"
"""The kind of event that an upload leaves behind."""


@dataclass(frozen=True)
class Push:
    """Where an export is asked to go; `base`: the Hub id of the base, where nothing here knows it."""

    repo: str
    public: bool = False
    replace: bool = False
    base: str = ""


@dataclass(frozen=True)
class Parcel:
    """Artefacts of one kind, and their repository."""

    kind: Kind
    repo: str
    wanted: tuple[Wanted, ...]


def parcels(push: Push, wanted: Sequence[Wanted]) -> list[Parcel]:
    """Return one repository per kind. A name that ends in a kind's own suffix does not get it twice."""
    found = []
    for kind in KINDS:
        if of_kind := tuple(one for one in wanted if one.kind == kind):
            had = push.repo.lower().endswith(SUFFIXES[kind].lower())
            found.append(Parcel(kind, push.repo if had else push.repo + SUFFIXES[kind], of_kind))
    names = [parcel.repo for parcel in found]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise ConfigError(f"--push {push.repo}: two kinds of files would go to {twice}.", "Name it without its ending.")
    return found


def due(export: Export | None, push: Push, wanted: Sequence[Wanted]) -> list[Parcel]:
    """Return the parcels that this very export has not brought there already, unless they are to be replaced."""
    there: set[tuple[str, tuple[str, ...]]] = set()
    for event in export.events() if export and not push.replace else []:
        if event.kind == PUSHED:
            there.add((event.repo, event.labels))
        elif event.kind == "built":
            there.clear()  # what was built anew since is not there
    return [one for one in parcels(push, wanted) if (one.repo, _labels(one.wanted)) not in there]


def check(origin: Origin, export: Export | None, push: Push, wanted: Sequence[Wanted]) -> list[Parcel]:
    """Return what will be uploaded. Refuse now, after a few questions, what the Hub would refuse after the build."""
    hub.check_name(push.repo)
    found = due(export, push, wanted)
    base = hub_base(origin, push.base)
    if base is None and any(parcel.kind == "adapter" for parcel in found):
        raise ConfigError(
            f"The adapter's base, {origin.base.name}, is a folder of this machine: from the Hub nobody finds it.",
            f"Publish {origin.base.name} first, then name it: --base OWNER/NAME. Merged weights and GGUF need none.",
        )
    needs = base if any(parcel.kind == "adapter" for parcel in found) else None
    hub.check([parcel.repo for parcel in found], not push.public, replace=push.replace, needs=needs)
    return found


class Pusher:
    """Uploads what an export made, but for what failed parity."""

    def __init__(self, export: Export, origin: Origin, push: Push, describer: Describer) -> None:
        self._export, self._origin, self._asked, self._describer = export, origin, push, describer

    def push(self, wanted: Sequence[Wanted], refused: Sequence[str], progress: Tell) -> list[str]:
        """Upload; return the addresses, one per kind. What an earlier call brought there is not uploaded again."""
        found, went = due(self._export, self._asked, [one for one in wanted if one.label not in refused]), []
        for number, parcel in enumerate(found):
            progress(number / len(found), f"Pushing to {parcel.repo}")
            went.append(self._send(parcel))
        return went

    def _send(self, parcel: Parcel) -> str:
        folder = self._describer.folder(parcel.wanted)
        names = self._gguf_names(parcel.wanted) if parcel.kind == "gguf" else None
        url = hub.push(
            folder,
            parcel.repo,
            parcel.kind,
            private=not self._asked.public,
            replace=self._asked.replace,
            names=names,
            changed=self._changed(parcel, folder),
        )
        said = f"Pushed {parcel.kind} to {url}{'' if self._asked.public else ', private'}."
        self._export.happened(PUSHED, said, repo=parcel.repo, url=url, labels=list(_labels(parcel.wanted)))
        return url

    def _changed(self, parcel: Parcel, folder: Path) -> dict[str, str]:
        """Return the files that go up changed, with their texts: the card, and configs that name folders from here."""
        found = {CARD: self._describer.text(parcel.wanted, parcel.repo)} if self._may_describe(folder) else {}
        if parcel.kind == "gguf":
            rights = self._describer.rights()
            found |= {file.name: file.read_text(encoding="utf-8", errors="replace") for file in rights}
        for file in sorted(folder.glob("*config.json")):
            row = read_json(file)
            told = {key: value for key, value in row.items() if key not in NAMES or not _is_path(value)}
            if parcel.kind == "adapter" and file.name == "adapter_config.json":
                told[BASE_KEY] = hub_base(self._origin, self._asked.base)
            if told != row:
                found[file.name] = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        return found

    def _may_describe(self, folder: Path) -> bool:
        """Return whether the card is ours to write: one that its owner wrote goes up as it is."""
        return is_ours(folder / CARD) or (folder == self._export.folder and not _is_card(folder / CARD))

    def _gguf_names(self, wanted: Sequence[Wanted]) -> list[str]:
        """Return these GGUFs with their Modelfiles and card: the folder may hold files of the user's own."""
        files = [self._export.path(one).name for one in wanted]
        models = [file.name for file in self._export.folder.glob("Modelfile*") if _from(file) in files]
        return [*files, *models, CARD]


def _labels(wanted: Sequence[Wanted]) -> tuple[str, ...]:
    return tuple(one.label for one in wanted)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and ("\\" in value or Path(value).is_absolute() or value.startswith(("~", ".")))


def _is_card(file: Path) -> bool:
    """Return whether a README is a model card: those begin with YAML."""
    return file.is_file() and file.read_text(encoding="utf-8", errors="replace").startswith("---\n")


def _from(modelfile: Path) -> str:
    """Return the GGUF that a Modelfile names."""
    first = modelfile.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("FROM ./").strip()
