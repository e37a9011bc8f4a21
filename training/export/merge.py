"""A LoRA adapter folded into its base: a plain Hugging Face folder, the tokenizer and chat template carried along."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from playground.errors import ConfigError, VariantError
from training.export.atomic import replacing

if TYPE_CHECKING:
    import torch

Dtype = Literal["float32", "float16", "bfloat16"]
DTYPES: tuple[Dtype, ...] = ("float32", "float16", "bfloat16")

# Copied as they are: writing a tokenizer again through transformers is a chance to change it.
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
)
CARRIED = ("generation_config.json", "LICENSE*", "NOTICE*")


def merge(base_dir: Path | str, adapter_dir: Path | str, out_dir: Path | str, dtype: str = "float16") -> None:
    """Write base + adapter to `out_dir` in `dtype`. The sum itself is done in float32, whatever the base is kept in.

    A tokenizer that came with the adapter wins over the base's.
    """
    base_dir, adapter_dir = Path(base_dir), Path(adapter_dir)
    _check(base_dir, adapter_dir, dtype)
    model = _merged(base_dir, adapter_dir)
    with replacing(Path(out_dir)) as part:
        model.to(_torch_dtype(dtype)).save_pretrained(part)
        carry(base_dir, part, CARRIED)
        has_tokenizer = (adapter_dir / "tokenizer_config.json").is_file()
        carry(adapter_dir if has_tokenizer else base_dir, part, TOKENIZER_FILES)


def carry(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    """Copy the files of `source` that match any of the patterns."""
    for pattern in patterns:
        for file in source.glob(pattern):
            if file.is_file():
                shutil.copyfile(file, target / file.name)


def _check(base_dir: Path, adapter_dir: Path, dtype: str) -> None:
    if dtype not in DTYPES:
        raise ConfigError(f"A merged model cannot be saved as {dtype!r}.", f"Choose one of: {', '.join(DTYPES)}.")
    for folder, file, what in ((base_dir, "config.json", "a base"), (adapter_dir, "adapter_config.json", "an adapter")):
        if not (folder / file).is_file():
            raise VariantError(f"{folder} is not {what}: it has no {file}.", f"Give the folder that holds {file}.")
    config = json.loads((adapter_dir / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        raise VariantError(
            f"The adapter in {adapter_dir} is of the type {config.get('peft_type')!r}, and only LORA can be merged.",
            "Serve it unmerged, or train a LoRA adapter.",
        )


def _merged(base_dir: Path, adapter_dir: Path) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    try:
        model = PeftModel.from_pretrained(base, str(adapter_dir))
    except RuntimeError as error:
        raise VariantError(
            f"The adapter in {adapter_dir} does not fit the base in {base_dir}: {error}",
            "Give the base that the adapter was trained on (base_model_name_or_path in its adapter_config.json).",
        ) from error
    return model.merge_and_unload(safe_merge=True)


def _torch_dtype(name: str) -> "torch.dtype":
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return dtype
