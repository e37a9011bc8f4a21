"""What a plain LoRA adapter adds to each tensor of its base, scaled as by PEFT; DoRA and its like are left to PEFT."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from playground.catalogue import adapters
from playground.catalogue.adapters import HEAD, PREFIX, A, AdapterFiles, B
from playground.catalogue.files import read_json, safetensors_header, weight_files
from playground.errors import VariantError

if TYPE_CHECKING:
    import torch

UNMERGED = "Export the adapter alone (--to adapter), and serve it unmerged."
EXPERTS = ".experts."
OWN_SCALES = ("use_rslora", "rank_pattern", "alpha_pattern")
"""Options that PEFT reads anew where it puts the single experts of transformers 4 together."""


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
    stored = {name for file in weight_files(base) for name in safetensors_header(file)}
    _check_mergeable(found, stored)
    if found.beyond_plain:
        return found.beyond_plain
    absent = [module for module in found.pairs if f"{module}.weight" not in stored]
    if absent:
        return f"the base stores no {absent[0]}.weight"
    if HEAD in found.pairs and read_json(base / "config.json").get("tie_word_embeddings") is not False:
        return "the base's output layer may be its embeddings"
    if any(EXPERTS in module for module in found.pairs):
        return next((f"PEFT scales experts by {name} of its own" for name in OWN_SCALES if found.config.get(name)), "")
    return ""


def deltas(adapter: Path) -> dict[str, Delta]:
    """Return the deltas of a plain LoRA adapter by the name of the tensor that each belongs to."""
    from safetensors.torch import load_file

    tensors = load_file(adapter / adapters.WEIGHTS)
    found = {}
    for module, pair in adapters.read(adapter).pairs.items():
        a, b = (tensors[f"{PREFIX}{module}{side}"].float() for side in (A, B))
        found[f"{module}.weight"] = Delta(a, b, pair.scale)
    return found


def _check_mergeable(adapter: AdapterFiles, stored: set[str]) -> None:
    """Refuse what a merged model has no place for: layers used twice, and biases of layers that have none."""
    if adapter.config.get("layer_replication"):
        raise VariantError(
            f"The adapter {adapter.folder.name} uses layers of its base several times, each time changed otherwise"
            " (layer_replication): it cannot be merged.",
            UNMERGED,
        )
    for name in adapter.tensors:
        module = name.removeprefix(PREFIX).removesuffix(".lora_B.bias")
        if name.endswith(".lora_B.bias") and f"{module}.weight" in stored and f"{module}.bias" not in stored:
            raise VariantError(
                f"The adapter {adapter.folder.name} adds a bias to {module}, which has none: it cannot be merged"
                " (lora_bias).",
                UNMERGED,
            )
