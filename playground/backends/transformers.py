"""Base models and their adapters through transformers: one set of weights, every row decoded in one batch.

transformers brings the model and its tokenizer; the decode loop is ours, because `generate` knows one sampling setting,
one stop and one padded history for a whole batch. Here each row has its own sampler, generator, history and adapter.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from playground.allowance import Cancelled
from playground.backends.carriers import Carrier, Carriers
from playground.backends.kv import RowsCache
from playground.backends.logprobs import Floats, Room, prompt_logprobs, token_logprob
from playground.backends.sampling import Sampler
from playground.backends.slot_check import slots
from playground.backends.slot_rows import SlotRows
from playground.backends.torch_model import TorchModel
from playground.backends.torch_rows import NO_LOGITS, TorchRow
from playground.backends.torch_tokenizer import TorchTokenizer
from playground.backends.tree import scorer
from playground.errors import MadangError
from playground.events import TokenLogprob
from playground.presets import Sampling
from playground.protocol import (
    Backend,
    Choices,
    ModelSpec,
    Pause,
    PromptToken,
    RowRequest,
    Scored,
    drawn_alone,
    read_alone,
)

CHUNK = 512
CPU_ROWS, CARD_ROWS = 32, 128
"""Answers in one batch at most: each holds a cache of its own."""


class TransformersBackend(TorchModel, Backend[TorchRow]):
    """One causal language model and the adapters attached to it."""

    def __init__(self, spec: ModelSpec, in_slots: bool | None = None) -> None:
        """Load the model. `in_slots`: whether rows are answered in slots where they can be; None: on a card."""
        super().__init__(spec)
        self._watch_cancels()
        self._carriers = Carriers(
            spec.path, self._model, self._dtype, lambda model: scorer(model, self._device, self._stateful)
        )
        self._reading: TorchRow | None = None
        self._rows = 0
        self._scoring = False
        self.pause = Pause()
        on_card = self._device.type == "cuda"
        self.max_rows = CARD_ROWS if on_card else CPU_ROWS
        self._slots: SlotRows | None = None
        if not self._stateful and (on_card if in_slots is None else in_slots):
            self._slots = slots(self._carriers.base, self._carriers.plain, self.info.context, self.max_rows)
        self.portion = self._slots.portion if self._slots else CHUNK

    def score(self, questions: Sequence[Choices], adapter: str | None = None) -> Scored:
        """Score choices in as few passes as their lengths allow."""
        with self._computing(adapter) as (carrier, pause):
            return carrier.scorer.score(questions, pause)

    def logprobs(self, ids: Sequence[int], adapter: str | None = None) -> Floats:
        with self._computing(adapter) as (carrier, pause):
            pause()
            with torch.inference_mode():
                given = torch.tensor([list(ids)], device=self._device)
                logits = carrier.model(input_ids=given, use_cache=False).logits[0]
                return torch.log_softmax(logits.float(), dim=-1).cpu().numpy()

    def prompt_logprobs(
        self, prompts: Sequence[Sequence[int]], top: int, adapter: str | None = None
    ) -> list[list[PromptToken]]:
        """Read every prompt; what they begin with alike is computed once where the model allows it."""
        with self._computing(adapter) as (carrier, pause):
            room = Room(carrier.scorer.longest, len(prompts), carrier.scorer.budget)
            read = partial(carrier.scorer.reads, top=top, pause=pause)
            return prompt_logprobs(prompts, room, read, carrier.tokenizer.piece)

    @contextmanager
    def _computing(self, adapter: str | None) -> Iterator[tuple[Carrier, Callable[[], None]]]:
        """Give a call its carrier, and a pause that puts its adapter back: rows that go on in it leave theirs."""
        carrier = self._carriers.of(adapter)

        def pause() -> None:
            self._scoring = False
            self.pause()
            self._scoring = True
            self._carriers.routing.route_all(carrier.routed)

        self._scoring = True
        try:
            yield carrier, pause
        finally:
            self._scoring = False

    def tokenizer(self, adapter: str | None = None) -> TorchTokenizer:
        return self._carriers.of(adapter).tokenizer

    def has_room(self, prompt: list[int], sampling: Sampling) -> bool:
        """Return whether one more row may come: caches grow as needed."""
        return self._rows < self.max_rows

    def open(self, request: RowRequest, prompt: list[int]) -> TorchRow:
        """Return a row with a slot, or an empty cache of its own; load its adapter first where it is new."""
        row = TorchRow(request, prompt, carrier=self._carriers.of(request.adapter))
        self._rows += 1
        if self._slots is None or row.carrier.model is not self._model or not self._slots.join(row):
            row.sampler = Sampler(request.sampling, prompt, self._device)
            row.cache = self._empty_cache()
        return row

    def _empty_cache(self) -> Any:
        return DynamicCache(config=self._model.config) if self._stateful else RowsCache()

    def read(self, rows: Sequence[TorchRow]) -> list[bool | Cancelled]:
        """Read those in slots together."""
        seated = [row for row in rows if row.slot is not None and not row.cancelled()]
        ready = dict(zip(seated, self._slots.read(seated), strict=True)) if self._slots and seated else {}
        return [ready[row] if row in ready else read_alone(self, row) for row in rows]

    def draw(self, rows: Sequence[TorchRow]) -> list[int | None | MadangError]:
        """Return what the step of those in slots has drawn, and begin their next; draw for the others one by one."""
        seated = [row for row in rows if row.slot is not None]
        drawn = dict(zip(seated, self._slots.draw(seated), strict=True)) if self._slots and seated else {}
        return [drawn[row] if row in drawn else drawn_alone(self, row) for row in rows]

    def prefill(self, row: TorchRow) -> bool:
        """Read the next 512 prompt tokens of a row, alone; a cancel stops the model between two layers."""
        if row.cancelled():
            raise Cancelled
        size = len(row.prompt) if self._stateful else CHUNK
        chunk = row.prompt[row.read : row.read + size]
        positions = torch.arange(row.read, row.read + len(chunk), device=self._device)
        self._reading = row
        logits = self._forward([row], [chunk], positions[None], None)
        self._reading = None
        row.read += len(chunk)
        row.logits = logits[0]
        return row.read == len(row.prompt)

    def sample(self, row: TorchRow) -> int:
        """Draw from the row's own distribution with its own generator, unless the next token is fixed."""
        assert row.sampler is not None
        if not row.forced:
            return row.sampler.draw(row.logits)
        row.sampler.force(row.forced[0])
        return row.forced.pop(0)

    def decode(self, rows: Sequence[TorchRow]) -> None:
        """Feed one token of every row; base and plain adapters share one pass, equal adapters standing together.

        Those in slots have begun their next step already.
        """
        alone = [row for row in rows if row.slot is None]
        for _, group in groupby(sorted(alone, key=TorchRow.place), lambda row: row.carrier.model):
            ordered = list(group)
            if not self._stateful:
                self._join(ordered)
            for batch in [[row] for row in ordered] if self._stateful else [ordered]:
                self._decode_batch(batch)

    def _decode_batch(self, rows: list[TorchRow]) -> None:
        cache = rows[0].cache
        lengths = [len(row.prompt) + len(row.tokens) - 1 for row in rows]
        positions = torch.tensor(lengths, device=self._device)[:, None]
        mask = cache.visible(1, self._device) if isinstance(cache, RowsCache) else None
        logits = self._forward(rows, [row.tokens[-1:] for row in rows], positions, mask)
        for index, row in enumerate(rows):
            row.logits = logits[index]

    def _join(self, rows: list[TorchRow]) -> None:
        """Give the rows a common cache: the one they share already, or a new one when a row came or left."""
        cache = rows[0].cache
        in_place = all(row.cache is cache and row.index == index for index, row in enumerate(rows))
        if in_place and len(cache.starts) == len(rows):
            return
        cache = RowsCache.joined([(row.cache, row.index) for row in rows])
        for index, row in enumerate(rows):
            row.cache, row.index = cache, index

    def _forward(
        self, rows: list[TorchRow], ids: list[list[int]], positions: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Return logits [rows, vocabulary] of the last token of every row, which all have one model and one cache."""
        self._carriers.routing.route([row.carrier.routed for row in rows])
        with torch.inference_mode():
            output = rows[0].carrier.model(
                input_ids=torch.tensor(ids, device=self._device),
                attention_mask=mask,
                position_ids=positions,
                past_key_values=rows[0].cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _watch_cancels(self) -> None:
        """Let a cancelled row leave a long prompt, or a call that is given up its batch, between two layers."""

        def look(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
            row = self._reading
            if row is not None and row.cancelled():
                self._reading = None
                raise Cancelled
            if self._scoring and self.pause.given_up():
                raise Cancelled

        for layer in _decoder_layers(self._model):
            layer.register_forward_pre_hook(look)

    def likely(self, row: TorchRow, token: int) -> TokenLogprob:
        """Read the logits that the token was drawn from; they stay until the next step."""
        piece = row.carrier.tokenizer.piece
        return token_logprob(row.logits.float().cpu().numpy(), token, row.request.top_logprobs or 0, piece)

    def close_row(self, row: TorchRow) -> None:
        self._rows -= 1
        if row.slot is not None and self._slots is not None:
            self._slots.leave(row)
        row.cache, row.logits = None, NO_LOGITS


def _decoder_layers(model: Any) -> list[torch.nn.Module]:
    """Return the model's repeated blocks: the longest list of modules in it."""
    lists = [list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len, default=[])
