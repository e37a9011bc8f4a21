"""The key/value cache of rows that come and go: every row has a slot in buffers that stay where they are.

A captured step reads and writes the same memory each time it runs, so nothing here moves when a row joins or leaves.
The last place of every slot is never read: what belongs to no row (padding, slots without a row) is written there.
"""

from contextlib import nullcontext
from itertools import count
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.masking_utils import AttentionMaskInterface

LONG = 1024
FAR_BACK = [SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
"""The kernels for one token that sees so many: cuDNN's needs half the time there, once it has planned."""
_numbers = count(1)


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer: [slots, length, heads, width]."""

    is_sliding = False

    def __init__(self, cache: "SlotCache") -> None:
        super().__init__()
        self._cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make the buffers, as wide as the first states; zeros, because what is masked is still multiplied."""
        room = (self._cache.slots, self._cache.length)
        self.keys, self.values = (
            one.new_zeros(*room, one.shape[1], one.shape[3]) for one in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **options: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [rows, heads, tokens, width] where the pass says, and return what its tokens may see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._cache.written(self, key_states, value_states)

    def grow(self, slots: int, length: int) -> None:
        """Give the layer larger buffers with the same content."""
        self.keys, self.values = longer(self.keys, slots, length), longer(self.values, slots, length)

    def get_seq_length(self) -> int:
        """Return 0: each row has a length of its own, which its positions tell."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return sizes that nothing uses: no mask is made but ours."""
        return query_length, 0

    def get_max_length(self) -> int:
        """Return how many tokens a slot holds."""
        return self._cache.length


class SlotCache(Cache):  # type: ignore[misc]
    """The cache of all slots, and the attention that reads it; `attention` is its name in transformers."""

    def __init__(self, slots: int, length: int) -> None:
        super().__init__(layer_class_to_replicate=lambda: SlotLayer(self))
        self.slots, self.length = slots, length
        self.attention = f"madang_slots_{next(_numbers)}"
        self._places: tuple[torch.Tensor, ...] = ()
        self._span: tuple[int, int, int] | None = None
        self._seen = 0
        self._bias: torch.Tensor | None = None
        AttentionInterface.register(self.attention, self._attend)
        AttentionMaskInterface.register(self.attention, lambda *arguments, **options: None)

    @property
    def bytes_a_place(self) -> int:
        """Return what one token of one slot takes; 0 before the first pass."""
        kept = [one for layer in self.layers for one in (layer.keys, layer.values)]
        return sum(one.shape[2] * one.shape[3] * one.element_size() for one in kept)

    def grow(self, slots: int, length: int) -> None:
        """Make room for more rows or longer ones."""
        self.slots, self.length = slots, length
        for layer in self.layers:
            layer.grow(slots, length)

    def clear(self, slot: int) -> None:
        """Forget what a slot holds."""
        for layer in self.layers:
            layer.keys[slot], layer.values[slot] = 0, 0

    def one_each(self, slots: torch.Tensor, places: torch.Tensor, seen: int, dtype: torch.dtype) -> None:
        """Make ready for a pass with one token of each slot [rows] at its place [rows]; all places are under `seen`.

        A token sees its own slot up to itself.
        """
        before = torch.arange(seen, device=places.device) <= places[:, None]
        self._bias = torch.where(before, 0.0, float("-inf")).to(dtype)[:, None, None]
        self._places, self._span, self._seen = (slots, places), None, seen

    def begin(self, places: torch.Tensor) -> None:
        """Make ready for the first tokens of some rows, padded on the right; flat `places` [rows x tokens]."""
        self._places, self._span, self._bias = (places,), None, None

    def go_on(self, slot: int, begin: int, tokens: int) -> None:
        """Make ready for further tokens of one row."""
        self._places, self._span, self._bias = (), (slot, begin, begin + tokens), None

    def written(self, layer: SlotLayer, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write states of one layer, and return [rows, heads, places, width] of what is seen."""
        both = ((layer.keys, keys), (layer.values, values))
        if self._span is not None:
            slot, begin, end = self._span
            for buffer, states in both:
                buffer[slot, begin:end] = states[0].transpose(0, 1)
            return tuple(buffer[slot : slot + 1, :end].transpose(1, 2) for buffer, _ in both)  # type: ignore[return-value]
        if self._bias is None:
            for buffer, states in both:
                flat = states.transpose(1, 2).flatten(0, 1)
                buffer.view(-1, *buffer.shape[2:]).index_copy_(0, self._places[0], flat)
            return keys, values
        for buffer, states in both:
            buffer.index_put_(self._places, states[:, :, 0])
        rows = len(self._places[0])
        return tuple(buffer[:rows, : self._seen].transpose(1, 2) for buffer, _ in both)  # type: ignore[return-value]

    def _attend(  # noqa: PLR0913 - transformers' signature
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        """Return attention [rows, tokens, heads, width]; FlashAttention where prompts are read in 16 bit on a card."""
        if self._bias is not None:  # the heads that share keys stand as tokens: keys are read once, and not repeated
            rows, heads, _, width = query.shape
            grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], width)
            with sdpa_kernel(FAR_BACK, set_priority=True) if self._seen >= LONG else nullcontext():
                out = scaled_dot_product_attention(grouped, key, value, attn_mask=self._bias, scale=scaling)
            return out.reshape(rows, 1, heads, value.shape[-1]), None
        how: dict[str, Any] = {"scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
        if self._span is None or not self._span[1]:
            out = scaled_dot_product_attention(query, key, value, is_causal=True, **how)
        else:
            lower = causal_lower_right(query.shape[2], key.shape[2])
            out = scaled_dot_product_attention(query, key, value, attn_mask=lower, **how)
        return out.transpose(1, 2).contiguous(), None


def longer(old: torch.Tensor, *sizes: int) -> torch.Tensor:
    """Return a tensor with larger first dimensions: what was there, and zeros."""
    new = old.new_zeros(*sizes, *old.shape[len(sizes) :])
    new[tuple(slice(size) for size in old.shape[: len(sizes)])] = old
    return new
