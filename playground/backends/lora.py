"""Adapters on a base's own weights: one loaded model answers as base and as every adapter, in one batch.

Rows of a batch are ordered by adapter, so a layer adds each adapter's product to a slice of its output: no copy of
the base, no gathered weights, nothing computed for base rows. The sum is PEFT's own: W x + scale B A x, with the scale
folded into B. Only plain LoRA on linear layers runs here (catalogue.adapters tells); for others see adapted.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import linear

from playground.catalogue.adapters import PREFIX, WEIGHTS, A, AdapterFiles, B

WHOLE_BATCH = 1 << 30
Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""The matrices of one layer's adapters, by their names: [rank, in] and, with the scale, [out, rank]."""


@dataclass
class Routing:
    """Which slice of a batch of so many rows runs with which adapter: (begin, end, adapter); base rows are in none."""

    slices: list[tuple[int, int, str]] = field(default_factory=list)
    rows: int = 1
    mixed: "Mixed | None" = None
    """In place of slices, for rows in any order, a token of each."""

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


class Mixed:
    """Some adapters side by side, as one of all their ranks; what is not a row's own is multiplied by 0.

    It has no slices, so a captured step holds it, whoever the rows belong to. Layers that are fed alike (queries, keys
    and values) share the narrow half of the product; on a card it runs beside the base's own layer.
    """

    def __init__(self, layers: Mapping[int, "Pairs"], numbers: Mapping[str, int], device: torch.device) -> None:
        self._layers = {place: _side_by_side(pairs, numbers) for place, pairs in layers.items()}
        self._owners: dict[tuple[int, ...], torch.Tensor] = {}
        self._masks: dict[tuple[int, ...], torch.Tensor] = {}
        self._device = device
        self._beside = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._fed_last: torch.Tensor | None = None
        self._together: list[int] = []
        """The places that were fed the same as the last one."""
        self._groups: dict[int, tuple[int, ...]] = {}
        """By its first place: those that are fed alike, as far as a pass has shown it."""
        self._downs: dict[tuple[int, ...], torch.Tensor] = {}
        self._narrow: dict[int, torch.Tensor] = {}

    def choose(self, which: torch.Tensor, dtype: torch.dtype) -> None:
        """Begin a pass: say which adapter each row has, by its number; any other is the base."""
        self._which, self._dtype, self._masks = which[:, None], dtype, {}
        self._fed_last, self._together, self._narrow = None, [], {}

    def add(self, original: Callable[[torch.Tensor], torch.Tensor], place: int, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output [rows, 1, out] or [rows, out] with each row's own product added."""
        layer = self._layers.get(place)
        if layer is None:
            return original(x)
        if x is not self._fed_last:
            self._fed_last, self._together, self._narrow = x, [], {}
        self._together.append(place)
        if len(self._together) > len(self._groups.get(self._together[0], ())):
            self._groups[self._together[0]] = tuple(self._together)
        out = original(x) if place in self._narrow else self._beside_narrowing(original, place, x)
        flat, narrow = out.reshape(-1, out.shape[-1]), self._narrow[place]
        if flat.dtype != layer.up.dtype:
            return out + (narrow @ layer.up).to(out.dtype).view_as(out)
        return torch.addmm(flat, narrow, layer.up).view_as(out)

    def _beside_narrowing(
        self, original: Callable[[torch.Tensor], torch.Tensor], place: int, x: torch.Tensor
    ) -> torch.Tensor:
        """Return the base's output, and have the narrow halves of a place, and of all fed like it, made meanwhile."""
        if self._beside is None:
            self._make_narrow(place, x)
            return original(x)
        here = torch.cuda.current_stream(self._device)
        self._beside.wait_stream(here)
        with torch.cuda.stream(self._beside):
            self._make_narrow(place, x)
        out = original(x)
        here.wait_stream(self._beside)
        return out

    def _make_narrow(self, place: int, x: torch.Tensor) -> None:
        places = self._groups.get(place) or (place,)
        layers = [layer for one in places if (layer := self._layers[one]) is not None]
        if places not in self._downs:
            self._downs[places] = torch.cat([layer.down for layer in layers])
        mask = self._mask(tuple(number for layer in layers for number in layer.owners))
        narrow = linear(x.reshape(-1, x.shape[-1]).to(mask.dtype), self._downs[places]) * mask
        parts = torch.split(narrow, [len(layer.down) for layer in layers], dim=1)
        self._narrow.update(zip(places, parts, strict=True))

    def _mask(self, owners: tuple[int, ...]) -> torch.Tensor:
        """Return 1 where a column of a narrow half is of the row's own adapter, else 0; made once a pass."""
        if owners not in self._owners:
            self._owners[owners] = torch.tensor(owners, device=self._device)
        if owners not in self._masks:
            self._masks[owners] = (self._which == self._owners[owners]).to(self._dtype)
        return self._masks[owners]


class _SideBySide(NamedTuple):
    """One layer's matrices of some adapters: [ranks, in], [ranks, out], and whose each rank is."""

    down: torch.Tensor
    up: torch.Tensor
    owners: tuple[int, ...]


def _side_by_side(pairs: "Pairs", numbers: Mapping[str, int]) -> _SideBySide | None:
    own = [(number, *pairs[name]) for name, number in numbers.items() if name in pairs]
    if not own:
        return None
    down, up = torch.cat([pair[1] for pair in own]), torch.cat([pair[2] for pair in own], dim=1)
    return _SideBySide(down, up.t().contiguous(), tuple(number for number, one, _ in own for _ in range(len(one))))


class Adapters:
    """The adapters attached to one model, each once; a layer changes only with its first."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype
        self.routing = Routing()
        self._layers: dict[str, Pairs] = {}

    def mixed(self, numbers: Mapping[str, int], device: torch.device) -> Mixed:
        """Return the named adapters as one, for a routing of rows in any order; each has a number."""
        return Mixed({id(pairs): pairs for pairs in self._layers.values()}, numbers, device)

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
    adapters: Pairs,
    x: torch.Tensor,
) -> torch.Tensor:
    """Return the layer's output [rows, tokens, out], with each adapter's product added to its rows.

    Some models (OPT, the shared expert of a mixture) give a layer the tokens of all rows in one list [rows x tokens].
    """
    if routing.mixed is not None:
        return routing.mixed.add(original, id(adapters), x)
    out = original(x)
    each = x.shape[0] // routing.rows
    for begin, end, name in routing.slices:
        pair = adapters.get(name)
        if pair is not None:
            part = slice(begin * each, end * each)
            out[part] += linear(linear(x[part].to(pair[0].dtype), pair[0]), pair[1]).to(out.dtype)
    return out
