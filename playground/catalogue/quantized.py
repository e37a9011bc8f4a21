"""Bases whose weights are quantized already: whether this machine reads them, and what to use where it does not.

The table is what transformers 5.17's quantizers ask for when they load such weights (`validate_environment` of each in
transformers/quantizers). A test holds its names against the installed transformers.
"""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from playground.errors import VariantError
from playground.system import documents, hardware
from playground.wording import worded


class Reader(NamedTuple):
    """What reads a format: packages by their names on PyPI, a card, and the extra of Madang that brings them."""

    packages: tuple[str, ...] = ()
    card: bool = False
    extra: str = ""
    from_capability: float = 0.0
    """Of cards: below it, and without one, transformers dequantizes and the packages are not needed."""


METHODS = {
    "bitsandbytes": Reader(("bitsandbytes",), extra="cuda"),
    "compressed-tensors": Reader(("compressed-tensors",), extra="gptq"),
    "gptq": Reader(("gptqmodel", "optimum")),
    "awq": Reader(("gptqmodel",)),
    "auto-round": Reader(("auto-round",)),
    "aqlm": Reader(("aqlm",)),
    "hqq": Reader(("hqq",)),
    "quanto": Reader(("optimum-quanto",)),
    "quark": Reader(("amd-quark",)),
    "torchao": Reader(("torchao",)),
    "sinq": Reader(("sinq",)),
    "fouroversix": Reader(("fouroversix",)),
    "eetq": Reader(("kernels",), card=True),
    "fbgemm_fp8": Reader(("fbgemm-gpu",), card=True),
    "fp_quant": Reader(("fp_quant",), card=True),
    "higgs": Reader(("flute-kernel", "fast_hadamard_transform"), card=True),
    "vptq": Reader(("vptq",), card=True),
    "spqr": Reader(("spqr_quant",), card=True),
    **dict.fromkeys(("fp8", "mxfp8"), Reader(("kernels",), from_capability=8.9)),
    **dict.fromkeys(("mxfp4", "bitnet", "metal", "gemma"), Reader()),
}
"""Those of the last row need nothing: where the hardware lacks their arithmetic, transformers dequantizes."""
NEVER = {"nvfp4": "quantized.transformers_writes_this"}
PACKED = (
    ".qweight",
    ".weight_packed",
    ".weight.quant_state.bitsandbytes__nf4",
    ".SCB",
    ".trellis",
    ".weight_scale_inv",
)
"""Ends of the names of tensors that are of no use unless config.json says how they were packed."""
LONGEST_CARD = 2**16
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def method(config: Mapping[str, Any]) -> str:
    """Return the name of the format that a config.json says its weights are in: `?` without one, empty where plain."""
    text = config.get("text_config")
    places = [config, text if isinstance(text, dict) else {}]
    found = next((place["quantization_config"] for place in places if place.get("quantization_config")), None)
    if not isinstance(found, dict):
        return "?" if found or config.get("quantization") else ""
    if found.get("load_in_4bit") or found.get("load_in_8bit"):
        return "bitsandbytes"
    return str(found.get("quant_method") or "?")


def not_twice(name: str, packed: str) -> None:
    """Refuse `load_in_4bit` for weights that are in a format already, unless that is what it makes."""
    if packed not in ("", "bitsandbytes"):
        raise VariantError(
            worded("quantized.asks_load_bit", name=name, packed=packed),
        )


def check(folder: Path, config: Mapping[str, Any], tensors: Iterable[str]) -> None:
    """Refuse quantized weights that transformers cannot read on this machine, with what reads them or replaces them."""
    found = method(config)
    instead = _instead(folder, config)
    if not found:
        if packed := next((name for name in tensors if name.endswith(PACKED)), ""):
            raise VariantError(worded("quantized.quantized_config", folder=folder.name, packed=packed), instead[0])
        return
    if found == "?":
        raise VariantError(
            worded("quantized.quantized_config_json", folder=folder.name),
            instead[0],
        )
    if found in NEVER or found not in METHODS:
        why = worded(NEVER.get(found, "quantized.not_read"))
        raise VariantError(worded("quantized.quantized_format", folder=folder.name, found=found, why=why), instead[0])
    _check_reader(folder.name, found, METHODS[found], *instead)


def _check_reader(name: str, found: str, reader: Reader, instead: str, original: str) -> None:
    if reader.card and not hardware.vram_total():
        raise VariantError(
            worded("quantized.quantized_format_runs", name=name, found=found),
            instead,
        )
    if reader.from_capability and hardware.capability() < reader.from_capability:
        return
    lacking = [package for package in reader.packages if not _installed(package)]
    if not lacking:
        return
    pip = f"`pip install {' '.join(lacking)}`"
    if reader.extra:
        hint = worded("quantized.install_extra", extra=reader.extra, pip=pip, original=original)
    else:
        hint = worded("quantized.where_suits", instead=instead, pip=pip)
    raise VariantError(
        worded("quantized.quantized_format_reads", name=name, found=found, lacking=" and ".join(lacking)), hint
    )


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _instead(folder: Path, config: Mapping[str, Any]) -> tuple[str, str]:
    """Return what to use instead, as a sentence and as its object."""
    found = original(folder, config)
    what = worded("quantized.original_named", found=found) if found else worded("quantized.original")
    return worded("quantized.instead", what=what), worded("quantized.instead_object", what=what)


def original(folder: Path, config: Mapping[str, Any]) -> str:
    """Return the Hub id that a model was made from, by its card or its config.json; empty where neither names it."""
    named = [_card(folder).get("base_model"), config.get("_name_or_path")]
    flat = [one for name in named for one in (name if isinstance(name, list) else [name])]
    return next((name for name in flat if isinstance(name, str) and REPOSITORY.fullmatch(name)), "")


def _card(folder: Path) -> dict[str, Any]:
    """Return what a model card's YAML says; empty where there is none that can be read."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            text = file.read(LONGEST_CARD)
        found = documents.parse(text[3:].split("\n---", 1)[0], "YAML") if text.startswith("---") else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
