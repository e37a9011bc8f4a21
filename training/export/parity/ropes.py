"""Rotary factors that llama.cpp keeps as tensors: llama3's stretching and longrope's two lists, from the config."""

import math

import numpy as np

from training.export.parity.hyper import Config, rope
from training.export.parity.verdict import Step
from training.export.parity.weights import F32, GgufWeights

NAMES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def compare(config: Config, built: GgufWeights, step: Step) -> None:
    """Every factor tensor that the config asks for, by value."""
    for name, want in _wanted(config).items():
        if name not in built.names():
            step.fail("hyperparameters", f"{name} is missing: the rope scaling was lost.")
            continue
        got = built.rows(name, slice(0, 1))[0]
        if got.shape != want.shape or not np.allclose(got, want, rtol=1e-4):
            step.fail("hyperparameters", f"{name} stretches positions otherwise than the config says.")


def _wanted(config: Config) -> dict[str, F32]:
    settings = rope(config)
    kind = str(settings.get("rope_type", "")).lower()
    if kind == "llama3":
        return {NAMES[0]: _llama3(config, settings)}
    if kind in ("longrope", "su"):
        factors = {NAMES[1]: settings.get("long_factor"), NAMES[2]: settings.get("short_factor")}
        return {name: np.asarray(values, dtype=np.float32) for name, values in factors.items() if values}
    return {}


def _llama3(config: Config, settings: Config) -> F32:
    """Long waves stretched by `factor`, short ones left, those between mixed."""
    width = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    waves = 2 * math.pi * float(settings.get("rope_theta", 10000.0)) ** (np.arange(0, width, 2) / width)
    low, high, factor = (float(settings[name]) for name in ("low_freq_factor", "high_freq_factor", "factor"))
    context = float(settings["original_max_position_embeddings"])
    smooth = np.clip((context / waves - low) / (high - low), 0.0, 1.0)
    return np.asarray(1 / ((1 - smooth) / factor + smooth), dtype=np.float32)
