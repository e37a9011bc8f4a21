"""What storing values in a file's type makes of them: ggml's own rounding, on a sample of rows. Runs no model.

How much of a change a build holds says how often its adapter was merged only where rounding is blind to the change.
On a base that lies on the type's own steps it is not: what stays below half a step is gone. So a sample of rows is
rounded here as they would be with the adapter merged never, once, twice, and the build is held against each of these.
llama.cpp's quantizer is asked itself, so that without an importance matrix a right build is hit bit for bit.
"""

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from training.export.parity.pairs import Pair
from training.export.parity.source import Source
from training.export.parity.weights import F32, Weights

Round = Callable[[F32], F32]
SAMPLE = 100_000
"""Numbers of a tensor that are tried: a tenth of a second a tensor for the slowest types."""
FINER = ("Q8_0", "F16")
"""Types whose share of the change is foretold, to advise with."""


@dataclass
class Trial:
    """Sums over a sample. `far`: |build - rounding(base + times · change)|² by times; the rest as in Compared."""

    far: dict[float, float] = field(default_factory=dict)
    along: dict[float, float] = field(default_factory=dict)
    """What of the change a merge so many times would leave along it, by times."""
    got: float = 0.0
    """What of it the build has along it."""
    change: float = 0.0
    finer: dict[str, float] = field(default_factory=dict)
    """By type: what of the change would be along it, had that type been chosen."""
    base: float = 0.0
    off: float = 0.0
    """|rounding(base) - base|²: how far from its steps the base lies."""

    def add(self, other: "Trial") -> None:
        """Add the sums of another tensor."""
        for times, squares in other.far.items():
            self.far[times] = self.far.get(times, 0.0) + squares
        for times, along in other.along.items():
            self.along[times] = self.along.get(times, 0.0) + along
        for kind, along in other.finer.items():
            self.finer[kind] = self.finer.get(kind, 0.0) + along
        self.got += other.got
        self.change, self.base, self.off = (
            self.change + other.change,
            self.base + other.base,
            self.off + other.off,
        )


def tried(pair: Pair, source: Source, built: Weights, times: Sequence[float]) -> Trial | None:
    """Round a sample of a tensor with the adapter in it so many times; None where its type cannot be rounded here."""
    shape = source.shape(pair.source)
    columns = shape[-1]
    count = min(math.prod(shape[:-1]), math.prod(built.shape(pair.built)[:-1]) - pair.first)
    stored = rounder(built.kind(pair.built), columns)
    if stored is None:
        return None
    rows = np.unique(np.linspace(0, count - 1, max(1, min(count, SAMPLE // columns))).astype(np.int64))
    which = rows if pair.order is None else pair.order[rows]
    base = source.base_rows(pair.source, which)
    change = source.change_rows(pair.source, which, base)
    got = built.rows(pair.built, rows + pair.first)
    if change is None or not all(_fits(part) for part in (base, change, got)):
        return None  # ggml ends the process over what is no number
    trial = Trial(change=_square(change), base=_square(base), off=_square(stored(base) - base))
    trial.far = {number: _far(got, base + np.float32(number) * change, stored) for number in times}
    trial.got = float(np.vdot(got - base, change))
    for number in times:
        trial.along[number] = float(np.vdot(stored(_half(base + np.float32(number) * change)) - base, change))
    for kind in FINER:
        if (finer := rounder(kind, columns)) is not None:
            trial.finer[kind] = float(np.vdot(finer(_half(base + change)) - base, change))
    return trial


def _far(got: F32, want: F32, stored: Round) -> float:
    """Return how far a build is from these values, merged into one of the 16-bit types first, as all builds are."""
    return min(_square(got - stored(merged(want))) for merged in (_half, _bfloat16) if _fits(merged(want)))


def _fits(rows: F32) -> bool:
    return bool(np.isfinite(rows).all())


def _square(values: F32) -> float:
    return float(np.vdot(values, values))


def _half(rows: F32) -> F32:
    with np.errstate(over="ignore"):
        return rows.astype(np.float16).astype(np.float32)


def rounder(kind: str, columns: int) -> Round | None:
    """Return what stores rows of so many columns as `kind` and reads them again; None for what is not written here."""
    if kind == "BF16":
        return _bfloat16
    if kind in ("F16", "F32", "F64"):
        return lambda rows: rows if kind != "F16" else _half(rows)
    return _by_ggml(kind, columns)


def _bfloat16(rows: F32) -> F32:
    """Round to the nearest, ties to even, as torch and the converter do."""
    bits = rows.view(np.uint32).astype(np.uint64)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint32) << 16).view(np.float32)


def _by_ggml(kind: str, columns: int) -> Round | None:
    import gguf

    number, library = getattr(gguf.GGMLQuantizationType, kind, None), _library()
    if number is None or library is None:
        return None
    block, size = gguf.GGML_QUANT_SIZES[number]
    if columns % block:
        return None  # ggml would write past the end

    def by_ggml(rows: F32) -> F32:
        count = len(rows)
        values = np.ascontiguousarray(rows, dtype=np.float32)
        stored = np.empty((count, columns // block * size), dtype=np.uint8)
        even = np.ones(columns, dtype=np.float32)  # the coarsest types insist on an importance matrix
        matrix = even.ctypes.data if library.ggml_quantize_requires_imatrix(number.value) else None
        library.ggml_quantize_chunk(number.value, values.ctypes.data, stored.ctypes.data, 0, count, columns, matrix)
        return np.asarray(gguf.dequantize(stored, number), dtype=np.float32)

    return by_ggml


@cache
def _library() -> ctypes.CDLL | None:
    """Return the part of llama.cpp that rounds, which needs neither model nor device; None where it is not here."""
    spec = find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return None
    found = sorted(file for file in (Path(spec.origin).parent / "lib").glob("*ggml-base.*"))
    try:
        library = ctypes.CDLL(str(found[0]))
        pointer = ctypes.c_void_p
        library.ggml_quantize_requires_imatrix.argtypes = [ctypes.c_int]
        library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
        library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, *[ctypes.c_int64] * 3, pointer]
        library.ggml_quantize_chunk.restype = ctypes.c_size_t
    except (IndexError, OSError, AttributeError):
        return None  # built in another way: trials are left out, and the slopes alone judge
    return library
