"""How much of an adapter a build holds, and why not all of it: merged never or twice, misread, or rounded away.

Two measures, for two faults. The slope of what moved on the adapter's change is 1 where rounding is blind to the
change, at any level; past `warn` of thresholds.toml something is the matter. What it is, the slope alone cannot say:
SmolLM2 with its demo adapter, unpacked from a Q4_K_M and stored as one again, has a slope of 0.03 merged, 0.00 not
merged and 0.13 merged twice. So a sample is rounded as each of these would have been (rounding.py) and the nearest
counts: a right build lies on its own rounding bit for bit, or, made with an importance matrix, near none of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from training.export.parity.places import layer, places
from training.export.parity.rounding import Trial
from training.export.parity.tensors import Compared, merged_times
from training.export.parity.thresholds import thresholds
from training.export.parity.verdict import Arrived, Step

ONCE = 1.0
STRENGTHS = (0.0, 0.5, ONCE, 2.0)
EXACT = 0.01
"""A build whose squared distance is this small beside that of a right merge lies on its rounding bit for bit."""
PASSES = 0.5
"""A share of the change that rounding lets through, from which the share in a build tells how often it was merged.

Below it only an exact hit does: with an importance matrix a right build may lie nearer to its base than to its own
rounding (SmolLM2 on the steps of a Q4_K_M: 148 of 210 tensors), and is not blamed for that.
"""
NEARER = 0.8
AWAY = 0.5
"""How far from once the adapter of a single tensor must be found to be looked into."""
MOST = 0.9
"""A share of the tensors with one and the same fault that makes it the adapter's, and not that of some places."""
ON_STEPS = 0.25
"""A base this much nearer to its type's steps than rounding usually comes lies on them."""
WHOLE = ("F64", "F32", "F16", "BF16")

Trials = dict[str, Trial | None]
Try = Callable[[Sequence[Compared], Sequence[float]], Trials]
"""Rounds samples of tensors with the adapter merged so many times; by their names in the build."""


@dataclass
class Found:
    """How often the adapter is in the weights at large, and tensors whose part of it is another."""

    times: float = ONCE
    wrong: list[Compared] = field(default_factory=list)


def judge(compared: list[Compared], attempt: Try, step: Step) -> Found:
    """Say how much of the adapter arrived, and whose fault the rest is; `attempt` rounds samples."""
    changed = [item for item in compared if item.change > 0]
    measured = merged_times(changed)
    if measured is None:
        return Found()
    times, error = measured
    step.numbers["adapter_times"], step.numbers["adapter_times_error"] = times, error
    step.numbers["arrived"] = shares(changed).model_dump()
    said, bounds = f"found {times:.3f} times, ± {error:.3f}", thresholds().adapter
    if error > bounds.sure:
        step.note(f"The adapter changes too little to be seen behind the rounding ({said}).")
        return Found()
    arrived = _share(changed)
    is_off = abs(times - 1) > bounds.warn or arrived < 1 - bounds.warn
    suspects = changed if is_off else [item for item in changed if _slope(item) is not None and _is_odd(item)]
    trials = attempt(suspects, (*STRENGTHS, round(times, 3)))
    found = _fault(suspects, trials, times)
    if found is not None and (is_off or found.wrong):
        _say_fault(found, said, step)
    elif is_off:
        _say_swallowed(changed, trials, step)
    else:
        step.note(f"The adapter is in the weights once ({said}).")
        if suspects:
            kinds = ", ".join(sorted({item.kind for item in suspects}))
            step.note(f"Rounding to {kinds} swallowed {1 - _share(suspects):.0%} of its part for {places(suspects)}.")
    return found or Found()


def shares(changed: list[Compared]) -> Arrived:
    """Return what share of the change is in a build; what is in no layer goes by its own name."""
    by_type = _by(lambda item: item.kind, changed)
    by_layer = _by(lambda item: layer(item.built) or item.built, changed)
    return Arrived(all=_share(changed), types=by_type, layers=by_layer)


def _by(key: Callable[[Compared], str], items: Sequence[Compared]) -> dict[str, float]:
    names = dict.fromkeys(map(key, items))
    return {name: _share([item for item in items if key(item) == name]) for name in names}


def _share(items: Sequence[Compared]) -> float:
    """Return the projection of what moved onto the change, both over all these tensors."""
    return round(sum(item.along for item in items) / sum(item.change for item in items), 4)


def _slope(item: Compared) -> float | None:
    """Return how often one tensor's own part was found; None where rounding hides it."""
    measured = merged_times([item])
    return measured[0] if measured and measured[1] < thresholds().adapter.sure else None


def _is_odd(item: Compared) -> bool:
    return abs((_slope(item) or 0.0) - ONCE) > AWAY


def _fault(suspects: list[Compared], trials: Trials, times: float) -> Found | None:
    """Return what a merge did wrong; None where all of it is rounding."""
    sure = [item for item in suspects if _slope(item) is not None] or suspects
    strengths = {item.built: _strength(item, trials[item.built]) for item in sure}
    wrong = [item for item in sure if strengths[item.built] != ONCE]
    if not wrong:
        return None
    together = Trial()
    for trial in trials.values():
        together.add(trial or Trial())
    of_all = _nearest(together) if together.far else times
    alike = [item for item in wrong if strengths[item.built] == of_all or not together.far]
    return Found(of_all) if len(alike) >= MOST * len(sure) and len(sure) > 1 else Found(ONCE, wrong)


def _strength(item: Compared, trial: Trial | None) -> float:
    """Return how often the adapter is in one tensor; without a trial, a share below 16 bit counts as rounded away."""
    if trial is not None:
        return _nearest(trial)
    slope = _slope(item)
    bounds = thresholds().adapter
    if slope is None or abs(slope - 1) <= AWAY or (item.kind not in WHOLE and bounds.warn < slope < 1):
        return ONCE
    return slope


def _nearest(trial: Trial) -> float:
    """Return the strength whose rounding the build is; once, unless another is hit or shows in what came through."""
    best = min(trial.far, key=lambda times: trial.far[times])
    if best == ONCE or trial.far[best] < EXACT * trial.far[ONCE]:
        return best
    if trial.along[ONCE] - trial.along[0.0] < PASSES * trial.change:
        return ONCE
    off = {times: abs(trial.got - along) for times, along in trial.along.items()}
    best = min(off, key=lambda times: off[times])
    return best if off[best] < NEARER * off[ONCE] else ONCE


def _say_fault(found: Found, said: str, step: Step) -> None:
    if found.wrong:
        step.fail("merge", f"The adapter's part for {places(found.wrong)} was not merged just once.")
    elif found.times == 0:
        step.fail("merge", f"The adapter is not merged into the weights ({said}).")
    elif found.times == STRENGTHS[-1]:
        step.fail("merge", f"The adapter is merged twice ({said}).")
    else:
        step.fail("merge", f"The adapter is merged at another strength ({said}): its alpha or rank was misread.")


def _say_swallowed(changed: list[Compared], trials: Trials, step: Step) -> None:
    """Say what arrived, why not more, whether a missing adapter would look otherwise, and what helps."""
    together = Trial()
    for trial in trials.values():
        together.add(trial or Trial())
    arrived, kinds = shares(changed), sorted({item.kind for item in changed})
    by_type = ", ".join(f"{kind} {share:.0%}" for kind, share in arrived.types.items())
    usual = sum(thresholds().of_tensor(item.kind) ** 2 * item.want for item in changed)
    wanted = sum(item.want for item in changed)
    on_steps = together.base > 0 and together.off * wanted < ON_STEPS**2 * usual * together.base
    why = "the base lies on the steps of this type already" if on_steps else "its changes are below half a step"
    step.warn(
        "swallowed",
        f"Rounding to {', '.join(kinds)} swallowed the adapter: {arrived.all:.0%} of its change arrives "
        f"({by_type}), since {why}.",
    )
    if together.far and together.far[ONCE] < NEARER * together.far[0.0]:
        step.note("It was merged: a right merge, rounded so, gives these weights; without it they would differ.")
    else:
        step.note("Whether it was merged cannot be told from these weights alone: without it they would hardly differ.")
    finer = {kind: round(along / together.change, 4) for kind, along in together.finer.items() if together.change}
    step.numbers["arrived"] = arrived.model_copy(update={"on_steps": on_steps, "finer": finer}).model_dump()
    would = ", ".join(f"{kind} {share:.0%}" for kind, share in finer.items() if share > arrived.all)
    step.note(
        f"{f'Finer types would keep more of it: {would}. ' if would else ''}"
        "The original that the base was quantized from keeps it at any level; an importance matrix may help a little."
    )
