"""From errors tensor by tensor to what probably happened: zeroed, foreign, merged wrongly, swallowed, too coarse."""

from collections.abc import Iterable
from statistics import mean
from typing import Any

from training.export.parity import arrival
from training.export.parity.arrival import WHOLE, Try
from training.export.parity.places import places
from training.export.parity.tensors import Compared
from training.export.parity.thresholds import thresholds
from training.export.parity.verdict import Cause, Step

ALIKE = 0.5
"""A cosine below which two tensors have nothing to do with each other."""
ALWAYS_COARSE = 0.45
"""Types whose healthy error is past this cannot be told from damage by their rows."""


def diagnose(compared: list[Compared], attempt: Try, step: Step) -> None:
    """Add the findings of all tensors, the likeliest cause alone where one explains many errors.

    `attempt` rounds samples with the adapter merged so many times, to tell rounding from faults.
    """
    zeroed = [item for item in compared if item.is_zero]
    rest = [item for item in compared if not item.is_zero]
    if zeroed:
        step.fail("weights", f"{places(zeroed)} {'holds' if len(zeroed) == 1 else 'hold'} zeros alone.")
    matrices = [item for item in rest if item.rows > 1]
    foreign = [item for item in matrices if item.likeness < ALIKE]
    if matrices and len(foreign) > len(matrices) / 2:
        step.fail(
            "weights", f"{len(foreign)} of {len(matrices)} matrices are unlike the source's: another model's weights."
        )
        return
    if foreign:
        step.fail("weights", f"{places(foreign)} {'is' if len(foreign) == 1 else 'are'} unlike the source's.")
    rest = [item for item in rest if item not in foreign]
    found = arrival.judge(rest, attempt, step)
    rest = [item for item in rest if item not in found.wrong]
    _judge_errors(rest, found.times, step)
    if found.times == arrival.ONCE:
        _judge_rows(rest, step)


def table(compared: Iterable[Compared]) -> dict[str, Any]:
    """Return errors by storage type, for the report."""
    by_kind: dict[str, list[Compared]] = {}
    for item in compared:
        by_kind.setdefault(item.kind, []).append(item)
    return {
        kind: {
            "tensors": len(items),
            "mean_error": mean(item.error() for item in items),
            "worst_error": max(item.error() for item in items),
            "worst": max(items, key=Compared.error).built,
        }
        for kind, items in by_kind.items()
    }


def _judge_errors(compared: list[Compared], times: float, step: Step) -> None:
    """Judge errors past what a type loses by itself."""
    slightly, badly = [], []
    for item in compared:
        bound = thresholds().of_tensor(item.kind)
        error = item.error(times)
        if error > min(2 * bound, 0.9) or (item.kind in WHOLE and error > bound):
            badly.append(item)
        elif error > bound:
            slightly.append(item)
    for items, say in ((badly, step.fail), (slightly, step.warn)):
        if items:
            worst = max(items, key=lambda item: item.error(times) / thresholds().of_tensor(item.kind))
            bound, error = thresholds().of_tensor(worst.kind), worst.error(times)
            cause: Cause = "weights" if worst.kind in WHOLE or error > ALIKE else "quantization"
            limit = f"{worst.kind} loses at most {bound:.3f}"
            say(cause, f"{places(items)}: error {error:.3f} in {worst.built}, where {limit}.")


def _judge_rows(compared: list[Compared], step: Step) -> None:
    """Judge rows that are something else, too few to show in a tensor's own error."""
    odd = [i for i in compared if i.odd_rows and i.rows > 1 and thresholds().of_tensor(i.kind) < ALWAYS_COARSE / 1.5]
    worst = max(odd, key=lambda item: item.odd_rows, default=None)
    if worst is not None:
        step.fail("weights", f"{places(odd)}: {worst.odd_rows} of {worst.rows} rows of {worst.built} are damaged.")
