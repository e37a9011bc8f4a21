"""From errors tensor by tensor to what probably happened: zeroed, foreign, merged never or twice, too coarse."""

import re
from collections import Counter
from collections.abc import Iterable
from statistics import mean
from typing import Any

from training.export.parity.tensors import Compared, merged_times
from training.export.parity.thresholds import thresholds
from training.export.parity.verdict import Cause, Step

ALIKE = 0.5
"""A cosine below which two tensors have nothing to do with each other."""
WHOLE = ("F64", "F32", "F16", "BF16")
ALWAYS_COARSE = 0.45
"""Types whose healthy error is past this cannot be told from damage by their rows."""
NAMED = 3
ONCE = 1.0
AWAY = 0.5
"""How far from once the adapter of a single tensor must be found to be a fault of the merge."""


def diagnose(compared: list[Compared], step: Step) -> None:
    """Add the findings of all tensors, the likeliest cause alone where one explains many errors."""
    zeroed = [item for item in compared if item.is_zero]
    rest = [item for item in compared if not item.is_zero]
    if zeroed:
        step.fail("weights", f"{_places(zeroed)} {'holds' if len(zeroed) == 1 else 'hold'} zeros alone.")
    matrices = [item for item in rest if item.rows > 1]
    foreign = [item for item in matrices if item.likeness < ALIKE]
    if matrices and len(foreign) > len(matrices) / 2:
        step.fail(
            "weights", f"{len(foreign)} of {len(matrices)} matrices are unlike the source's: another model's weights."
        )
        return
    if foreign:
        step.fail("weights", f"{_places(foreign)} {'is' if len(foreign) == 1 else 'are'} unlike the source's.")
    rest = [item for item in rest if item not in foreign]
    times = _judge_merge(rest, step)
    if times != ONCE:
        _judge_errors(rest, times, step)
        return
    missed = _judge_single(rest, step)
    rest = [item for item in rest if item not in missed]
    _judge_errors(rest, times, step)
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


def _judge_merge(compared: list[Compared], step: Step) -> float:
    """Judge how many times the adapter is in the weights, and return it: what their errors are then measured from."""
    measured = merged_times(compared)
    if measured is None:
        return ONCE
    times, error = measured
    bounds = thresholds().adapter
    step.numbers["adapter_times"], step.numbers["adapter_times_error"] = times, error
    said = f"found {times:.3f} times, ± {error:.3f}"
    if error > bounds.sure:
        step.note(f"The adapter changes too little to be seen behind the rounding ({said}).")
        return ONCE
    if abs(times) < bounds.fail:
        step.fail("merge", f"The adapter is not merged into the weights ({said}).")
    elif abs(times - 2) < bounds.fail:
        step.fail("merge", f"The adapter is merged twice ({said}).")
    elif abs(times - 1) > bounds.warn:
        is_exact = all(item.kind in WHOLE for item in compared if item.change)
        if not is_exact:
            step.warn("quantization", f"Rounding distorted the adapter ({said}): its changes are below half a step.")
        elif abs(times - 1) > bounds.fail:
            step.fail("merge", f"The adapter is merged at another strength ({said}): its alpha or rank was misread.")
        else:
            step.warn("merge", f"Rounding swallowed part of the adapter ({said}): its changes are below half a step.")
    else:
        step.note(f"The adapter is in the weights once ({said}).")
        return ONCE
    return times


def _judge_single(compared: list[Compared], step: Step) -> list[Compared]:
    """Return tensors that a merge passed over or took twice.

    Below 16 bit a tensor without its adapter may be healthy: a base that was unpacked from four bits lies on their
    steps, and quantized again it falls back onto them.
    """
    missed, swallowed = list[Compared](), list[Compared]()
    for item in compared:
        measured = merged_times([item])
        if measured and measured[1] < thresholds().adapter.sure and abs(measured[0] - 1) > AWAY:
            (swallowed if item.kind not in WHOLE and measured[0] < 1 else missed).append(item)
    if missed:
        step.fail("merge", f"The adapter's part for {_places(missed)} was not merged just once.")
    if swallowed:
        step.note(f"Rounding to {swallowed[0].kind} swallowed the adapter's part for {_places(swallowed)}.")
    return missed


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
            say(cause, f"{_places(items)}: error {error:.3f} in {worst.built}, where {limit}.")


def _judge_rows(compared: list[Compared], step: Step) -> None:
    """Judge rows that are something else, too few to show in a tensor's own error."""
    odd = [i for i in compared if i.odd_rows and i.rows > 1 and thresholds().of_tensor(i.kind) < ALWAYS_COARSE / 1.5]
    worst = max(odd, key=lambda item: item.odd_rows, default=None)
    if worst is not None:
        step.fail("weights", f"{_places(odd)}: {worst.odd_rows} of {worst.rows} rows of {worst.built} are damaged.")


def _places(items: list[Compared]) -> str:
    """Return a few names; a whole layer by its number."""
    layers = Counter(match.group(1) for item in items if (match := re.search(r"\.(\d+)\.", item.built)))
    if len(items) > NAMED and len(layers) == 1 and sum(layers.values()) == len(items):
        return f"Layer {next(iter(layers))} ({len(items)} tensors)"
    names = ", ".join(item.built for item in items[:NAMED])
    return names + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")
