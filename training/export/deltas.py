"""What a plain LoRA adapter adds to each tensor of its base, scaled as by PEFT; DoRA and its like are left to PEFT."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from playground.catalogue import adapters
from playground.catalogue.files import safetensors_header, weight_files

if TYPE_CHECKING:
    import torch


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
    found = adapters.read(adapter, base)
    if found.beyond_plain:
        return found.beyond_plain
    stored = {name for file in weight_files(base) for name in safetensors_header(file)}
    absent = [module for module in found.pairs if f"{module}.weight" not in stored]
    return f"the base stores no {absent[0]}.weight" if absent else ""


def deltas(adapter: Path) -> dict[str, Delta]:
    """Return the deltas of a plain LoRA adapter by the name of the tensor that each belongs to."""
    from safetensors.torch import load_file

    tensors = load_file(adapter / adapters.WEIGHTS)

    def matrix(module: str, side: str) -> "torch.Tensor":
        return tensors[f"{adapters.PREFIX}{module}{side}"].float()

    pairs = adapters.read(adapter).pairs
    return {
        f"{module}.weight": Delta(matrix(module, adapters.A), matrix(module, adapters.B), pair.scale)
        for module, pair in pairs.items()
    }
