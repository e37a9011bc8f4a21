"""Adapters on a base's own weights: one loaded model answers as base and as every adapter, in one batch.

Rows of a batch are ordered by adapter, so a layer adds each adapter's product to a slice of its output: no copy of
the base, no gathered weights, nothing computed for base rows. The sum is PEFT's own: W x + scale B A x, with the scale
folded into B. Only plain LoRA on linear layers runs here (playground.catalogue.files tells); others get a merged copy.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import linear

from playground.errors import VariantError

PREFIX = "base_model.model."


@dataclass
class Routing:
    """Which slice of the batch runs with which adapter: (begin, end, adapter); base rows are in none."""

    slices: list[tuple[int, int, str]] = field(default_factory=list)

    def route(self, adapters: list[str | None]) -> None:
        """Set the slices for rows with these adapters; equal ones must stand together."""
        self.slices = []
        begin = 0
        for end in range(1, len(adapters) + 1):
            if end == len(adapters) or adapters[end] != adapters[begin]:
                name = adapters[begin]
                if name is not None:
                    self.slices.append((begin, end, name))
                begin = end


class Adapters:
    """The adapters attached to one model; `attach` is idempotent, layers change only once."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype
        self.routing = Routing()
        self._layers: dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]] = {}
        self._attached: set[str] = set()

    def attach(self, folder: str) -> None:
        """Load a plain LoRA adapter from its folder; its name in the routing is that folder."""
        if folder in self._attached:
            return
        config = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
        pairs = _pairs(load_file(Path(folder) / "adapter_model.safetensors"))
        modules = dict(self._model.named_modules())
        unknown = [name for name in pairs if not isinstance(modules.get(name), nn.Linear)]
        if unknown:
            raise VariantError(
                f"The adapter {folder} changes {unknown[0]}, which is no linear layer of this base.",
                "Name the base it was trained on (adapter_config.json: base_model_name_or_path) in the catalogue.",
            )
        for name, (down, up) in pairs.items():
            module = modules[name]
            assert isinstance(module, nn.Linear)
            self._add(name, module, folder, down, up * _scale(config, name, down.shape[0]))
        self._attached.add(folder)

    def _add(self, name: str, module: nn.Linear, folder: str, down: torch.Tensor, up: torch.Tensor) -> None:
        dtype, device = self._dtype, module.weight.device  # quantized layers compute in the model's dtype, too
        if name not in self._layers:
            self._layers[name] = {}
            module.forward = partial(  # type: ignore[method-assign]
                _forward, module.forward, self.routing, self._layers[name]
            )
        self._layers[name][folder] = (down.to(device, dtype), up.to(device, dtype))


def _forward(
    original: Callable[[torch.Tensor], torch.Tensor],
    routing: Routing,
    adapters: dict[str, tuple[torch.Tensor, torch.Tensor]],
    x: torch.Tensor,
) -> torch.Tensor:
    """Return the layer's output [rows, tokens, out], with each adapter's product added to its rows."""
    out = original(x)
    for begin, end, name in routing.slices:
        pair = adapters.get(name)
        if pair is not None:
            out[begin:end] += linear(linear(x[begin:end].to(pair[0].dtype), pair[0]), pair[1]).to(out.dtype)
    return out


def _pairs(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return a pair (down [r, in], up [out, r]) for every layer that the file names."""
    names = sorted({name.removeprefix(PREFIX).rsplit(".lora_", 1)[0] for name in tensors})
    return {
        name: (tensors[f"{PREFIX}{name}.lora_A.weight"].float(), tensors[f"{PREFIX}{name}.lora_B.weight"].float())
        for name in names
    }


def _scale(config: dict[str, object], layer: str, rank: int) -> float:
    """Return alpha / r, or alpha / sqrt(r) for rsLoRA; patterns name layers that differ, as PEFT reads them."""
    alpha = float(str(config.get("lora_alpha", rank)))
    patterns = config.get("alpha_pattern") or {}
    assert isinstance(patterns, dict)
    for pattern, value in patterns.items():
        if layer == pattern or layer.endswith(f".{pattern}"):
            alpha = float(value)
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
