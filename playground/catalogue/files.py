"""Looks at a model's files before any engine touches them, and refuses what is broken or unsafe, with the reason.

Reads headers and configs alone: a check of a 16 GB model takes milliseconds and no memory.
"""

import json
import struct
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from playground.catalogue import architectures, gguf_files, quantized
from playground.errors import VariantError
from playground.system import documents

MAX_HEADER = 100 * 2**20
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
DTYPE_SIZE = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "U8": 1, "I8": 1, "BOOL": 1}
DTYPE_SIZE |= {"F8_E4M3": 1, "F8_E5M2": 1}
PACKED_IN = ("U8", "I8", "I32", "U32", "I64")
"""Whole numbers, which weights are packed into."""
BEYOND_PLAIN = {
    "use_dora": "it uses DoRA",
    "modules_to_save": "it replaces whole modules",
    "fan_in_fan_out": "its base stores layers transposed",
    "target_parameters": "it changes parameters that are no layers",
    "trainable_token_indices": "it trains single tokens",
    "layer_replication": "it repeats layers",
    "alora_invocation_tokens": "it switches on at certain tokens",
    "use_qalora": "it uses QALoRA",
    "arrow_config": "it routes between adapters",
    "use_bdlora": "its matrices are block-diagonal",
    "kasa_config": "it uses KaSA",
    "monteclora_config": "it uses MonteCLoRA",
}
"""Options of PEFT's LoraConfig that make an adapter more than A and B beside a linear layer."""
HEAD = "lm_head.weight"
EMBEDDINGS = (
    "model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight",
    "embed_tokens.weight",
    "transformer.wte.weight",
    "wte.weight",
)
"""Where the weights of a tied output layer lie: as many rows and columns."""
PLAIN_LORA_KEYS = ("lora_A.weight", "lora_B.weight")
AGAIN = "Download or copy the file again."


class AdapterInfo(BaseModel):
    """What an adapter's files say. shares_base: plain LoRA on linear layers, which runs on the base's own weights."""

    model_config = ConfigDict(frozen=True)

    rank: int
    base_model: str
    shares_base: bool
    why_not: str = ""


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a model folder."""
    if not path.exists():
        raise VariantError(f"{path} does not exist.", "Check the folder in the catalogue: `madang models`.")
    content = documents.read(path, "JSON", VariantError, AGAIN)
    if not isinstance(content, dict):
        raise VariantError(f"{path} holds no JSON object.", AGAIN)
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
        raise VariantError(f"{path} cannot be read: {error.strerror}.", "It must be a file you may read.") from error
    if length > MAX_HEADER:
        raise VariantError(f"{path} is not a safetensors file: its header would be {length:,} bytes long.", AGAIN)
    try:
        header = json.loads(raw)
        tensors = {name: row for name, row in header.items() if name != "__metadata__"}
        ends = [_end(row) for row in tensors.values()]
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise VariantError(f"{path} is cut short or damaged inside its header.", AGAIN) from error
    end = 8 + length + max(ends, default=0)
    if size != end:
        raise VariantError(f"{path} is {size:,} bytes long and should be {end:,}: it is cut short or damaged.", AGAIN)
    return tensors


def _end(row: dict[str, Any]) -> int:
    """Return where a tensor's bytes end; raise where its row in the header is not as it must be."""
    begin, end = row["data_offsets"]
    if not (0 <= begin <= end and isinstance(row["dtype"], str) and all(size >= 0 for size in row["shape"])):
        raise ValueError(row)
    return int(end)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model folder; refuse pickles, missing shards and missing weights."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise VariantError(f"{index} names no weights.", AGAIN)
        names = sorted(set(map(str, shards.values())))
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise VariantError(
                f"{folder} lacks {len(missing)} of its {len(names)} shards: {', '.join(missing[:3])}.",
                "Download or copy the missing shards.",
            )
        return [folder / name for name in names]
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    pickles = [path.name for pattern in PICKLES for path in folder.glob(pattern)]
    if pickles:
        raise VariantError(
            f"{folder} holds pickled weights alone ({pickles[0]}), which can run any code when they are opened.",
            "Use the model's safetensors, or convert it once in a place you trust with save_pretrained().",
        )
    raise VariantError(f"{folder} holds no model.safetensors.", "Give the folder that has config.json and weights.")


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
    if not folder.is_dir():
        raise VariantError(f"{folder} is not a folder.", "Check `source` in the catalogue: `madang models`.")
    config = read_json(folder / "config.json")
    if "auto_map" in config:
        raise VariantError(
            f"{folder.name} needs trust_remote_code: its config names code of its own ({config['auto_map']}).",
            "Madang never runs code that comes with a model. Use a version that transformers supports by itself.",
        )
    if not config.get("architectures") and not config.get("model_type"):
        raise VariantError(f"{folder / 'config.json'} names no architecture.", "Give the folder of a language model.")
    for path in weight_files(folder):
        safetensors_header(path)
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise VariantError(f"{folder} has no tokenizer.", "Copy tokenizer.json and tokenizer_config.json beside it.")


def check_loadable(folder: Path) -> None:
    """Refuse a whole base that transformers would not load on this machine as a language model, with the reason."""
    config = read_json(folder / "config.json")
    architectures.check(folder, config)
    quantized.check(folder, config, (name for path in weight_files(folder) for name in safetensors_header(path)))


def check_adapter(folder: Path, base: Path | None) -> AdapterInfo:
    """Refuse a broken adapter or one trained for another base; say whether it can share the base's weights.

    `base` is the base's folder where that is on this machine: then every LoRA shape is held against its layer.
    """
    if not folder.is_dir():
        raise VariantError(f"{folder} is not a folder.", "Check `source` in the catalogue: `madang models`.")
    config = read_json(folder / "adapter_config.json")
    weights = folder / "adapter_model.safetensors"
    if not weights.exists():
        kind = "pickled weights alone" if any(folder.glob("*.bin")) else "no adapter_model.safetensors"
        raise VariantError(f"{folder} holds {kind}.", "Save the adapter again with PEFT's safetensors default.")
    tensors = safetensors_header(weights)
    if not tensors:
        raise VariantError(f"{weights} holds no tensors.", "Save the adapter again after training.")
    if base is not None:
        _check_shapes(folder, tensors, base)
    why_not = _why_not_shared(config, tensors)
    return AdapterInfo(
        rank=config["r"] if isinstance(config.get("r"), int) else 0,
        base_model=str(config.get("base_model_name_or_path") or ""),
        shares_base=not why_not,
        why_not=why_not,
    )


def _why_not_shared(config: dict[str, Any], tensors: dict[str, Any]) -> str:
    """Return what makes an adapter more than plain LoRA on linear layers; empty where it is just that."""
    if str(config.get("peft_type", "")).upper() != "LORA":
        return f"its type is {config.get('peft_type')}"
    for option, meaning in BEYOND_PLAIN.items():
        if config.get(option):
            return f"{meaning} ({option})"
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        return "it trains biases"
    other = [name for name in tensors if not name.endswith(PLAIN_LORA_KEYS)]
    if other:
        return f"it holds {other[0]}"
    odd = [name for name, row in tensors.items() if len(row["shape"]) != 2]
    return f"it changes layers that are not linear ({odd[0]})" if odd else ""


def _check_shapes(folder: Path, tensors: dict[str, Any], base: Path) -> None:
    """Hold every LoRA matrix against its layer. Where no name matches, the names alone differ: the engine decides."""
    layers: dict[str, Any] = {}
    for path in weight_files(base):
        layers |= safetensors_header(path)
    faults, matched = [], 0
    for name, row in tensors.items():
        if not name.endswith(PLAIN_LORA_KEYS):
            continue
        layer = name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] + ".weight"
        found = _layer(layers, layer)
        side = 1 if name.endswith("lora_A.weight") else 0
        if found is None:
            faults.append(f"{layer} does not exist there")
        elif found["dtype"] != "U8" and not _fits(row["shape"], found["shape"], side):
            faults.append(f"{layer} has the shape {found['shape']} there, and the adapter brings {row['shape']}")
        matched += found is not None
    if faults and matched:
        raise VariantError(
            f"The adapter {folder.name} was trained for another base than {base.name}: {faults[0]}.",
            "Name the base it was trained on (adapter_config.json: base_model_name_or_path) in the catalogue.",
        )


def _layer(layers: dict[str, Any], name: str) -> Any:
    """Find a layer of the base by an adapter's name for it; a tied output layer's are the embeddings."""
    names = [name, name.removeprefix("model.")] + [*EMBEDDINGS] * (name == HEAD)
    return next((layers[one] for one in names if one in layers), None)


def _fits(lora: list[int], layer: list[int], side: int) -> bool:
    """Return whether a LoRA matrix's outer side is as wide as its layer: [out, in], or [in, out] in GPT-2's Conv1D."""
    return len(lora) > side and lora[side] in (layer[side : side + 1] if len(layer) != 2 else layer)
