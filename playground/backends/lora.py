"""Adapters on a base's own weights: one loaded model answers as base and as every adapter, in one batch.

Rows of a batch are ordered by adapter, so a layer adds each adapter's product to a slice of its output: no copy of
the base, no gathered weights, nothing computed for base rows. The sum is PEFT's own: W x + scale B A x, with the scale
folded into B. Only plain LoRA on linear layers runs here (catalogue.adapters tells); for others see adapted.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import linear

from playground.catalogue.adapters import PREFIX, WEIGHTS, A, AdapterFiles, B

WHOLE_BATCH = 1 << 30


@dataclass
class Routing:
    """Which slice of a batch of so many rows runs with which adapter: (begin, end, adapter); base rows are in none."""

    slices: list[tuple[int, int, str]] = field(default_factory=list)
    rows: int = 1

    def route_all(self, adapter: str | None) -> None:
        """Set one slice, for batches of any size, or none."""
        self.slices, self.rows = [(0, WHOLE_BATCH, adapter)] if adapter else [], 1

    def route(self, adapters: list[str | None]) -> None:
        """Set the slices for rows with these adapters; equal ones must stand together."""
        if len(set(adapters)) == 1:
            self.route_all(adapters[0])
            return
        self.slices, self.rows = [], len(adapters)
        begin = 0
        for end in range(1, len(adapters) + 1):
            if end == len(adapters) or adapters[end] != adapters[begin]:
                name = adapters[begin]
                if name is not None:
                    self.slices.append((begin, end, name))
                begin = end


class Adapters:
    """The adapters attached to one model, each once; a layer changes only with its first."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype
        self.routing = Routing()
        self._layers: dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]] = {}

    def attach(self, adapter: AdapterFiles, name: str) -> bool:
        """Load a plain LoRA adapter under a name in the routing.

        Return False, with nothing loaded, where some layer is none of the model's linear ones, or of another width.
        """
        modules = dict(self._model.named_modules())
        layers = [(module, modules.get(module)) for module in adapter.pairs]
        if not all(_fits(layer, adapter, module) for module, layer in layers):
            return False
        tensors = load_file(adapter.folder / WEIGHTS)
        for module, layer in layers:
            assert isinstance(layer, nn.Linear)
            down, up = (tensors[f"{PREFIX}{module}{side}"].float() for side in (A, B))
            self._add(module, layer, name, down, up * adapter.pairs[module].scale)
        return True

    def _add(self, place: str, module: nn.Linear, name: str, down: torch.Tensor, up: torch.Tensor) -> None:
        dtype, device = self._dtype, module.weight.device  # quantized layers compute in the model's dtype, too
        if place not in self._layers:
            self._layers[place] = {}
            module.forward = partial(  # type: ignore[method-assign]
                _forward, module.forward, self.routing, self._layers[place]
            )
        down = down.to(device, dtype, copy=True)  # load_file maps its file, which may be written anew
        self._layers[place][name] = (down, up.to(device, dtype))


def _fits(layer: nn.Module | None, adapter: AdapterFiles, module: str) -> bool:
    """Return whether a layer is linear and as wide as an adapter's matrices for it."""
    down, up = (adapter.tensors[f"{PREFIX}{module}{side}"]["shape"] for side in (A, B))
    return isinstance(layer, nn.Linear) and (layer.in_features, layer.out_features) == (down[1], up[0])


def _forward(
    original: Callable[[torch.Tensor], torch.Tensor],
    routing: Routing,
    adapters: dict[str, tuple[torch.Tensor, torch.Tensor]],
    x: torch.Tensor,
) -> torch.Tensor:
    """Return the layer's output [rows, tokens, out], with each adapter's product added to its rows.

    Some models (OPT, the shared expert of a mixture) give a layer the tokens of all rows in one list [rows x tokens].
    """
    out = original(x)
    each = x.shape[0] // routing.rows
    for begin, end, name in routing.slices:
        pair = adapters.get(name)
        if pair is not None:
            part = slice(begin * each, end * each)
            out[part] += linear(linear(x[part].to(pair[0].dtype), pair[0]), pair[1]).to(out.dtype)
    return out
