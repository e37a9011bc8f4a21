"""The key/value cache of rows that decode together: one buffer per layer, every row aligned at its newest token.

transformers' own dynamic cache copies everything at every token; here a layer writes into a buffer that has room.
A shorter row has nothing before its first token: `starts` says where each row begins, and a mask leaves the rest out.
"""

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, DynamicLayer

GROW = 128


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer: buffers [rows, heads, room, width], filled up to `length`."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.length = 0
        self._buffers: tuple[torch.Tensor, ...] = ()

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing: transformers calls it before the first update, and the buffers come with `_reserve`."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **options: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [rows, heads, tokens, width] and return all that is stored so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        self._reserve(end, (key_states, value_states))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.length : end] = states
        self.length = end
        self._show()
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of tokens stored."""
        return self.length

    def fill(self, parts: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Take in rows [1, heads, tokens, width] of different lengths, aligned at their newest token."""
        self.length = max(keys.shape[2] for keys, _ in parts)
        self.lazy_initialization(*parts[0])
        room = self.length + GROW
        self._buffers = tuple(one.new_zeros(len(parts), one.shape[1], room, one.shape[3]) for one in parts[0])
        for index, part in enumerate(parts):
            for buffer, states in zip(self._buffers, part, strict=True):
                buffer[index, :, self.length - states.shape[2] : self.length] = states[0]
        self._show()

    def _reserve(self, end: int, states: tuple[torch.Tensor, torch.Tensor]) -> None:
        if self._buffers and end <= self._buffers[0].shape[2]:
            return
        room = end + max(GROW, end // 4)
        grown = tuple(one.new_empty(*one.shape[:2], room, one.shape[3]) for one in states)
        for new, old in zip(grown, self._buffers, strict=False):  # the first time there is nothing to move
            new[:, :, : self.length] = old[:, :, : self.length]
        self._buffers = grown

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self._buffers)


class RowsCache(Cache):  # type: ignore[misc]
    """A cache whose rows may differ in length. `starts[i]` is where row i begins in the shared buffers."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=RoomyLayer)
        self.starts: list[int] = [0]

    @classmethod
    def joined(cls, rows: Sequence[tuple["RowsCache", int]]) -> "RowsCache":
        """Return a new cache of the given rows, each named by its cache and its index there."""
        new = cls()
        for number in range(len(rows[0][0].layers)):
            layer = RoomyLayer()
            layer.fill([cache.row(number, index) for cache, index in rows])
            new.layers.append(layer)
        lengths = [cache.length - cache.starts[index] for cache, index in rows]
        new.starts = [max(lengths) - length for length in lengths]
        return new

    @property
    def length(self) -> int:
        """Return the number of tokens stored in the longest row."""
        return int(self.layers[0].length) if self.layers else 0

    def row(self, layer: int, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values [1, heads, tokens, width] of one row, without what lies before its first token."""
        stored, start = self.layers[layer], self.starts[index]
        return stored.keys[index : index + 1, :, start:], stored.values[index : index + 1, :, start:]

    def visible(self, new_tokens: int, device: torch.device) -> torch.Tensor | None:
        """Return a mask [rows, stored + new] of what each row may see; None where all begin at the first place."""
        if not any(self.starts):
            return None
        places = torch.arange(self.length + new_tokens, device=device)
        return places[None, :] >= torch.tensor(self.starts, device=device)[:, None]
