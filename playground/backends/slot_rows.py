"""Answers rows in slots: one step feeds a token to all of them and draws the next ones, all on the device.

On a card the step is captured as a CUDA graph, one for each number of rows (1, 2, 4, 8, …), and the next one runs while
the tokens of the last are shown: the processor waits once a token. Rows with adapters are in the same graph. What
cannot be done so (sliding windows, running states, capped attention, several cards, no memory for a slot) takes the
other way, a batch joined anew (`kv`), and so does everything on a processor, where nothing is gained.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch

from playground.backends.graphs import Graphs
from playground.backends.lora import Adapters, Mixed
from playground.backends.sampling import no_numbers
from playground.backends.slot_sampler import SlotSampler
from playground.backends.slots import SlotCache, longer
from playground.backends.torch_rows import TorchRow
from playground.errors import MadangError
from playground.presets import Sampling

SHORTEST = 256
"""Places that a step reads at least; twice as many each time that is too short."""
PADDING = 1.25
LITTLE = 1024
"""Prompts are read in one pass while padding adds a quarter at most, or all are no more tokens than this."""
SHARE = 0.6
"""Of the card's free memory, what larger buffers may take."""


class Kind(NamedTuple):
    """What a step is captured for."""

    rows: int
    seen: int
    draws: bool
    penalizes: bool
    adapters: tuple[str, ...]


class SlotRows:
    """The slots of one model. Rows `join`, are read, drawn for in steps, and `leave`; nobody else's memory moves."""

    def __init__(self, model: Any, adapters: Adapters, context: int, most: int, captures: bool) -> None:
        self._model, self._adapters = model, adapters
        self._device, self._dtype = model.device, model.get_input_embeddings().weight.dtype
        self._most, self._context = most, context
        self._longest = -(-(context + 1) // 64) * 64
        vocabulary = int(model.config.get_text_config().vocab_size)
        self._cache = SlotCache(1, min(SHORTEST, self._longest))
        self._sampler = SlotSampler(vocabulary, self._device)
        self._graphs = Graphs(self._device, captures)
        self._mixed: dict[tuple[str, ...], Mixed] = {}
        self._numbers: dict[str, int] = {}
        self._rows: dict[int, TorchRow] = {}
        self._flight: dict[int, TorchRow] = {}
        """The rows of the step under way."""
        self._broken: set[int] = set()
        self._host = torch.zeros(most, dtype=torch.long, pin_memory=captures)
        self._landed = torch.cuda.Event() if captures else None  # type: ignore[no-untyped-call]
        self._vocabulary = vocabulary
        numbers = torch.zeros(0, dtype=torch.long, device=self._device)
        self._token = self._at = self._which = self._out = self._all = numbers
        self._live = self._none = numbers.bool()
        self._logits = torch.zeros(0, vocabulary, dtype=self._dtype, device=self._device)
        self.portion = 512
        """Tokens of prompts that are read in one go."""
        self._make_room(1, self._cache.length)

    @torch.inference_mode()
    def join(self, row: TorchRow) -> bool:
        """Give a row a slot; False where there is no room for one."""
        slot = next(number for number in range(len(self._rows) + 1) if number not in self._rows)
        most = min(len(row.prompt) + row.request.sampling.max_new_tokens, self._context) - len(row.prompt)
        if not self._room(slot + 1, len(row.prompt) + most + 1):
            return False
        row.slot, self._rows[slot] = slot, row
        name = row.carrier.routed
        number = self._numbers.setdefault(name, len(self._numbers)) if name else -1
        self._which[slot] = number
        self._sampler.join(slot, row.request.sampling, row.prompt, most)
        return True

    @torch.inference_mode()
    def leave(self, row: TorchRow) -> None:
        """Take a row's slot back; a step under way may still write to it, before any row that comes."""
        slot = row.slot
        assert slot is not None
        del self._rows[slot]
        self._flight.pop(slot, None)
        if slot in self._broken:  # numbers that are none must not reach the next row: what is masked is multiplied by 0
            self._broken.remove(slot)
            self._cache.clear(slot)
        self._live[slot] = False
        self._token[slot] = 0
        row.slot = None

    def _room(self, slots: int, length: int) -> bool:
        """Return whether there are so many slots of such a length, made where the card has the memory."""
        slots = max(_power(slots), self._cache.slots)
        length = max(min(_length(length), self._longest), self._cache.length)
        if slots > self._most:
            return False
        if (slots, length) != (self._cache.slots, self._cache.length):
            size = slots * length * self._cache.bytes_a_place + slots * self._vocabulary * 9
            if self._device.type == "cuda" and size > SHARE * _free(self._device):
                return False
            self._make_room(slots, length)
        return True

    def _make_room(self, slots: int, length: int) -> None:
        """Make all buffers so large; what is captured works on the old ones, and is forgotten."""
        self._graphs.forget()
        self._cache.grow(slots, length)
        self._sampler.grow(slots, length)
        self._token, self._at, self._which, self._out = (
            longer(old, slots) for old in (self._token, self._at, self._which, self._out)
        )
        self._live, self._none = longer(self._live, slots), longer(self._none, slots)
        self._logits = longer(self._logits, slots)
        self._all = torch.arange(slots, device=self._device)

    @torch.inference_mode()
    def read(self, rows: Sequence[TorchRow]) -> list[bool]:
        """Read a portion of each prompt, in as few passes as their lengths allow; return which may be drawn for.

        The last token of a prompt is not read here: it is what the first step is fed.
        """
        takes = {row: min(len(row.prompt) - 1 - row.read, self.portion) for row in rows}
        for group in _passes([row for row in rows if takes[row] and not row.read], takes):
            self._read_beginnings(group, [takes[row] for row in group])
        for row in rows:
            if takes[row] and row.read:
                self._read_on(row, takes[row])
            row.read += takes[row]
        return [self._start(row) for row in rows]

    def _start(self, row: TorchRow) -> bool:
        if row.read < len(row.prompt) - 1:
            return False
        assert row.slot is not None
        row.read, row.at = len(row.prompt), len(row.prompt) - 1
        self._token[row.slot], self._at[row.slot] = row.prompt[-1], row.at
        self._live[row.slot] = True
        return True

    def _read_beginnings(self, rows: list[TorchRow], takes: list[int]) -> None:
        wide = 64 if self._device.type == "cuda" else 1  # fewer shapes, for which kernels are chosen anew
        width = -(-max(takes) // wide) * wide
        ids = [row.prompt[:take] + [0] * (width - take) for row, take in zip(rows, takes, strict=True)]
        slots, limits = (torch.tensor(of, device=self._device)[:, None] for of in ([row.slot for row in rows], takes))
        steps = torch.arange(width, device=self._device)
        places = slots * self._cache.length + torch.where(steps < limits, steps, self._cache.length - 1)
        self._cache.begin(places.flatten())
        self._pass(
            rows, torch.tensor(ids, device=self._device), steps.clamp(max=self._context - 1).expand(len(rows), -1)
        )

    def _read_on(self, row: TorchRow, take: int) -> None:
        assert row.slot is not None
        self._cache.go_on(row.slot, row.read, take)
        positions = torch.arange(row.read, row.read + take, device=self._device)
        ids = torch.tensor([row.prompt[row.read : row.read + take]], device=self._device)
        self._pass([row], ids, positions[None])

    def _pass(self, rows: list[TorchRow], ids: torch.Tensor, positions: torch.Tensor) -> None:
        self._adapters.routing.route([row.carrier.routed for row in rows])
        self._forward(ids, positions)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return logits [rows, vocabulary] after the last column, by attention over the slots."""
        config = self._model.config
        before = config._attn_implementation
        config._attn_implementation = self._cache.attention
        try:
            logits: torch.Tensor = self._model(
                input_ids=ids, position_ids=positions, past_key_values=self._cache, use_cache=True, logits_to_keep=1
            ).logits[:, -1]
            return logits
        finally:
            config._attn_implementation = before

    @torch.inference_mode()
    def draw(self, rows: Sequence[TorchRow]) -> list[int | None | MadangError]:
        """Return the tokens of the step under way, None for rows that were not in it; begin the next step.

        A token that a row is to say comes in the place of the one that was drawn.
        """
        landed = self._wait()
        found: list[int | None | MadangError] = []
        going = []
        for row in rows:
            token = landed.get(row)
            if token is not None and token >= 0 and row.forced:
                token = row.forced.pop(0)
                self._token[row.slot] = token
            found.append(self._without_numbers(row) if token is not None and token < 0 else token)
            said = len(row.tokens) + (token is not None)
            full = len(row.prompt) + said >= self._context or said >= row.request.sampling.max_new_tokens
            if not full and (token is None or token >= 0):
                going.append(row)
        if going:
            self._launch(list(rows), going)
        return found

    def _wait(self) -> dict[TorchRow, int]:
        """Return what the step under way has drawn, by row."""
        if not self._flight:
            return {}
        if self._landed is not None:
            self._landed.synchronize()
        drawn = self._host.tolist()
        flight, self._flight = self._flight, {}
        for row in flight.values():
            row.logits = self._logits[row.slot].clone() if row.request.top_logprobs is not None else row.logits
        return {row: drawn[slot] for slot, row in flight.items()}

    def _without_numbers(self, row: TorchRow) -> MadangError:
        assert row.slot is not None
        self._broken.add(row.slot)
        return no_numbers()

    def _launch(self, rows: list[TorchRow], going: list[TorchRow]) -> None:
        """Begin a step for rows; those that have ended leave soon, and what is drawn for them is not read."""
        kind = self._kind(rows)
        live = self._live[: kind.rows]
        self._graphs.run(kind, partial(self._step, kind, live), partial(self._step, kind, self._none[: kind.rows]))
        self._host[: kind.rows].copy_(self._out[: kind.rows], non_blocking=True)
        if self._landed is not None:
            self._landed.record()
        for row in rows:
            row.at += 1
        self._flight = {row.slot: row for row in going if row.slot is not None}

    def _kind(self, rows: list[TorchRow]) -> Kind:
        of = [row.request.sampling for row in rows]
        return Kind(
            rows=_power(max(row.slot for row in rows if row.slot is not None) + 1),
            seen=min(_length(max(row.at for row in rows) + 1), self._cache.length),
            draws=not all(sampling.greedy for sampling in of),
            penalizes=any(_penalizes(sampling) for sampling in of),
            adapters=tuple(sorted({row.carrier.routed for row in rows if row.carrier.routed})),
        )

    def _step(self, kind: Kind, live: torch.Tensor) -> None:
        """Feed each live slot its token and draw the next: all that is read and written stays where it is."""
        slots, tokens = self._all[: kind.rows], self._token[: kind.rows]
        places = torch.where(live, self._at[: kind.rows], self._cache.length - 1)
        self._sampler.see(slots, tokens, places, live)
        self._cache.one_each(slots, places, kind.seen, self._dtype)
        with self._routed(kind):
            logits = self._forward(tokens[:, None], torch.where(live, places, 0)[:, None])
        drawn, good = self._sampler.draw(logits, places, kind.draws, kind.penalizes)
        self._out[: kind.rows] = torch.where(good, drawn, -1)
        self._token[: kind.rows] = torch.where(live, drawn, tokens)
        self._at[: kind.rows] += live
        self._logits[: kind.rows] = logits

    @contextmanager
    def _routed(self, kind: Kind) -> Iterator[None]:
        """Have the layers add the adapters of a step's rows, whatever their order."""
        routing = self._adapters.routing
        routing.route_all(None)
        if kind.adapters and kind.adapters not in self._mixed:
            numbers = {name: self._numbers[name] for name in kind.adapters}
            self._mixed[kind.adapters] = self._adapters.mixed(numbers, self._device)
        if kind.adapters:
            routing.mixed = self._mixed[kind.adapters]
            routing.mixed.choose(self._which[: kind.rows], self._dtype)
        try:
            yield
        finally:
            routing.mixed = None


def _passes(rows: list[TorchRow], takes: dict[TorchRow, int]) -> Iterator[list[TorchRow]]:
    """Yield rows that are read in one pass, those of an adapter beside each other."""
    group: list[TorchRow] = []
    for row in sorted(rows, key=lambda row: takes[row]):
        padded = (len(group) + 1) * takes[row]
        if group and padded > max(LITTLE, PADDING * (sum(takes[one] for one in group) + takes[row])):
            yield sorted(group, key=TorchRow.place)
            group = []
        group.append(row)
    if group:
        yield sorted(group, key=TorchRow.place)


def _penalizes(sampling: Sampling) -> bool:
    penalties = sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty
    return penalties != (1.0, 0.0, 0.0)


def _power(number: int) -> int:
    """Return the least power of two that is no less."""
    return 1 << (number - 1).bit_length()


def _length(places: int) -> int:
    return max(_power(places), SHORTEST)


def _free(device: torch.device) -> int:
    """Return the bytes that may still be taken on a card: what nobody has, and what torch holds for nothing."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
