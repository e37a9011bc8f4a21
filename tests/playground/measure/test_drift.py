"""Drift against torch's own divergence, and against definitions written out in plain Python."""

import math

import numpy as np
import pytest

from playground.errors import VariantError
from playground.measure.drift import Reading, drift, texts

WORDS = 50


def reading(name: str, seed: int, noise: float = 0.0) -> Reading:
    """Two texts of 30 and 7 tokens, with logits from one seed and noise from another."""
    base, extra = np.random.default_rng(1), np.random.default_rng(seed)
    ids, logprobs = [], []
    for size in (30, 7):
        ids.append(base.integers(0, WORDS, size).tolist())
        logits = base.normal(size=(size, WORDS)) * 3 + noise * extra.normal(size=(size, WORDS))
        logprobs.append((logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32))
    return Reading(name, ids, logprobs)


def test_equals_torch_and_the_definitions() -> None:
    import torch

    parent, build = reading("parent", 2), reading("build", 3, noise=0.5)
    got = drift(parent, build)
    divergences, same, lost = [], [], []
    for ids, p, q in zip(parent.ids, parent.logprobs, build.logprobs, strict=True):
        kl = torch.nn.functional.kl_div(
            torch.tensor(q[:-1]), torch.tensor(p[:-1]), reduction="none", log_target=True
        ).sum(dim=1)
        divergences += kl.tolist()
        same += [int(a.argmax()) == int(b.argmax()) for a, b in zip(p[:-1], q[:-1], strict=True)]
        lost += [float(p[place, ids[place + 1]] - q[place, ids[place + 1]]) for place in range(len(ids) - 1)]
    assert got.positions == 29 + 6
    assert got.mean_kl == pytest.approx(sum(divergences) / len(divergences), rel=1e-4)
    assert got.p99_kl == pytest.approx(float(np.percentile(divergences, 99)), rel=1e-4)
    assert got.same_top == pytest.approx(sum(same) / len(same))
    assert 0 < got.same_top < 1
    assert got.perplexity_ratio == pytest.approx(math.exp(sum(lost) / len(lost)), rel=1e-4)


def test_a_build_that_changed_nothing_has_no_drift() -> None:
    got = drift(reading("parent", 2), reading("build", 2))
    assert got.same_top == 1.0
    assert got.mean_kl == pytest.approx(0, abs=1e-9)
    assert got.perplexity_ratio == pytest.approx(1.0)


def test_other_tokens_are_refused() -> None:
    build = reading("build", 2)
    with pytest.raises(VariantError, match="build encodes text to other tokens"):
        drift(reading("parent", 2), Reading("build", [[1, *build.ids[0][1:]], build.ids[1]], build.logprobs))


def test_a_padded_output_layer_still_compares() -> None:
    parent, build = reading("parent", 2), reading("build", 3, noise=0.2)
    padded = [np.pad(rows, ((0, 0), (0, 6)), constant_values=-50.0) for rows in build.logprobs]
    assert drift(parent, Reading("build", build.ids, padded)).mean_kl == pytest.approx(
        drift(parent, build).mean_kl, rel=1e-6
    )


def test_texts_are_korean_and_english() -> None:
    passages = texts()
    assert len(passages) >= 8
    assert any("마당" in text for text in passages)
    assert any("courtyard" in text for text in passages)
