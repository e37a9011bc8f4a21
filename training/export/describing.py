"""The model card beside each artefact, put together from what is known of its run, scores and parity. Uploads nothing.

A card ends with a mark of its own text. One without it, or whose text was changed, is its owner's and stays.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from playground.catalogue.files import read_json
from playground.catalogue.variants import HUB_ID, Catalogue
from playground.errors import ConfigError
from playground.system.atomic import replacing
from training.data.tokenized import read
from training.export import card, registering
from training.export.card import Data, Info, Score
from training.export.exports import Export
from training.export.origin import Origin
from training.export.plan import KINDS, Kind, Wanted

CARD = "README.md"
MARK = re.compile(r"\n<!-- Written by Madang \((\w{12})\)\. Change anything, and it stays as you leave it\. -->\n$")
RIGHTS = ("LICENSE*", "NOTICE*")
NAMED = ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules")
"""What of an adapter's config is worth telling where its recipe is not known."""
CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")


Scores = Callable[[Sequence[str]], Iterable[Score]]
"""Returns what benchmarks said of the named variants, which another wing knows."""


def no_scores(names: Sequence[str]) -> list[Score]:
    """Return no scores: the default for callers that know no benchmarks."""
    return []


class Describer:
    """Writes the cards of one export."""

    def __init__(self, export: Export, origin: Origin, catalogue: Catalogue, scores: Scores, base: str = "") -> None:
        self._export, self._origin, self._scores = export, origin, scores
        self._names = registering.by_place(catalogue)
        self._base = base

    def write(self, wanted: Sequence[Wanted]) -> None:
        """Write a card into every artefact's folder; that of all GGUFs lies beside them, with the base's licence."""
        for kind in KINDS:
            there = [one for one in wanted if one.kind == kind and self._export.path(one).exists()]
            if not there:
                continue
            folder = self.folder(there)
            if kind == "gguf":
                self._carry_rights(folder)
            if is_ours(folder / CARD):
                with replacing(folder / CARD) as part:
                    part.write_text(self.text(there), encoding="utf-8")

    def _carry_rights(self, folder: Path) -> None:
        """Copy the base's licence into a folder that is the user's own: what lies there already is not touched."""
        for file in self.rights():
            if not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)

    def rights(self) -> list[Path]:
        """Return the base's licence and notices."""
        return sorted(file for pattern in RIGHTS for file in self._origin.base_folder.glob(pattern) if file.is_file())

    def text(self, wanted: Sequence[Wanted], repo: str = "") -> str:
        """Return the card of artefacts of one kind; `repo` is where they will be found."""
        return marked(card.card(self._info(wanted, repo)))

    def folder(self, wanted: Sequence[Wanted]) -> Path:
        """Return the folder in which the card of artefacts of one kind lies."""
        path = self._export.path(wanted[0])
        return path.parent if wanted[0].kind == "gguf" else path

    def _info(self, wanted: Sequence[Wanted], repo: str) -> Info:
        origin, kind, folder = self._origin, wanted[0].kind, self.folder(wanted)
        verdicts = self._export.verdicts()
        return Info(
            name=repo.rpartition("/")[2] or self._export.asked().stem,
            base=hub_base(origin, self._base) or origin.base.name,
            kind=kind,
            repo=repo,
            scores=self._scored(kind, wanted),
            verdicts={one.label: verdicts[one.label] for one in wanted if one.label in verdicts},
            files=[self._export.path(one).name for one in wanted] + sorted(path.name for path in folder.glob("token*")),
            licence=card.licence_of(origin.base_folder),
            **_trained(origin),
        )

    def _scored(self, kind: Kind, wanted: Sequence[Wanted]) -> list[Score]:
        """Return its own scores where it has been benchmarked, else the adapter's, marked as inherited."""
        names = {self._names.get(self._export.path(one).resolve(), ""): one.label for one in wanted}
        source = self._origin.variant.name
        if kind != "adapter":
            own = [row._replace(of=names[row.of] if kind == "gguf" else "") for row in self._scores([*names])]
            if own:
                return own
        return [row._replace(of="", inherited=kind != "adapter") for row in self._scores([source])]


def hub_base(origin: Origin, named: str = "") -> str | None:
    """Return the base's Hub id as named, or as adapter, catalogue, run or the Hub's cache know it; else None."""
    if named and not HUB_ID.fullmatch(named):
        raise ConfigError(f"--base {named!r} is no Hub id.", "It looks like owner/name.")
    said = read_json(origin.adapter_folder / "adapter_config.json").get("base_model_name_or_path")
    cached = next((found for part in origin.base_folder.parts if (found := CACHED.fullmatch(part))), None)
    known = [named, said, origin.base.source, origin.run.model().source if origin.run else ""]
    known += [f"{cached[1]}/{cached[2]}" if cached else ""]
    return next((str(name) for name in known if name and _is_hub_id(str(name))), None)


def is_ours(file: Path) -> bool:
    """Return whether a card may be written there: there is none, or one of ours that nobody changed."""
    if not file.is_file():
        return True
    text = file.read_text(encoding="utf-8", errors="replace")
    found = MARK.search(text)
    return found is not None and found[1] == _mark(text[: found.start()])


def marked(text: str) -> str:
    """Return a card with the mark that says whose it is."""
    return f"{text}\n<!-- Written by Madang ({_mark(text)}). Change anything, and it stays as you leave it. -->\n"


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _is_hub_id(name: str) -> bool:
    return bool(HUB_ID.fullmatch(name)) and not Path(name).exists()


def _trained(origin: Origin) -> dict[str, Any]:
    """Return method, recipe, data and versions, as far as they are known."""
    config = read_json(origin.adapter_folder / "adapter_config.json")
    known: dict[str, Any] = {"recipe": {"lora": {name: config[name] for name in NAMED if config.get(name) is not None}}}
    if origin.run is None:
        return known
    recipe = origin.run.recipe()
    known |= {"method": recipe.method, "recipe": recipe.model_dump(mode="json")}
    if origin.rows is not None:
        known["data"] = Data(recipe.data.source, len(read(origin.rows)), recipe.data.format)
    with suppress(OSError, ValueError):
        known["versions"] = json.loads((origin.run.folder / "versions.json").read_text(encoding="utf-8"))
    return known
