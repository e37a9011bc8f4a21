"""One tensor of a build against its source, some rows at a time: the sums from which a fault can be told."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.export.parity.pairs import Pair
from training.export.parity.source import Source
from training.export.parity.thresholds import thresholds
from training.export.parity.weights import F32, Weights

NUMBERS_AT_ONCE = 400_000
"""Rows whose sums stay in a core's cache."""
ODD_ROW = 0.5
"""A row whose error over value is past this holds something else; three bits and more stay below."""
FAINT_ROW = 0.1
"""Rows this much smaller than the others are not held against a build: tokens that were never trained."""


@dataclass
class Compared:
    """Sums of squares over one tensor. base, change, want (base + change) and got are its values as vectors."""

    source: str
    built: str
    kind: str
    numbers: int = 0
    got: float = 0.0
    want: float = 0.0
    moved: float = 0.0
    """|got - base|²"""
    along: float = 0.0
    """(got - base) · change"""
    change: float = 0.0
    odd_rows: int = 0
    rows: int = 0

    def error(self, times: float = 1.0) -> float:
        """Return the relative root-mean-square error, had the adapter been added so many times."""
        squares = self.moved - 2 * times * self.along + times * times * self.change
        return math.sqrt(max(squares, 0.0) / self.want) if self.want else float(self.got > 0)

    @property
    def likeness(self) -> float:
        """Return the cosine between what is there and what should be."""
        squares = self.moved - 2 * self.along + self.change
        return (
            (self.got + self.want - squares) / (2 * math.sqrt(self.got * self.want)) if self.got and self.want else 0.0
        )

    @property
    def is_zero(self) -> bool:
        """Return whether nothing is there where something should be."""
        return self.want > 0 and self.got < 1e-8 * self.want


def merged_times(compared: list[Compared]) -> tuple[float, float] | None:
    """Return how often the adapter is in these tensors, with its standard error; None where it changes none of them.

    The slope of what moved on the adapter's change, each tensor counting by what its type rounds away at most. Coarse
    ones count little: where the base lies on steps of its own (unpacked from four bits, say) and the change is below
    half a step, rounding is not blind to the change's direction, and a single slope says nothing.
    """
    weight = along = 0.0
    for item in compared:
        if item.change > 0:
            noise = thresholds().of_tensor(item.kind) ** 2 * item.want / item.numbers
            weight += item.change / noise
            along += item.along / noise
    return (along / weight, 1 / math.sqrt(weight)) if weight else None


def compare(pair: Pair, source: Source, built: Weights) -> Compared:
    """Read a tensor on both sides and add up; rows that the build lacks (padding of a vocabulary) are left out."""
    result = Compared(pair.source, pair.built, built.kind(pair.built))
    faint = 0.0
    for base, change, got in _chunks(pair, source, built):
        want = base if change is None else base + change
        squares = np.einsum("ij,ij->i", want, want)
        moved = got - base
        wrong = moved if change is None else got - want
        result.numbers += got.size
        result.rows += len(got)
        result.want += float(squares.sum(dtype=np.float64))
        result.got += float(np.vdot(got, got))
        result.moved += float(np.vdot(moved, moved))
        if change is not None:
            result.along += float(np.vdot(moved, change))
            result.change += float(np.vdot(change, change))
        faint = max(faint, FAINT_ROW**2 * float(np.median(squares)))
        errors = np.einsum("ij,ij->i", wrong, wrong)
        result.odd_rows += int(np.count_nonzero((errors > ODD_ROW**2 * squares) & (squares > faint)))
    return result


def _chunks(pair: Pair, source: Source, built: Weights) -> Iterator[tuple[F32, F32 | None, F32]]:
    """Yield base, change and build, a few rows at a time, all in the build's order."""
    shape = source.shape(pair.source)
    if len(shape) < 2:
        base = source.base_rows(pair.source, slice(0, 1))
        change = source.change_rows(pair.source, slice(0, 1), base)
        columns = slice(None) if pair.order is None else pair.order
        got = built.rows(pair.built, slice(0, 1)) - np.float32(pair.shift)
        yield base[:, columns], None if change is None else change[:, columns], got
        return
    columns_count = shape[-1]
    rows = math.prod(shape[:-1])
    available = math.prod(built.shape(pair.built)[:-1]) - pair.first
    rows, step = min(rows, available), max(1, NUMBERS_AT_ONCE // columns_count)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        which = slice(begin, end) if pair.order is None else pair.order[begin:end]
        base = source.base_rows(pair.source, which)
        change = source.change_rows(pair.source, which, base)
        yield base, change, built.rows(pair.built, slice(pair.first + begin, pair.first + end))
