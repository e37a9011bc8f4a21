"""The bounds in thresholds.toml, chosen for a level and a model's size."""

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).with_name("thresholds.toml")
Bounds = tuple[float, float]
"""Past the first: warn. Past the second: fail."""
WIDE = ("f32", "f16", "bf16")
OTHERWISE = {"q1": "q2", "tq": "q2", "mx": "q4", "nv": "q4"}
"""Levels whose names do not say their bits, or that have no row of their own."""


class DriftBounds(BaseModel):
    """How far distributions may lie apart: see the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean_kl: Bounds
    same_top: Bounds
    perplexity: Bounds


class Size(BaseModel):
    """How KL bounds shrink with a model's parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: int
    exponent: float
    least: float
    most: float

    def factor(self, parameters: int) -> float:
        """What KL bounds are multiplied by."""
        factor: float = (self.reference / max(parameters, 1)) ** self.exponent
        return min(max(factor, self.least), self.most)


class AdapterBounds(BaseModel):
    """How far from 1 the number of times an adapter was merged may lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warn: float
    fail: float
    sure: float


class AnswerBounds(BaseModel):
    """How long answers are, and what counts as an early parting, in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int
    early: int


class Thresholds(BaseModel):
    """All bounds of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Size
    drift: dict[str, DriftBounds]
    tensors: dict[str, float]
    adapter: AdapterBounds
    answers: AnswerBounds

    def of_tensor(self, kind: str) -> float:
        """The relative error at which a tensor of a storage type is said to be off."""
        return self.tensors.get(kind, self.tensors["other"])

    def of_drift(self, kind: str, level: str, parameters: int) -> DriftBounds:
        """The bounds of an export's kind and level; KL bounds below 16 bit fit the model's size."""
        row = self.drift[drift_row(kind, level)]
        if kind not in ("gguf", "gptq") or level.lower() in WIDE:
            return row
        factor = self.size.factor(parameters)
        warn, fail = row.mean_kl
        return row.model_copy(update={"mean_kl": (warn * factor, fail * factor)})


@cache
def thresholds() -> Thresholds:
    """The shipped bounds."""
    return Thresholds.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))


def drift_row(kind: str, level: str) -> str:
    """The row of [drift] for an export: by kind, and for GGUF by bits (iq4_xs and q4_k_m are both q4)."""
    if kind != "gguf":
        return kind
    level = level.lower()
    if level in WIDE:
        return level
    bits = level.removeprefix("i")[:2]
    return OTHERWISE.get(bits, bits)
