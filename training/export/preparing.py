"""Looks at an export before anything is built: finds what it is made of, and refuses what could not end well.

Reads headers, configs and free space alone, and writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from playground.errors import ConfigError
from playground.settings import Settings
from training.export import exports, gguf, gptq, merge, origin, plan
from training.export.building import DTYPES
from training.export.describing import Scores, no_scores
from training.export.exports import Asked, Export
from training.export.origin import UNSAFE, Origin
from training.export.plan import F16, Sizes, Wanted
from training.export.shards import is_4bit, no_bitsandbytes, own_dtype

MERGED = {"merged", "gguf", "gptq"}
"""Kinds that are made of merged weights."""


@dataclass(frozen=True)
class Options:
    """Everything that an export may be asked beside its formats.

    `name` is what its files begin with, `base` the base's Hub id; `reuse`: one that is finished already will do.
    """

    out: Path | None = None
    name: str = ""
    dtype: str = ""
    keep_f16: bool = False
    force: bool = False
    parity: bool = True
    imatrix: Path | None = None
    reuse: bool = False
    base: str = ""
    scores: Scores = no_scores


@dataclass(frozen=True)
class Prepared:
    """An export that can begin, or go on where `begun` says so. `ready`: nothing is left to be built or judged."""

    origin: Origin
    asked: Asked
    sizes: Sizes
    where: Path
    begun: Export | None
    options: Options
    ready: bool = False


def prepare(settings: Settings, source: str, wanted: Sequence[Wanted], options: Options) -> Prepared:
    """Find and check everything; raise for whatever could not be exported."""
    if options.dtype and options.dtype not in DTYPES:
        raise ConfigError(f"--dtype {options.dtype}: merged weights are 16-bit.", f"Choose {' or '.join(DTYPES)}.")
    if options.name and UNSAFE.search(options.name):
        raise ConfigError(f"--name {options.name!r} is no file name.", "Use letters, digits and . _ - alone.")
    if options.imatrix and not options.imatrix.expanduser().is_file():
        raise ConfigError(f"--imatrix {options.imatrix} is no file.", "Give a text to measure on, some pages long.")
    if options.keep_f16 and any(one.kind == "gguf" for one in wanted):
        wanted = tuple(dict.fromkeys([*wanted, F16]))
    found = origin.find(settings, source)
    merge.check(found.base_folder, found.adapter_folder)
    asked = Asked(
        source=source,
        variant=found.variant.name,
        run=found.run.name if found.run else "",
        stem=options.name or found.stem,
        wanted=tuple(wanted),
        dtype=options.dtype or _dtype(found, wanted),
        imatrix=str(options.imatrix.expanduser().resolve()) if options.imatrix else "",
        mark=exports.mark(found.adapter_folder, found.base_folder),
    )
    out = options.out.expanduser().resolve() if options.out else None
    begun = exports.begun(settings, asked, out, options.reuse)
    ready = begun is not None and begun.state().status == "done" and not (options.parity and _unjudged(begun, wanted))
    if not ready:
        _check_formats(found, wanted)
    where = begun.folder if begun else out or exports.place(settings, asked.stem)
    if begun is None:
        check_free(where, asked.stem, wanted, options.force)
    sizes = plan.sizes(found.base_folder, found.adapter_folder, wanted)
    return Prepared(found, asked, sizes, where, begun, options, ready)


def _unjudged(export: Export, wanted: Sequence[Wanted]) -> bool:
    """Return whether parity has still to look at one of the artefacts."""
    verdicts = export.verdicts()
    return any(one.kind != "adapter" and one.label not in verdicts for one in wanted)


def _dtype(found: Origin, wanted: Sequence[Wanted]) -> str:
    """Return the base's own 16-bit type for weights to be loaded; float16, which is finer, for GGUFs alone."""
    if any(one.kind in ("merged", "gptq") for one in wanted):
        return "bf16" if own_dtype(found.base_folder) == "BF16" else "fp16"
    return "fp16"


def _check_formats(origin: Origin, wanted: Sequence[Wanted]) -> None:
    """Refuse a format that cannot be made of this base, or not on this machine."""
    kinds = {one.kind for one in wanted}
    if kinds & MERGED and is_4bit(origin.base_folder) and find_spec("bitsandbytes") is None:
        raise no_bitsandbytes()
    if "gguf" in kinds:
        gguf.check_convertible(origin.base_folder)
    if "gptq" in kinds:
        gptq.check_installed()
        gptq.group_for(gptq.widths(origin.base_folder))


def check_free(where: Path, stem: str, wanted: Sequence[Wanted], force: bool) -> list[Path]:
    """Return the artefacts that are there already, to be replaced; refuse them without `force`."""
    there = [where / one.place(stem) for one in wanted if (where / one.place(stem)).exists()]
    if there and not force:
        raise ConfigError(f"{there[0]} exists already.", "--force replaces it; --out DIR writes elsewhere.")
    return there


def missing_bytes(export: Export, wanted: Sequence[Wanted], peak: int) -> int:
    """Return what of the peak still has to be written."""
    there = [export.path(one) for one in wanted] + [export.work]
    return max(0, peak - sum(map(plan.bytes_of, there)))
