"""Step 3: how far next-token distributions moved, on the fixed texts of playground.measure.drift, judged by level."""

import math

from playground.measure.drift import Drift, Reading, drift
from training.export.parity.thresholds import Bounds, DriftBounds
from training.export.parity.verdict import Cause, Step

SMALLEST = 1e-300
"""A perplexity ratio that came out as zero."""


def compare(parent: Reading, built: Reading, bounds: DriftBounds, is_coarse: bool) -> Step:
    """Measure the drift and judge it; coarse builds have lost precision on purpose."""
    if parent.ids != built.ids:
        step = Step()
        step.fail("vocabulary", f"It reads our texts as other tokens than {parent.variant} does.")
        return step
    found = drift(parent, built)
    step = Step(numbers=found.model_dump())
    values = {
        "mean_kl": found.mean_kl,
        "same_top": -found.same_top,
        "perplexity": abs(math.log(max(found.perplexity_ratio, SMALLEST))),
    }
    limits: dict[str, Bounds] = {
        "mean_kl": bounds.mean_kl,
        "same_top": (-bounds.same_top[0], -bounds.same_top[1]),
        "perplexity": bounds.perplexity,
    }
    past = [sum(not values[name] <= limit for limit in limits[name]) for name in values]
    sentence = _sentence(found)
    if max(past) == 0:
        step.note(sentence)
        return step
    cause: Cause = "quantization" if is_coarse else "weights"
    level = max(past) - 1
    allowed = f"KL {bounds.mean_kl[level]:.4f}, {bounds.same_top[level]:.0%}, {_percent(bounds.perplexity[level])}"
    say = step.fail if level else step.warn
    say(cause, f"{sentence} This level may lose no more than: {allowed}.")
    return step


def _sentence(found: Drift) -> str:
    kl = f"KL {found.mean_kl:.4f} nats a token (99th percentile {found.p99_kl:.3f})"
    top = f"the same likeliest token at {found.same_top:.1%} of {found.positions} places"
    return f"Against {found.against}: {kl}, {top}, perplexity ×{found.perplexity_ratio:.3f}."


def _percent(log_ratio: float) -> str:
    return f"perplexity ±{math.expm1(log_ratio):.0%}"
