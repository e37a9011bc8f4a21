"""A LoRA adapter folded into its base: a plain Hugging Face folder, the tokenizer and chat template carried along.

Plain LoRA is added tensor by tensor, file by file, whatever the model's size. What PEFT alone can merge (DoRA, whole
modules, embeddings, single tokens) it merges with the model in memory. Both sum in float32 and round once.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from playground.catalogue import adapters
from playground.catalogue.files import check_base, read_json
from playground.errors import ConfigError, VariantError
from playground.system.atomic import remove, replacing
from training.export import in_memory, tokenizer
from training.export.deltas import deltas, why_in_memory
from training.export.shards import is_4bit, rewrite
from training.export.vocabulary import rows

if TYPE_CHECKING:
    import torch

Dtype = Literal["float32", "float16", "bfloat16"]
DTYPES: tuple[Dtype, ...] = ("float32", "float16", "bfloat16")
CARRIED = ("generation_config.json", "LICENSE*", "NOTICE*")


def merge(
    base_dir: Path | str,
    adapter_dir: Path | str,
    out_dir: Path | str,
    dtype: str = "float16",
    format_name: str = "",
) -> None:
    """Write base + adapter to `out_dir` in `dtype`. The sum itself is done in float32, whatever the base is kept in.

    Tokenizer and template that came with the adapter win over the base's; a named prompt format becomes the template.
    """
    base_dir, adapter_dir = Path(base_dir), Path(adapter_dir)
    check(base_dir, adapter_dir, dtype)
    with replacing(Path(out_dir)) as part:
        part.mkdir()
        if why_in_memory(base_dir, adapter_dir):
            _merge_in_memory(base_dir, adapter_dir, part, dtype)
        else:
            _merge_by_rows(base_dir, adapter_dir, part, dtype)
        tokenizer.carry(base_dir, part, CARRIED)
        tokenizer.write(adapters.read(adapter_dir), base_dir, part, format_name)


def check(base_dir: Path, adapter_dir: Path, dtype: str = "float16") -> None:
    """Refuse what cannot be merged, from headers and configs alone."""
    if dtype not in DTYPES:
        raise ConfigError(f"A merged model cannot be saved as {dtype!r}.", f"Choose one of: {', '.join(DTYPES)}.")
    for folder, file, what in ((base_dir, "config.json", "a base"), (adapter_dir, "adapter_config.json", "an adapter")):
        if not (folder / file).is_file():
            raise VariantError(f"{folder} is not {what}: it has no {file}.", f"Give the folder that holds {file}.")
    check_base(base_dir)
    is_4bit(base_dir)
    why_in_memory(base_dir, adapter_dir)
    rows(adapters.read(adapter_dir, base_dir), base_dir)


def _merge_by_rows(base_dir: Path, adapter_dir: Path, out: Path, dtype: str) -> None:
    added = deltas(adapter_dir)

    def change(name: str, rows: "torch.Tensor", begin: int) -> "torch.Tensor":
        delta = added.get(name)
        return rows if delta is None else delta.rows(begin, begin + len(rows)).add_(rows)

    rewrite(base_dir, out, dtype, change)
    _write_config(base_dir, out, dtype)


def _merge_in_memory(base_dir: Path, adapter_dir: Path, out: Path, dtype: str) -> None:
    import torch

    unpacked = out / "base"
    if is_4bit(base_dir):
        unpacked.mkdir()
        rewrite(base_dir, unpacked, "float32", lambda name, rows, begin: rows)
        _write_config(base_dir, unpacked, "float32")
        base_dir = unpacked
    model = in_memory.merged(base_dir, adapter_dir)
    model.to(getattr(torch, dtype)).save_pretrained(out)
    remove(unpacked)


def _write_config(base_dir: Path, out: Path, dtype: str) -> None:
    """Write the base's config, but for what the weights are kept in."""
    config = read_json(base_dir / "config.json")
    config.pop("quantization_config", None)
    old = config.pop("torch_dtype", None)  # as it was called before transformers 4.56
    config = config | {"dtype": dtype} | ({"torch_dtype": dtype} if old else {})
    for part in config.values():
        if isinstance(part, dict):  # a part of a larger model says it again
            part |= {key: dtype for key in ("dtype", "torch_dtype") if key in part}
    (out / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
