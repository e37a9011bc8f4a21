"""How far a build's next-token distributions lie from its parent's, on fixed Korean and English texts of our own.

Both read the same token ids, so the two must share a vocabulary. Kullback-Leibler divergence is parent || build, in
nats a position: what an answer sampled from the parent loses when the build judges it. Perplexities are of the texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from playground.errors import VariantError
from playground.measure.probe import Probe
from playground.values import Value
from playground.wording import worded

if TYPE_CHECKING:
    import numpy as np

TEXTS_FILE = Path(__file__).with_name("drift.txt")
POSITIONS_AT_ONCE = 128


class Drift(Value):
    """Over `positions` tokens: mean and 99th percentile of KL(parent || build) in nats, how often both have the same
    most likely token, and the build's perplexity over the parent's."""

    against: str
    mean_kl: float
    p99_kl: float
    same_top: float
    perplexity_ratio: float
    positions: int = Field(ge=0)


@dataclass(frozen=True)
class Reading:
    """What one variant says of the texts: log-probabilities [tokens, vocabulary] of each, and their token ids."""

    variant: str
    ids: list[list[int]]
    logprobs: "list[np.ndarray[Any, np.dtype[np.float32]]]"


def texts() -> list[str]:
    """Return the fixed texts, Korean and English."""
    return [text.strip() for text in TEXTS_FILE.read_text(encoding="utf-8").split("\n\n") if text.strip()]


def read(probe: Probe, passages: Sequence[str] | None = None) -> Reading:
    """Have a variant read the texts."""
    ids = probe.encode(passages if passages is not None else texts())
    longest = max(len(row) for row in ids)
    probe.grow(longest)
    return Reading(probe.variant, ids, [probe.logprobs(row) for row in ids])


def drift(parent: Reading, build: Reading) -> Drift:
    """Return the drift of a build from its parent; refuses two that encode the texts differently."""
    import numpy as np

    if parent.ids != build.ids:
        raise VariantError(
            worded("drift.encodes_text_other", variant=build.variant, variant2=parent.variant),
        )
    divergences, same, gains = [], [], []
    for ids, p, q in zip(parent.ids, parent.logprobs, build.logprobs, strict=True):
        if p.shape[1] != q.shape[1]:
            smaller = min(p.shape[1], q.shape[1])  # one of the two pads its output layer
            p, q = p[:, :smaller], q[:, :smaller]
        for begin in range(0, len(ids) - 1, POSITIONS_AT_ONCE):
            rows = slice(begin, min(begin + POSITIONS_AT_ONCE, len(ids) - 1))
            own = p[rows].astype(np.float64)
            divergences.append((np.exp(own) * (own - q[rows])).sum(axis=1))
            same.append(p[rows].argmax(axis=1) == q[rows].argmax(axis=1))
            said = np.array(ids[rows.start + 1 : rows.stop + 1])
            gains.append(np.take_along_axis(own - q[rows], said[:, None], axis=1)[:, 0])
    every = np.maximum(np.concatenate(divergences), 0.0)
    return Drift(
        against=parent.variant,
        mean_kl=float(every.mean()),
        p99_kl=float(np.percentile(every, 99)),
        same_top=float(np.concatenate(same).mean()),
        perplexity_ratio=float(np.exp(np.concatenate(gains).mean())),
        positions=len(every),
    )
