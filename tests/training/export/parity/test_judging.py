"""Bounds, and what is made of numbers: no model runs here."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from playground.measure.drift import Reading
from training.export import gguf
from training.export.parity import answers, hyperparameters, numbers, vocabulary
from training.export.parity.answers import Answers
from training.export.parity.tensors import Compared, merged_times
from training.export.parity.thresholds import drift_row, thresholds
from training.export.parity.verdict import Finding, Step, verdict_of

WORDS = 40


def reading(name: str, noise: float, seed: int = 2) -> Reading:
    base, extra = np.random.default_rng(1), np.random.default_rng(seed)
    ids = base.integers(0, WORDS, 300).tolist()
    logits = base.normal(size=(300, WORDS)) * 3 + noise * extra.normal(size=(300, WORDS))
    logprobs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    return Reading(name, [ids], [logprobs])


@pytest.mark.parametrize(("noise", "outcome"), [(0.0, "pass"), (0.08, "warn"), (0.5, "fail"), (math.nan, "fail")])
def test_noise_in_16_bit(noise: float, outcome: str) -> None:
    bounds = thresholds().of_drift("gguf", "f16", 10**9)
    step = numbers.compare(reading("source", 0), reading("build", noise), bounds, is_coarse=False)
    verdict = verdict_of(step.findings, step.numbers)
    assert verdict.verdict == outcome
    assert verdict.causes == ([] if outcome == "pass" else ["weights"])


def test_the_same_noise_is_nothing_at_four_bits_of_a_small_model() -> None:
    bounds = thresholds().of_drift("gguf", "q4_k_m", 135_000_000)
    step = numbers.compare(reading("source", 0), reading("build", 0.2), bounds, is_coarse=True)
    assert [finding.grade for finding in step.findings] == ["pass"]


def test_other_tokens_are_the_vocabularys_fault() -> None:
    ours, theirs = reading("source", 0), reading("build", 0)
    theirs.ids[0][5] += 1
    step = numbers.compare(ours, theirs, thresholds().of_drift("gguf", "f16", 1), is_coarse=False)
    assert [finding.cause for finding in step.findings] == ["vocabulary"]


def test_every_level_has_bounds_and_finer_ones_are_tighter() -> None:
    for level in [*gguf.LEVELS, "IQ4_XS"]:
        assert drift_row("gguf", level) in thresholds().drift
    rows = [thresholds().drift[f"q{bits}"] for bits in (8, 6, 5, 4, 3, 2)]
    for finer, coarser in zip(rows, rows[1:], strict=False):
        assert finer.mean_kl < coarser.mean_kl
        assert finer.same_top > coarser.same_top
    for row in thresholds().drift.values():
        assert row.mean_kl[0] < row.mean_kl[1]
        assert row.same_top[0] > row.same_top[1]


def test_bounds_shrink_with_size_below_16_bit_alone() -> None:
    def warn(level: str, size: int) -> float:
        return thresholds().of_drift("gguf", level, size).mean_kl[0]

    assert warn("q4_k_m", 8 * 10**9) == pytest.approx(warn("q4_k_m", 135 * 10**6) * 0.52, rel=0.02)
    assert warn("q4_k_m", 10**12) == warn("q4_k_m", 135 * 10**6) * thresholds().size.least
    assert warn("f16", 8 * 10**9) == warn("f16", 10**6)


def test_a_verdict_is_its_worst_finding_and_names_that_causes() -> None:
    findings = [Finding("pass", "a"), Finding("warn", "b", "file"), Finding("fail", "c", "merge")]
    assert verdict_of([], {}).verdict == "pass"
    assert verdict_of(findings[:2], {}).causes == ["file"]
    worst = verdict_of([*findings, findings[2]], {"x": 1})
    assert (worst.verdict, worst.causes, worst.lines) == ("fail", ["merge"], ["a", "b", "c", "c"])
    assert worst.model_dump(mode="json")["numbers"] == {"x": 1}


@pytest.mark.parametrize("times", [0.0, 1.0, 2.0, 0.5])
def test_how_often_an_adapter_is_in(times: float) -> None:
    """Behind rounding fourteen times as large as its change, over a million numbers."""
    rng = np.random.default_rng(5)
    base = rng.normal(size=10**6)
    change, rounding = rng.normal(size=10**6) * 0.005, rng.normal(size=10**6) * 0.07
    moved = times * change + rounding
    item = Compared("a", "a", "Q4_K", 10**6, 1.0, float(base @ base), float(moved @ moved), float(moved @ change))
    item.change = float(change @ change)
    measured = merged_times([item])
    assert measured is not None
    assert measured[0] == pytest.approx(times, abs=3 * measured[1])
    assert measured[1] < 0.03


def test_answers_that_never_end_or_never_begin() -> None:
    source = Answers("source", ["yes.", "no."], [True, True])
    ids = [([1], [1]), ([2], [2])]
    endless = answers.compare(source, Answers("build", ["yes. yes", "no. no"], [False, False]), ids, False)
    assert [f.cause for f in endless.findings if f.grade == "warn"] == ["bos-eos"]
    silent = answers.compare(source, Answers("build", ["", ""], [True, True]), ids, False)
    assert [f.cause for f in silent.findings if f.grade == "fail"] == ["bos-eos"]


def test_where_answers_part() -> None:
    source = Answers("source", ["a b c", "a b", "a"], [False] * 3)
    ids = [([1, 2, 3], [1, 2, 3]), ([1, 2], [1, 2, 3]), ([1], [2])]
    step = answers.compare(source, source, ids, False)
    assert step.numbers["first_parting"] == [None, 2, 0]
    assert (step.numbers["same"], step.failed) == (1, False)


def test_ends(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"eos_token_id": 7}', encoding="utf-8")
    assert vocabulary.ends_of_folder(tmp_path) == {7}
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 2]}', encoding="utf-8")
    assert vocabulary.ends_of_folder(tmp_path) == {1, 2}
    step = Step()
    vocabulary.compare_ends({1, 2}, {2}, step)
    assert [f.cause for f in step.findings] == ["bos-eos"]


@pytest.mark.parametrize(
    ("config", "theta"),
    [
        ({"rope_theta": 5e5}, 5e5),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, 1e6),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}}, 1e6),
        ({"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}}, 1e4),
        ({}, None),
    ],
)
def test_rope_in_old_and_new_configs(config: hyperparameters.Config, theta: float | None) -> None:
    assert hyperparameters.rope(config).get("rope_theta") == theta


def test_importing_is_cheap() -> None:
    heavy = "('torch', 'transformers', 'numpy', 'gguf', 'llama_cpp', 'peft')"
    code = f"import sys, training.export.parity; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arch", "norm", "causes"),
    [
        ("qwen3moe", False, ["hyperparameters"]),
        ("qwen3moe", True, []),
        ("qwen3moe", None, []),
        ("qwen2moe", False, []),
    ],
)
def test_experts_that_llama_cpp_weighs_otherwise(arch: str, norm: bool | None, causes: list[str]) -> None:
    """Measured: a tiny Qwen3 mixture with norm_topk_prob false drifts by 0.0035 nats in F16, with true by nothing."""

    class Built:
        def __init__(self) -> None:
            self.arch = arch

        def meta(self, key: str) -> None:
            return None

        def names(self) -> list[str]:
            return []

    step = Step()
    config = {} if norm is None else {"norm_topk_prob": norm}
    hyperparameters.compare_gguf(config, Built(), step)  # type: ignore[arg-type]
    assert [finding.cause for finding in step.findings if finding.grade == "fail"] == causes
