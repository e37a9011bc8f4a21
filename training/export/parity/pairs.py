"""Which tensor of a build holds which tensor of its source, and how its rows were reordered or shifted on the way."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.export.parity.lora import canonical
from training.export.parity.source import HEAD, Source, is_foreign
from training.export.parity.weights import FolderWeights, GgufWeights

EXPERT = re.compile(r"\.experts\.(\d+)\.")
ROTATED = ("llama", "smollm3", "granite", "granitemoe", "minicpm", "nanbeige", "llada")
"""Architectures whose query and key rows llama.cpp keeps in pairs, where transformers keeps halves of a head."""
SHIFTED = ("gemma", "gemma2", "gemma3", "gemma-embedding", "qwen3next", "qwen35", "nemotron")
"""Architectures whose norms transformers stores less one."""
CHECKED = ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3")
"""Architectures whose files were compared with their sources in our tests: an odd tensor there is a fault."""
QUERY_KEY = re.compile(r"\.(q|k)_proj\.(weight|bias)$")


@dataclass(frozen=True)
class Pair:
    """A tensor of the source and its place in the build: from row `first` on, rows taken in `order`, plus `shift`."""

    source: str
    built: str
    first: int = 0
    order: NDArray[np.int64] | None = None
    shift: float = 0.0


@dataclass(frozen=True)
class Pairing:
    """All pairs; what the build lacks; what of the source has no known name there; what the build has beside."""

    pairs: list[Pair]
    missing: list[str]
    unknown: list[str]
    extra: list[str]


def folder_pairs(source: Source, built: FolderWeights) -> Pairing:
    """Pair the tensors of two Hugging Face folders by name."""
    names = {canonical(name): name for name in built.names()}
    pairs = [Pair(name, names[name]) for name in source.names if name in names]
    missing = [name for name in source.names if name not in names]
    extra = [name for plain, name in names.items() if plain not in source.names and not is_foreign(plain)]
    return Pairing(pairs, missing, [], extra)


def gguf_pairs(source: Source, built: GgufWeights) -> Pairing:
    """Pair the tensors of a Hugging Face folder and a GGUF by the `gguf` package's own table of names."""
    table = _table(built, int(source.config.get("num_hidden_layers") or 0))
    pairs, missing, unknown = [], [], []
    for name in source.names:
        place = _place(name, table, source)
        if place is None:
            unknown.append(name)
        elif place[0] not in built.names():
            missing.append(name)
        else:
            pairs.append(Pair(name, *place, order=_order(name, source, built.arch), shift=_shift(name, built.arch)))
    taken = {pair.built for pair in pairs}
    return Pairing(pairs, missing, unknown, [name for name in built.names() if name not in taken])


def head_pair(source: Source, extra: list[str]) -> Pair | None:
    """Return the pair of an output layer that the source does not have."""
    found = [name for name in extra if name == "output.weight" or canonical(name) == HEAD]
    return Pair(HEAD, found[0]) if found and source.tied else None


def _table(built: GgufWeights, layers: int) -> Any:
    import gguf

    arches = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(arches[built.arch], layers)


def _place(name: str, table: Any, source: Source) -> tuple[str, int] | None:
    """Return the GGUF tensor and the row in it; experts stand under each other in one tensor."""
    expert = EXPERT.search(name)
    plain = EXPERT.sub(".experts.", name) if expert else name
    rows = source.shape(name)[0] if expert else 0
    for tried in (f"model.{plain}", plain, f"transformer.{plain}", plain.replace("block_sparse_moe", "feed_forward")):
        if found := table.get_name(tried, try_suffixes=(".weight", ".bias")):
            return found, rows * int(expert.group(1)) if expert else 0
    return None


def _order(name: str, source: Source, arch: str) -> NDArray[np.int64] | None:
    match = QUERY_KEY.search(name)
    if match is None or arch not in ROTATED:
        return None
    heads = int(source.config["num_attention_heads"])
    if match.group(1) == "k":
        heads = int(source.config.get("num_key_value_heads") or heads)
    rows = source.shape(name)[0]
    return np.arange(rows).reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(-1)


def _shift(name: str, arch: str) -> float:
    return 1.0 if arch in SHIFTED and name.endswith("norm.weight") else 0.0
