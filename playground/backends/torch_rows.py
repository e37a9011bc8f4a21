"""A row of the transformers backend: what it runs through, and where what it has read is kept."""

from dataclasses import dataclass
from typing import Any

import torch

from playground.backends.carriers import Carrier
from playground.backends.sampling import Sampler
from playground.protocol import Row

NO_LOGITS = torch.empty(0)


@dataclass(eq=False, kw_only=True)
class TorchRow(Row):
    """A row with the logits of its newest token; with a sampler and a place in a cache, unless it has a slot."""

    carrier: Carrier
    sampler: Sampler | None = None
    cache: Any = None
    index: int = 0
    logits: torch.Tensor = NO_LOGITS
    slot: int | None = None
    at: int = 0
    """With a slot: where the next token that it is fed stands."""

    def place(self) -> tuple[int, str]:
        """Return what rows sort by: those of one model stand together, and among them those of one adapter."""
        return id(self.carrier.model), self.carrier.routed or ""
