"""Looks at a model's files before any engine touches them, and refuses what is broken or unsafe, with the reason.

Reads headers and configs alone: a check of a 16 GB model takes milliseconds and no memory.
"""

import json
import struct
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

from playground.catalogue import architectures, gguf_files, quantized
from playground.errors import VariantError
from playground.system import documents
from playground.wording import worded

MAX_HEADER = 100 * 2**20
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
DTYPE_SIZE = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "U8": 1, "I8": 1, "BOOL": 1}
DTYPE_SIZE |= {"F8_E4M3": 1, "F8_E5M2": 1}
PACKED_IN = ("U8", "I8", "I32", "U32", "I64")
"""Whole numbers, which weights are packed into."""
AGAIN = "files.again"


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a model folder."""
    if not path.exists():
        raise VariantError(worded("files.not_exist2", path=path))
    content = documents.read(path, "JSON", VariantError, worded(AGAIN))
    if not isinstance(content, dict):
        raise VariantError(worded("files.holds_no_json", path=path), worded(AGAIN))
    return content


def safetensors_header(path: Path) -> dict[str, Any]:
    """Return tensor names with dtype, shape and place; refuse a file that is cut short or is no safetensors."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            raw = file.read(length) if length <= MAX_HEADER else b""
    except OSError as error:
        raise VariantError(worded("files.cannot_read", path=path, strerror=error.strerror)) from error
    if length > MAX_HEADER:
        raise VariantError(worded("files.not_safetensors_file", path=path, length=length), worded(AGAIN))
    try:
        header = json.loads(raw)
        tensors = {name: row for name, row in header.items() if name != "__metadata__"}
        places = sorted(_place(name, row) for name, row in tensors.items())
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise VariantError(worded("files.cut_short_damaged", path=path), worded(AGAIN)) from error
    ends = [0, *(end for _, end, _ in places)]
    for before, (begin, _, name) in zip(ends, places, strict=False):
        if begin != before:
            raise VariantError(
                worded("files.damaged_begins_place", path=path, name=name, begin=begin, before=before), worded(AGAIN)
            )
    end = 8 + length + ends[-1]
    if size != end:
        raise VariantError(worded("files.bytes_long_should", path=path, size=size, end=end), worded(AGAIN))
    return tensors


def _place(name: str, row: dict[str, Any]) -> tuple[int, int, str]:
    """Return where a tensor's bytes begin and end, and its name; raise where its row in the header cannot be."""
    begin, end = row["data_offsets"]
    width, sides = DTYPE_SIZE.get(row["dtype"]), row["shape"]
    numbers = all(type(number) is int and number >= 0 for number in (begin, end, *sides))
    if not numbers or begin > end or (width and end - begin != width * prod(sides)):
        raise ValueError(row)
    return begin, end, name


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model folder; refuse pickles, missing shards and missing weights."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise VariantError(worded("files.names_no_weights", index=index), worded(AGAIN))
        names = sorted(set(map(str, shards.values())))
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise VariantError(
                worded(
                    "files.lacks_shards",
                    folder=folder,
                    missing_count=len(missing),
                    names_count=len(names),
                    missing=", ".join(missing[:3]),
                ),
            )
        return [folder / name for name in names]
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    pickles = [path.name for pattern in PICKLES for path in folder.glob(pattern)]
    if pickles:
        raise VariantError(
            worded("files.holds_pickled_weights", folder=folder, pickles=pickles[0]),
        )
    hint = worded("files.holds_no_model_hint")
    raise VariantError(worded("files.holds_no_model", folder=folder), hint)


def weights_to_come(folder: Path) -> int | None:
    """Return the bytes of weights that a folder still lacks: 0 where all are there, None where nothing tells how many.

    Pickled weights are refused, as by `weight_files`.
    """
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        here = any(folder.glob("*.safetensors")) or any(any(folder.glob(pattern)) for pattern in PICKLES)
        return 0 if here and weight_files(folder) else None
    content = read_json(index)
    shards, total = content.get("weight_map"), (content.get("metadata") or {}).get("total_size")
    paths = [folder / str(name) for name in set(shards.values())] if isinstance(shards, dict) else []
    if paths and all(path.exists() for path in paths):
        return 0
    return (
        max(0, total - sum(path.stat().st_size for path in paths if path.exists())) if isinstance(total, int) else None
    )


def model_files(path: Path) -> list[Path]:
    """Return all files of a model's weights: of a GGUF file every shard, of a folder its safetensors."""
    return gguf_files.shards(path) if path.is_file() else weight_files(path)


def loaded_bytes(folder: Path, width: float) -> int:
    """Return the bytes of a folder's weights in memory, plain ones taking `width` bytes each.

    Bytes that hold packed weights stay as they are, but where they are unpacked at loading: two weights a byte.
    """
    unpacked = 2 * width if quantized.method(read_json(folder / "config.json")) == "mxfp4" else 1
    total = 0.0
    for path in weight_files(folder):
        for row in safetensors_header(path).values():
            begin, end = row["data_offsets"]
            plain = row["dtype"] not in PACKED_IN
            total += (end - begin) * (width / DTYPE_SIZE.get(row["dtype"], 2) if plain else unpacked)
    return int(total)


def check_base(folder: Path) -> None:
    """Refuse a base folder that is missing, cut short, pickled, or wants to run code of its own."""
    check_described(folder)
    for path in weight_files(folder):
        safetensors_header(path)


def check_described(folder: Path) -> None:
    """Refuse a base whose config and tokenizer are not all there, whether its weights are or not."""
    if not folder.is_dir():
        raise VariantError(worded("files.is_file" if folder.is_file() else "files.is_no_folder", folder=folder))
    if not (folder / "config.json").exists():
        raise _not_a_base(folder)
    config = read_json(folder / "config.json")
    if "auto_map" in config:
        raise VariantError(
            worded("files.needs_trust_remote", folder=folder.name, auto_map=config["auto_map"]),
        )
    if not config.get("architectures") and not config.get("model_type"):
        raise VariantError(worded("files.names_no_architecture", file=folder / "config.json"))
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise VariantError(worded("files.no_tokenizer", folder=folder))


def _not_a_base(folder: Path) -> VariantError:
    """Return what a folder without config.json is, and how it can be used."""
    if (folder / "adapter_config.json").exists():
        return VariantError(worded("files.holds_adapter_no", folder=folder))
    if gguf_files.inside(folder):
        return VariantError(worded("files.holds_gguf_files", folder=folder))
    if (folder / "model_index.json").exists():
        return VariantError(worded("files.paints_pictures_diffusers", folder=folder), worded(architectures.INSTEAD))
    return VariantError(worded("files.not_exist", file=folder / "config.json"))


def check_loadable(folder: Path) -> None:
    """Refuse a whole base that transformers would not load on this machine as a language model, with the reason."""
    tensors = [name for path in weight_files(folder) for name in safetensors_header(path)]
    check_suited(folder, tensors)
    architectures.check_head(folder, read_json(folder / "config.json"), tensors)


def check_suited(folder: Path, tensors: Iterable[str] = ()) -> None:
    """Refuse what a config.json says is no language model or is quantized for another machine."""
    config = read_json(folder / "config.json")
    architectures.check(folder, config)
    quantized.check(folder, config, tensors)
