"""What a plain LoRA adapter adds to each tensor of its base, scaled as by PEFT; DoRA and its like are left to PEFT."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.catalogue.files import check_adapter, read_json, safetensors_header, weight_files
from playground.errors import VariantError

if TYPE_CHECKING:
    import torch

PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Delta:
    """The product of a LoRA pair: a [rank, in], b [out, rank], both float32."""

    a: "torch.Tensor"
    b: "torch.Tensor"
    scaling: float

    def rows(self, begin: int, end: int) -> "torch.Tensor":
        """Return some of its rows, [end - begin, in]; product and scaling in PEFT's order, so that the bits agree."""
        return (self.b[begin:end] @ self.a).mul_(self.scaling)


def why_in_memory(base: Path, adapter: Path) -> str:
    """Say why this adapter cannot be added tensor by tensor; empty where it can. Refuse one that does not fit."""
    info = check_adapter(adapter, base)
    if not info.shares_base:
        return info.why_not
    stored = {name for file in weight_files(base) for name in safetensors_header(file)}
    absent = [module for module in _modules(adapter) if f"{module}.weight" not in stored]
    return f"the base stores no {absent[0]}.weight" if absent else ""


def deltas(adapter: Path) -> dict[str, Delta]:
    """Return the deltas of a plain LoRA adapter by the name of the tensor that each belongs to."""
    from safetensors.torch import load_file

    config = read_json(adapter / "adapter_config.json")
    tensors = load_file(adapter / "adapter_model.safetensors")
    found = {}
    for module in _modules(adapter):
        a, b = (tensors[f"{PREFIX}{module}{side}"].float() for side in (A, B))
        rank, scaling = _scaled(config, module)
        if not a.shape[0] == b.shape[1] == rank:
            raise VariantError(
                f"The adapter {adapter.name} says rank {rank} for {module} and holds rank {a.shape[0]}.",
                "adapter_config.json and adapter_model.safetensors must come from the same training.",
            )
        found[f"{module}.weight"] = Delta(a, b, scaling)
    return found


def _modules(adapter: Path) -> Iterable[str]:
    """Return the modules that have both halves of a LoRA pair; a lone half is a broken adapter."""
    names = safetensors_header(adapter / "adapter_model.safetensors")
    halves = [{n.removeprefix(PREFIX).removesuffix(side) for n in names if n.endswith(side)} for side in (A, B)]
    if lone := halves[0] ^ halves[1]:
        raise VariantError(
            f"The adapter {adapter.name} holds one half of a pair alone: {min(lone)}.", "Save it again after training."
        )
    return sorted(halves[0])


def _scaled(config: dict[str, Any], module: str) -> tuple[int, float]:
    """Return rank and scale of one module, without importing PEFT, which takes longer than merging a small model."""
    rank: int = _of(config.get("rank_pattern"), module, config["r"])
    alpha: float = _of(config.get("alpha_pattern"), module, config["lora_alpha"])
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of(pattern: dict[str, Any] | None, module: str, otherwise: Any) -> Any:
    """Return the value of the first key that is the module's name or, as an expression, the end of it."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return otherwise
