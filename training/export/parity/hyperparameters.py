"""A build's hyperparameters against its source's config.json; values that neither names are not guessed.

llama.cpp keeps some rotary settings as tensors, llama3's stretching and longrope's two lists: these are compared too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.export.parity.verdict import Step
from training.export.parity.weights import F32, GgufWeights

Config = dict[str, Any]
ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
SHARED_OUT = {"qwen3moe": True}
"""Architectures in which llama.cpp has the weights of the chosen experts sum to one, whatever the config says."""
CLOSE = 1e-5
"""Relative: GGUF keeps fractions as 32-bit floats."""


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter: what people call it, how the config says it, GGUF's keys, llama.cpp's default for them."""

    label: str
    of: Callable[[Config], Any]
    keys: tuple[str, ...]
    default: Any = None


def rope(config: Config, layers: str = "full_attention") -> Config:
    """Return rotary settings as transformers 5 keeps them, also from older files; some models have two sets."""
    rows = config.get("rope_parameters") or {}
    if isinstance(rows.get(layers), dict):
        return dict(rows[layers])
    if rows or layers != "full_attention":
        return {} if layers != "full_attention" else dict(rows)
    old = config.get("rope_scaling") or {}
    kind = old.get("rope_type") or old.get("type")
    found = old | {"rope_theta": config.get("rope_theta")} | ({"rope_type": kind} if kind else {})
    return {key: value for key, value in found.items() if value is not None}


def _named(name: str) -> Callable[[Config], Any]:
    return lambda config: config.get(name)


PARAMETERS = (
    Parameter("layers", _named("num_hidden_layers"), ("{arch}.block_count",)),
    Parameter("width", _named("hidden_size"), ("{arch}.embedding_length",)),
    Parameter("feed-forward width", _named("intermediate_size"), ("{arch}.feed_forward_length",)),
    Parameter("attention heads", _named("num_attention_heads"), ("{arch}.attention.head_count",)),
    Parameter("key-value heads", _named("num_key_value_heads"), ("{arch}.attention.head_count_kv",)),
    Parameter("head width", _named("head_dim"), ("{arch}.attention.key_length", "{arch}.rope.dimension_count")),
    Parameter("norm epsilon", _named("rms_norm_eps"), ("{arch}.attention.layer_norm_rms_epsilon",)),
    Parameter("rope base", lambda config: rope(config).get("rope_theta"), ("{arch}.rope.freq_base",), 10000.0),
    Parameter(
        "rope base of sliding layers",
        lambda config: rope(config, "sliding_attention").get("rope_theta"),
        ("{arch}.rope.freq_base_swa",),
        10000.0,
    ),
    Parameter("rope scaling", lambda config: _scaling(rope(config)), ("{arch}.rope.scaling.type",), "none"),
    Parameter(
        "rope factor",
        lambda config: rope(config).get("factor") if _scaling(rope(config)) in ("linear", "yarn") else None,
        ("{arch}.rope.scaling.factor",),
    ),
    Parameter("context", _named("max_position_embeddings"), ("{arch}.context_length",)),
    Parameter("attention softcap", _named("attn_logit_softcapping"), ("{arch}.attn_logit_softcapping",)),
    Parameter("final softcap", _named("final_logit_softcapping"), ("{arch}.final_logit_softcapping",)),
    Parameter("experts", _named("num_local_experts"), ("{arch}.expert_count",)),
    Parameter("experts a token", _named("num_experts_per_tok"), ("{arch}.expert_used_count",)),
)
SAME_IN_FOLDERS = (
    "model_type", "hidden_act", "hidden_activation", "attention_bias", "mlp_bias", "sliding_window", "vocab_size",
    "use_sliding_window", "query_pre_attn_scalar", "partial_rotary_factor", "layer_types", "norm_topk_prob",
)  # fmt: skip


def _scaling(settings: Config) -> str | None:
    """Return GGUF's name of the scaling; llama3's is a tensor there, which is compared as one."""
    kind = str(settings.get("rope_type", "default")).lower()
    names = {
        "default": "none",
        "llama3": "none",
        "linear": "linear",
        "yarn": "yarn",
        "longrope": "longrope",
        "su": "longrope",
    }
    return names.get(kind)


def compare_gguf(config: Config, built: GgufWeights, step: Step) -> None:
    """Compare every parameter that the config names with the file's metadata, and the rotary tensors."""
    rows = []
    for parameter in PARAMETERS:
        want = parameter.of(config)
        if want is None or isinstance(want, list | dict):
            continue
        got = next((value for key in parameter.keys if (value := built.meta(key)) is not None), parameter.default)
        if isinstance(got, list):
            got = got[0] if len(set(got)) == 1 else want  # one value per layer: there is no single one to compare
        rows.append((parameter.label, want, got))
    _compare(rows, step)
    _compare_rope_tensors(config, built, step)
    _compare_shares(config, built, step)


def _compare_shares(config: Config, built: GgufWeights, step: Step) -> None:
    """Compare how experts are weighed where llama.cpp knows one way alone, for which a file has no key."""
    want = config.get("norm_topk_prob")
    if want is not None and bool(want) != SHARED_OUT.get(built.arch, bool(want)):
        step.fail(
            "hyperparameters",
            "llama.cpp has the weights of the chosen experts sum to one, and the config says otherwise "
            "(norm_topk_prob: false): no GGUF answers like this model.",
        )


def compare_configs(source: Config, built: Config, step: Step) -> None:
    """Compare the same parameters, and those that GGUF has no key for, between two config.json files."""
    readers = {p.label: p.of for p in PARAMETERS} | {name.replace("_", " "): _named(name) for name in SAME_IN_FOLDERS}
    rows = [(label, read(source), read(built)) for label, read in readers.items()]
    always = ("rope base", "layers", "width")  # of all others, what one of the two leaves out is at the class's default
    said = [row for row in rows if row[1] is not None and (row[2] is not None or row[0] in always)]
    _compare(said, step)


def _compare(rows: list[tuple[str, Any, Any]], step: Step) -> None:
    """Judge rows of label, wanted value and value found."""
    wrong = [
        f"{label} is {_show(got)} and should be {_show(want)}" for label, want, got in rows if not _same(want, got)
    ]
    step.numbers["hyperparameters"] = len(rows)
    if wrong:
        step.fail("hyperparameters", f"Hyperparameters differ: {'; '.join(wrong)}.")
    else:
        step.note(f"{len(rows)} hyperparameters agree.")


def _same(want: Any, got: Any) -> bool:
    if isinstance(want, int | float) and isinstance(got, int | float):
        return abs(want - got) <= CLOSE * max(abs(want), abs(got))
    return bool(want == got)


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "missing" if value is None else str(value)


def _compare_rope_tensors(config: Config, built: GgufWeights, step: Step) -> None:
    """Compare every tensor of rotary factors that the config asks for, by value."""
    for name, want in _rope_tensors(config).items():
        if name not in built.names():
            step.fail("hyperparameters", f"{name} is missing: the rope scaling was lost.")
            continue
        got = built.rows(name, slice(0, 1))[0]
        if got.shape != want.shape or not np.allclose(got, want, rtol=1e-4):
            step.fail("hyperparameters", f"{name} stretches positions otherwise than the config says.")


def _rope_tensors(config: Config) -> dict[str, F32]:
    settings = rope(config)
    kind = str(settings.get("rope_type", "")).lower()
    if kind == "llama3":
        return {ROPE_TENSORS[0]: _llama3(config, settings)}
    if kind in ("longrope", "su"):
        factors = {ROPE_TENSORS[1]: settings.get("long_factor"), ROPE_TENSORS[2]: settings.get("short_factor")}
        return {name: np.asarray(values, dtype=np.float32) for name, values in factors.items() if values}
    return {}


def _llama3(config: Config, settings: Config) -> F32:
    """Return llama3's factors: long waves stretched by `factor`, short ones left, those between mixed."""
    width = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    waves = 2 * math.pi * float(settings.get("rope_theta", 10000.0)) ** (np.arange(0, width, 2) / width)
    low, high, factor = (float(settings[name]) for name in ("low_freq_factor", "high_freq_factor", "factor"))
    context = float(settings["original_max_position_embeddings"])
    smooth = np.clip((context / waves - low) / (high - low), 0.0, 1.0)
    return np.asarray(1 / ((1 - smooth) / factor + smooth), dtype=np.float32)
