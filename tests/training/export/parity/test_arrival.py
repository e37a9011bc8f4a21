"""How much of an adapter a build holds, and whose fault the rest is: rounding is told from every fault of a merge."""

from collections.abc import Sequence

import numpy as np
import pytest

from training.export.parity import arrival
from training.export.parity.arrival import Trials
from training.export.parity.pairs import Pair, gguf_pairs
from training.export.parity.rounding import rounder, tried
from training.export.parity.source import Source
from training.export.parity.tensors import Compared, compare
from training.export.parity.verdict import Step, Verdict, verdict_of
from training.export.parity.weights import F32, GgufWeights, Rows

from .conftest import Made

pytest.importorskip("llama_cpp")
ROWS, COLUMNS = 64, 256
NAMES = [f"layers.{number}.mlp.up_proj.weight" for number in range(4)]


class Base:
    """A source of four matrices and a change of each; `steps` names the type on whose steps the base lies."""

    def __init__(self, change: float, steps: str = "") -> None:
        random = np.random.default_rng(1)
        sizes = [0.03 * random.standard_normal((ROWS, COLUMNS)).astype(np.float32) for _ in NAMES]
        keep = rounder(steps, COLUMNS) if steps else None
        self._base = dict(zip(NAMES, [keep(one) for one in sizes] if keep else sizes, strict=True))
        self._change = {n: change * random.standard_normal((ROWS, COLUMNS)).astype(np.float32) for n in NAMES}

    def shape(self, name: str) -> tuple[int, ...]:
        return ROWS, COLUMNS

    def base_rows(self, name: str, which: Rows) -> F32:
        return self._base[name][which]

    def change_rows(self, name: str, which: Rows, base: F32) -> F32:
        return self._change[name][which]


class Build:
    """What a type keeps of base and change, merged so many times by tensor; `off` is what a matrix of imatrix moves."""

    def __init__(self, source: Base, kind: str, times: Sequence[float], off: float = 0.0) -> None:
        self._kind, random = kind, np.random.default_rng(2)
        stored = rounder(kind, COLUMNS)
        assert stored is not None
        self._rows = {}
        for name, number in zip(NAMES, times, strict=True):
            base = source.base_rows(name, slice(None))
            want = base + np.float32(number) * source.change_rows(name, slice(None), base)
            kept = stored(want.astype(np.float16).astype(np.float32))
            self._rows[name] = kept + off * random.standard_normal(kept.shape).astype(np.float32)

    def names(self) -> list[str]:
        return NAMES

    def shape(self, name: str) -> tuple[int, ...]:
        return ROWS, COLUMNS

    def kind(self, name: str) -> str:
        return self._kind

    def rows(self, name: str, which: Rows) -> F32:
        return self._rows[name][which]


def judged(source: Base, built: Build) -> Verdict:
    pairs = {name: Pair(name, name) for name in NAMES}

    def attempt(items: Sequence[Compared], times: Sequence[float]) -> Trials:
        return {item.built: tried(pairs[item.built], source, built, times) for item in items}  # type: ignore[arg-type]

    step = Step()
    compared = [compare(pair, source, built) for pair in pairs.values()]  # type: ignore[arg-type]
    arrival.judge(compared, attempt, step)
    return verdict_of(step.findings, {"files": step.numbers})


@pytest.mark.parametrize("steps", ["", "Q4_K", "Q6_K"])
@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q6_K", "Q4_K"])
@pytest.mark.parametrize(
    ("times", "said"),
    [
        (0.0, "is not merged into the weights"),
        (2.0, "is merged twice"),
        (0.5, "is merged at another strength"),
        (1.0, ""),
    ],
)
def test_faults_are_told_from_rounding_in_every_type_and_on_every_steps(
    steps: str, kind: str, times: float, said: str
) -> None:
    verdict = judged(source := Base(0.002, steps), Build(source, kind, [times] * 4))
    lines = "\n".join(verdict.lines)
    if said:
        assert (verdict.verdict, verdict.causes) == ("fail", ["merge"]), lines
        assert said in lines
    else:
        assert set(verdict.causes) <= {"swallowed"}, lines
        arrived = verdict.arrived
        assert arrived is not None
        assert ("swallowed" in verdict.causes) == (arrived.all < 0.85)
        assert "swallowed" not in verdict.causes or arrived.on_steps == (kind == steps)


def test_what_is_said_of_an_adapter_that_rounding_swallowed() -> None:
    verdict = judged(source := Base(0.001, "Q4_K"), Build(source, "Q4_K", [1.0] * 4))
    assert (verdict.verdict, verdict.causes) == ("warn", ["swallowed"])
    arrived, lines = verdict.arrived, "\n".join(verdict.lines)
    assert arrived is not None
    assert arrived.all < 0.1
    assert list(arrived.layers) == ["0", "1", "2", "3"]
    assert arrived.finer["Q8_0"] > 0.9
    assert arrived.finer["F16"] == pytest.approx(1, abs=0.01)
    assert f"{arrived.all:.0%} of its change arrives" in lines
    assert "the base lies on the steps of this type already" in lines
    assert "It was merged: a right merge" in lines
    assert "Finer types would keep more of it: Q8_0" in lines


@pytest.mark.parametrize("times", [0.0, 1.0])
def test_weights_off_their_rounding_as_an_importance_matrix_leaves_them_blame_nobody(times: float) -> None:
    """Merged or not, the weights are nearly the same: nobody can tell, and the F16 build was judged before."""
    verdict = judged(source := Base(0.0005, "Q4_K"), Build(source, "Q4_K", [times] * 4, off=0.003))
    assert verdict.causes == ["swallowed"]
    assert "cannot be told from these weights alone" in "\n".join(verdict.lines)


def test_a_build_nearer_to_its_base_than_to_its_own_rounding_is_not_blamed() -> None:
    """An importance matrix leaves more of an adapter behind on the steps of a type: no exact hit, no fault."""
    source = Base(0.001, "Q4_K")
    built = Build(source, "Q4_K", [0.0] * 4, off=1e-4)
    assert judged(source, built).causes == ["swallowed"]


def test_one_missing_behind_an_importance_matrix_is_seen_off_the_steps() -> None:
    """Where rounding is blind to the change, what share of it is there tells, though no rounding is hit."""
    source = Base(0.002)
    assert judged(source, Build(source, "Q4_K", [0.0] * 4, off=0.003)).causes == ["merge"]
    assert judged(source, Build(source, "Q4_K", [1.0] * 4, off=0.003)).causes == []


@pytest.mark.parametrize("steps", ["", "Q4_K"])
def test_one_tensor_that_was_passed_over_is_named(steps: str) -> None:
    verdict = judged(source := Base(0.004, steps), Build(source, "Q4_K", [1.0, 1.0, 0.0, 1.0]))
    assert verdict.causes == ["merge"], "\n".join(verdict.lines)
    assert f"The adapter's part for {NAMES[2]} was not merged just once" in "\n".join(verdict.lines)


@pytest.mark.models
@pytest.mark.slow
def test_llama_cpps_own_files_are_hit_bit_for_bit(small: Made) -> None:
    source, built = Source(small.base, small.adapter), GgufWeights(small.file("q4_k_m"))
    pairs = [pair for pair in gguf_pairs(source, built).pairs if pair.source.endswith("proj.weight")]
    kinds = {built.kind(pair.built) for pair in pairs}
    assert "Q4_K" in kinds
    for pair in pairs:
        trial = tried(pair, source, built, (0.0, 1.0))
        assert trial is not None
        assert trial.far[1.0] == pytest.approx(0, abs=1e-9)
        assert trial.far[0.0] > 1e-3


def test_rows_that_are_not_whole_blocks_are_not_rounded() -> None:
    """Ggml would write past the end of its buffer."""
    assert rounder("Q8_0", 48) is None
    assert rounder("Q4_K", 128) is None
    assert rounder("Q8_0", 64) is not None
