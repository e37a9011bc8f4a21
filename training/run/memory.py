"""Estimate what a training run will take of VRAM, RAM and disk, and whether this machine has it.

Arithmetic over a Shape and a Plan; it loads nothing. Every constant below has one meaning for all models. Held against
measured runs in tests/training/run/test_memory.py: within 15 % on a card, within 20 % on a CPU.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from pydantic import Field

from playground.system.hardware import GIB, MIB, cards, usable_ram
from playground.values import Value
from training.methods import METHODS, Method
from training.run.parameters import Shape

NF4 = 0.5 + (1 + 4 / 256) / 64
"""Bytes a weight in NF4, quantized twice: 4 bits, an 8-bit scale for 64 of them, a 32-bit one for 256 scales."""
SAVED_FFN, SAVED_HIDDEN = 4, 12
"""Values a layer keeps of each token for its backward pass, in units of its two widths: gate, up, their activation and
product; the norms, queries, keys, values, attention, residuals and the inputs of LoRA."""
BACKWARD_FFN = 2
"""What its backward pass adds at its peak: the gradients of gate and up."""
CHUNK, CHUNK_COPIES = 256, 4
"""TRL's chunked loss head: tokens a chunk, fp32 copies of its logits (logits, log-probabilities, two in backward)."""
NEXT_COPIES = 3
"""fp32 copies of the logits of a next token while answers are sampled: logits, scaled, probabilities."""
EIGHT_BIT_STATES = 2 * (1 + 4 / 256)
"""Bytes a parameter of 8-bit Adam: two moments with a 32-bit scale for 256 values."""
CARD_RUNTIME, SLACK = int(0.75 * GIB), 0.1
"""CUDA's context and cuBLAS, which torch's counters do not show (H100), and its allocator's share beyond its peak."""
HOST_RUNTIME = {"cuda": int(2.5 * GIB), "cpu": int(0.57 * GIB)}
"""RAM of the process before any weights: Python, torch, transformers, PEFT, TRL, datasets. With CUDA, transformers and
PEFT alone held 1.7 GiB; the rest is room for bitsandbytes and compilers, not measured."""
HEAP, HEAP_BLOCK = 0.6, 32 * MIB
"""glibc's heap keeps this share of what the layers' forward passes freed: blocks up to 32 MiB leave holes in it."""
LEAN_HEAP = {"MALLOC_MMAP_THRESHOLD_": "131072"}
"""Environment of a process in which glibc gives each such block back at once, at some cost in time: `lean_heap`."""
TOKENIZER, LOGS = 135, 64 * MIB
"""Bytes a word of tokenizer.json, which every checkpoint repeats (Llama 3's; most have less). Logs, cards, states."""
SHORTEST = 256
"""No remedy cuts rows below so many tokens."""


class Plan(Value):
    """What of a run decides its memory. `full_logits`: None means what the method's trainer does by itself.

    `answer`, `generated`: where the model answers, the most tokens of an answer, and how many are generated at once.
    """

    trainable: int = Field(ge=0)
    method: Method = "sft"
    engine: Literal["unsloth", "peft"] = "peft"
    device: Literal["cuda", "cpu"] = "cuda"
    bits: Literal[4, 16, 32] = 4
    batch: int = Field(2, ge=1)
    accumulation: int = Field(1, ge=1)
    length: int = Field(2048, ge=1)
    answer: int = 0
    generated: int = 0
    packing: bool = False
    optimizer: str = "adamw_8bit"
    checkpointing: bool | Literal["unsloth"] = True
    full_logits: bool | None = None
    lean_heap: bool = False
    kept: int = Field(3, ge=0)
    download: int = Field(0, ge=0)

    @property
    def tokens(self) -> int:
        """Return the most tokens of one forward pass, into which some methods put both answers of a row."""
        return self.batch * self.length * METHODS[self.method].answers

    @property
    def value(self) -> int:
        """Return the bytes of one activation."""
        return 4 if self.bits == 32 else 2

    @property
    def trained(self) -> int:
        """Return the bytes of a trainable parameter: TRL turns adapters of 4-bit bases to bf16, all others are fp32."""
        return 2 if self.bits == 4 and self.engine == "peft" else 4

    @property
    def state(self) -> int:
        """Return the bytes of the optimizer's state: two moments per parameter; other optimizers count as Adam."""
        return int(self.trainable * (EIGHT_BIT_STATES if "8bit" in self.optimizer else 2 * self.trained))


Place = Literal["vram", "ram", "disk"]
Change = Literal["batch", "checkpointing", "4bit", "length", "rank"]


@dataclass(frozen=True)
class Part:
    """Bytes of one kind in one place."""

    place: Place
    name: str
    size: int


@dataclass(frozen=True)
class Estimate:
    """What a plan takes, part by part."""

    shape: Shape
    plan: Plan
    parts: tuple[Part, ...]

    def of(self, place: str) -> int:
        """Return the bytes in one place."""
        return sum(part.size for part in self.parts if part.place == place)

    @property
    def vram(self) -> int:
        """Return the bytes on the card, the CUDA context and the allocator's slack included."""
        return self.of("vram")

    @property
    def allocated(self) -> int:
        """Return the bytes that torch's own peak counter will show on the card."""
        return sum(part.size for part in self.parts if part.place == "vram" and part.name != "runtime")

    @property
    def ram(self) -> int:
        """Return the bytes of RAM."""
        return self.of("ram")

    @property
    def disk(self) -> int:
        """Return the bytes on disk, the download included."""
        return self.of("disk")


def estimate(shape: Shape, plan: Plan) -> Estimate:
    """Estimate what a run will take at its peak, all rows being as long as the plan allows."""
    work = [*_fixed(shape, plan), *_activations(shape, plan)]
    host = [("runtime", HOST_RUNTIME[plan.device]), ("offloaded activations", _offloaded(shape, plan))]
    if plan.device == "cuda":
        work.append(("runtime", CARD_RUNTIME + int(SLACK * sum(size for _, size in work))))
        parts = [Part("vram", *part) for part in work] + [Part("ram", *part) for part in host]
    else:
        parts = [Part("ram", *part) for part in (*work, ("heap", _heap(shape, plan)), *host)]
    parts += [Part("disk", *part) for part in _disk(shape, plan)]
    return Estimate(shape, plan, tuple(part for part in parts if part.size))


def _fixed(shape: Shape, plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield what stays for the whole run. Embeddings, head and norms are never quantized."""
    width = 2 if plan.bits == 4 else plan.bits // 8
    linear = NF4 if plan.bits == 4 else width
    yield "weights", int(shape.linear * linear + (shape.embedding + shape.other) * width)
    yield "adapter", plan.trainable * plan.trained
    yield "gradients", plan.trainable * plan.trained
    yield "optimizer", plan.state


def _activations(shape: Shape, plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield what a step adds: kept hidden states, then the greater of one layer's backward pass and the loss head."""
    layer = (SAVED_FFN * shape.ffn + SAVED_HIDDEN * shape.hidden) * plan.tokens * plan.value
    working = BACKWARD_FFN * shape.ffn * plan.tokens * plan.value + (shape.widest * 2 if plan.bits == 4 else 0)
    if plan.checkpointing:
        working += layer
        kept = _hidden_states(shape, plan) - _offloaded(shape, plan)
    else:
        kept = shape.layers * layer
    mask = (1 + plan.value) * plan.tokens**2 if plan.packing and plan.engine == "peft" else 0
    yield "activations", kept + working + mask
    logits = max(0, _logits(shape, plan) - working)
    yield "logits", logits
    yield "KV cache", max(0, _generating(shape, plan) - kept - working - mask - logits)


def _logits(shape: Shape, plan: Plan) -> int:
    """Return the bytes of the loss head at its peak."""
    full = METHODS[plan.method].compares if plan.full_logits is None else plan.full_logits
    if not full:
        return min(CHUNK, plan.tokens) * shape.vocab * 4 * CHUNK_COPIES
    tokens = plan.batch * plan.answer if METHODS[plan.method].rewarded else plan.tokens
    return tokens * shape.vocab * 4 * METHODS[plan.method].copies


def _generating(shape: Shape, plan: Plan) -> int:
    """Return the bytes of keys, values and next logits while answers are generated, before any step is taken."""
    if not METHODS[plan.method].rewarded:
        return 0
    wide = sum(layer.count * layer.outputs for layer in shape.linears if layer.name in ("k_proj", "v_proj"))
    cache = (wide or 2 * shape.layers * shape.hidden) * plan.length * plan.value
    return plan.generated * (cache + shape.vocab * 4 * NEXT_COPIES)


def _hidden_states(shape: Shape, plan: Plan) -> int:
    """Return the bytes of one hidden state per layer and token, from which checkpointing starts a backward pass."""
    return shape.layers * shape.hidden * plan.tokens * plan.value


def _offloaded(shape: Shape, plan: Plan) -> int:
    """Return the bytes of hidden states that Unsloth's own checkpointing keeps in RAM."""
    unsloth = plan.engine == "unsloth" and plan.checkpointing == "unsloth" and plan.device == "cuda"
    return _hidden_states(shape, plan) if unsloth else 0


def _heap(shape: Shape, plan: Plan) -> int:
    """Return the bytes that the C library keeps without using them."""
    if plan.lean_heap:
        return 0
    tokens = min(plan.tokens, HEAP_BLOCK // (shape.ffn * plan.value))
    return int(HEAP * shape.layers * (SAVED_FFN * shape.ffn + SAVED_HIDDEN * shape.hidden) * tokens * plan.value)


def _disk(shape: Shape, plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield what a run writes. A new checkpoint is complete before the oldest goes, so one more than are kept."""
    adapter = plan.trainable * plan.trained + TOKENIZER * shape.vocab
    yield "model", plan.download
    yield "checkpoints", (plan.kept + 1) * (adapter + plan.state) if plan.kept else 0
    yield "adapter", adapter
    yield "logs", LOGS


@dataclass(frozen=True)
class Machine:
    """Bytes this machine has, as pairs: free now, and at most. One pair for each card."""

    cards: tuple[tuple[int, int], ...]
    ram: tuple[int, int]
    disk: tuple[int, int]


@dataclass(frozen=True)
class Verdict:
    """One place: bytes needed, free now, and there at most once all else is closed or deleted."""

    place: Place
    need: int
    have: int
    most: int

    @property
    def fits(self) -> bool:
        """Return whether it fits now."""
        return self.need <= self.have


@dataclass(frozen=True)
class Remedy:
    """A smaller plan: the change named, on top of those of the remedies before it; `fits` says whether it is enough."""

    name: Change
    estimate: Estimate
    fits: bool


def verdicts(estimated: Estimate, machine: Machine) -> tuple[Verdict, ...]:
    """Compare need with what is there; VRAM with the card that has the most free, since one process uses one card."""
    found = [Verdict("ram", estimated.ram, *machine.ram), Verdict("disk", estimated.disk, *machine.disk)]
    if estimated.plan.device == "cuda":
        found.insert(0, Verdict("vram", estimated.vram, *max(machine.cards, default=(0, 0))))
    return tuple(found)


def remedies(estimated: Estimate, machine: Machine) -> tuple[Remedy, ...]:
    """Return what to change, in order, until the run fits into VRAM and RAM; empty where it does. Disk is left out."""
    found: list[Remedy] = []
    changes = iter(_smaller(estimated.plan))
    fits = _fits(estimated, machine)
    while not fits and (change := next(changes, None)):
        name, plan = change
        smaller = estimate(estimated.shape, plan)
        fits = _fits(smaller, machine)
        found = [*(remedy for remedy in found if remedy.name != name), Remedy(name, smaller, fits)]
    return tuple(found)


def _fits(estimated: Estimate, machine: Machine) -> bool:
    return all(verdict.fits for verdict in verdicts(estimated, machine) if verdict.place != "disk")


def _smaller(plan: Plan) -> Iterator[tuple[Change, Plan]]:
    """Yield ever smaller plans, first those that change nothing of what is learnt; the effective batch stays."""
    while batch := smaller_batch(plan.batch, METHODS[plan.method].least_batch):
        plan = plan.model_copy(update={"batch": batch, "accumulation": plan.accumulation * plan.batch // batch})
        yield "batch", plan
    if not plan.checkpointing:
        plan = plan.model_copy(update={"checkpointing": "unsloth" if plan.engine == "unsloth" else True})
        yield "checkpointing", plan
    if plan.device == "cuda" and plan.bits > 4:
        plan = plan.model_copy(update={"bits": 4})
        yield "4bit", plan
    while plan.length > SHORTEST and not METHODS[plan.method].rewarded:
        plan = plan.model_copy(update={"length": shorter(plan.length)})
        yield "length", plan
    if plan.trainable:
        yield "rank", plan.model_copy(update={"trainable": plan.trainable // 2})


def smaller_batch(batch: int, least: int = 1) -> int:
    """Return the next smaller batch, at most half, whose accumulation keeps the effective batch whole; 0 for none."""
    return next((n for n in range(batch // 2, least - 1, -1) if batch % n == 0), 0)


def shorter(length: int) -> int:
    """Return the next shorter length of rows: half, but never below the shortest."""
    return max(SHORTEST, length // 2)


def machine(folder: Path) -> Machine:
    """Return what is free now, and at most, of VRAM, RAM, and the disk of a folder that may not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk, most = shutil.disk_usage(folder), usable_ram()
    return Machine(cards(), (min(psutil.virtual_memory().available, most - _held()), most), (disk.free, disk.total))


def _held() -> int:
    """Return the bytes of RAM that this container holds and cannot give back at once; 0 outside of one."""
    try:
        rows = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
        return int(Path("/sys/fs/cgroup/memory.current").read_text()) - int(rows.get("inactive_file", 0))
    except (OSError, ValueError):
        return 0


def size(count: int) -> str:
    """Return bytes in words: 6.3 GiB, 512 MiB, 12 KiB."""
    for unit, step in (("GiB", GIB), ("MiB", MIB)):
        if count >= step:
            return f"{count / step:.1f} {unit}" if unit == "GiB" else f"{count / step:.0f} {unit}"
    return f"{count / 1024:.0f} KiB"
