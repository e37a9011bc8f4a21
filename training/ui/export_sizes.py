"""What an export will take, while it is chosen: one size per artefact, and the disk. Reads headers alone."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from playground.catalogue.variants import Adapter, Base, Catalogue
from playground.errors import ConfigError, MadangError
from playground.escape import Markup, escaped
from playground.settings import Settings
from training.export import exports, plan
from training.export.plan import Wanted
from training.run import runs
from training.run.memory import size
from training.ui import exporting
from training.ui.checking import facts, room
from training.words import both, card, problem


def html(settings: Settings, form: exporting.Form) -> str:
    """Return one row per artefact with its size, and the disk needed and free; a fault of the form as a card."""
    if not form.get("source"):
        return ""
    try:
        artefacts = exporting.wanted(form)
    except MadangError as error:
        return problem(error)
    missing = "gptq" in {one.kind for one in artefacts} and find_spec("llmcompressor") is None
    warned = card("export.gptq_missing", both("export.gptq_missing_why"), both("export.gptq_missing_hint"))
    return _sizes(settings, str(form["source"]), artefacts) + (warned if missing else "")


def _sizes(settings: Settings, source: str, artefacts: Sequence[Wanted]) -> str:
    unknown = f'<p class="soft">{both("export.size_unknown")}</p>'
    found = folders(settings, source)
    if found is None:
        return unknown
    try:
        sizes = plan.sizes(*found, artefacts)
    except MadangError as error:
        return problem(error)
    except OSError:
        return unknown
    rows = ((called(label), both("export.about", size=size(count))) for label, count in sizes.artefacts.items())
    return facts(rows) + _disk(settings, sizes)


def folders(settings: Settings, source: str) -> tuple[Path, Path] | None:
    """Return the folders of base and adapter of a run or a variant; None where they are not on this machine."""
    with suppress(MadangError, OSError, KeyError):
        found = _of_run(settings, source) or _of_variant(settings, source)
        if found and (found[0] / "config.json").is_file() and (found[1] / "adapter_config.json").is_file():
            return found
    return None


def _of_run(settings: Settings, source: str) -> tuple[Path, Path] | None:
    for run in runs.listed(settings):
        if source in (run.name, run.state().variant):
            with suppress(ConfigError):
                return Path(run.model().folder), run.adapter
    return None


def _of_variant(settings: Settings, source: str) -> tuple[Path, Path] | None:
    catalogue = Catalogue.load(settings)
    variant = catalogue.get(source)
    base = catalogue.get(variant.base) if isinstance(variant, Adapter) else None
    if not isinstance(variant, Adapter) or not isinstance(base, Base):
        return None
    return _folder(base, "config.json"), _folder(variant, "adapter_config.json")


def _folder(variant: Base | Adapter, file: str) -> Path:
    """Return where a variant lies: its own folder, or that of the Hub's cache."""
    if variant.is_local:
        return variant.path
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(variant.source, file, revision=variant.revision)
    return Path(cached).parent if isinstance(cached, str) else Path(variant.source)


def called(label: str) -> Markup:
    """Return an artefact as people call it."""
    return both(f"export.{label}") if label in ("adapter", "merged") else escaped(label)


def _disk(settings: Settings, sizes: plan.Sizes) -> str:
    """Return the peak, which holds what is built on the way, as a bar beside what is free."""
    free = shutil.disk_usage(_existing(exports.folder(settings))).free
    needs = both("export.need", need=size(sizes.peak), have=size(free))
    way = sizes.peak - sum(sizes.artefacts.values())
    small = f"<small>{both('export.on_the_way', size=size(way))}</small>" if way else ""
    seen = max(sizes.peak, free // 250)  # else a small export is a bar that nobody sees
    return room("disk", sizes.peak, free, sizes.peak <= free, needs, [seen], small)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
