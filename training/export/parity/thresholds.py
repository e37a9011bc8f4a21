"""The bounds in thresholds.toml, chosen for a level and a model's size."""

import tomllib
from functools import cache
from pathlib import Path

from playground.values import Value

FILE = Path(__file__).with_name("thresholds.toml")
Bounds = tuple[float, float]
"""Past the first: warn. Past the second: fail."""
WIDE = ("f32", "f16", "bf16")
OTHERWISE = {"q1": "q2", "tq": "q2", "mx": "q4", "nv": "q4"}
"""Levels whose names do not say their bits, or that have no row of their own."""


class DriftBounds(Value):
    """How far distributions may lie apart: see the file."""

    mean_kl: Bounds
    same_top: Bounds
    perplexity: Bounds


class Size(Value):
    """How KL bounds shrink with a model's parameters."""

    reference: int
    exponent: float
    least: float
    most: float

    def factor(self, parameters: int) -> float:
        """Return what KL bounds are multiplied by."""
        factor: float = (self.reference / max(parameters, 1)) ** self.exponent
        return min(max(factor, self.least), self.most)


class AdapterBounds(Value):
    """How far from 1 the number of times an adapter was merged may lie."""

    warn: float
    fail: float
    sure: float


class AnswerBounds(Value):
    """How long answers are, and what counts as an early parting, in tokens."""

    tokens: int
    early: int


class Thresholds(Value):
    """All bounds of the file."""

    size: Size
    drift: dict[str, DriftBounds]
    tensors: dict[str, float]
    adapter: AdapterBounds
    answers: AnswerBounds

    def of_tensor(self, kind: str) -> float:
        """Return the relative error from which a tensor of a storage type counts as wrong."""
        return self.tensors.get(kind, self.tensors["other"])

    def of_drift(self, kind: str, level: str, parameters: int) -> DriftBounds:
        """Return the bounds of an export's kind and level; KL bounds below 16 bit fit the model's size."""
        row = self.drift[drift_row(kind, level)]
        if kind not in ("gguf", "gptq") or level.lower() in WIDE:
            return row
        factor = self.size.factor(parameters)
        warn, fail = row.mean_kl
        return row.model_copy(update={"mean_kl": (warn * factor, fail * factor)})


@cache
def thresholds() -> Thresholds:
    """Return the bounds that come along."""
    return Thresholds.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))


def drift_row(kind: str, level: str) -> str:
    """Return the row of [drift] for an export: by kind, and for GGUF by bits (iq4_xs and q4_k_m are both q4)."""
    if kind != "gguf":
        return kind
    level = level.lower()
    if level in WIDE:
        return level
    bits = level.removeprefix("i")[:2]
    return OTHERWISE.get(bits, bits)
