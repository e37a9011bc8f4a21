"""Refuses, before anything is built, an export that could not end well: from headers, configs and free space alone."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from playground.errors import ConfigError
from training.export import gguf, gptq, merge
from training.export.exports import Export
from training.export.origin import Origin
from training.export.plan import Wanted
from training.export.shards import is_4bit, no_bitsandbytes

MERGED = {"merged", "gguf", "gptq"}


def check_source(origin: Origin) -> None:
    """Adapter and base are whole and fit together."""
    merge.check(origin.base_folder, origin.adapter_folder)


def check_formats(origin: Origin, wanted: Sequence[Wanted]) -> None:
    """Every format asked for can be made of them on this machine."""
    kinds = {one.kind for one in wanted}
    if kinds & MERGED and is_4bit(origin.base_folder) and find_spec("bitsandbytes") is None:
        raise no_bitsandbytes()
    if "gguf" in kinds:
        gguf.check_convertible(origin.base_folder)
    if "gptq" in kinds:
        gptq.check_installed()
        gptq.group_for(gptq.widths(origin.base_folder))


def check_free(where: Path, stem: str, wanted: Sequence[Wanted], force: bool) -> list[Path]:
    """What of the artefacts is there already, to be replaced; refused without `force`."""
    there = [where / one.place(stem) for one in wanted if (where / one.place(stem)).exists()]
    if there and not force:
        raise ConfigError(f"{there[0]} exists already.", "--force replaces it; --out DIR writes elsewhere.")
    return there


def missing_bytes(export: Export, wanted: Sequence[Wanted], peak: int) -> int:
    """Of the peak, what still has to be written."""
    there = [export.path(one) for one in wanted] + [export.work]
    return max(0, peak - sum(_bytes(path) for path in there))


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
