"""A build's hyperparameters against its source's config.json; values that neither names are not guessed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from training.export.parity.verdict import Step

Config = dict[str, Any]
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
    """Rotary settings as transformers 5 keeps them, also from older files; some models have two sets."""
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
    """GGUF's name of the scaling; llama3's is a tensor there, which is compared as one."""
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


def compare_gguf(config: Config, meta: Callable[[str], Any], step: Step) -> None:
    """Every parameter that the config names, against the file's metadata."""
    wrong, compared = [], 0
    for parameter in PARAMETERS:
        want = parameter.of(config)
        if want is None or isinstance(want, list | dict):
            continue
        got = next((value for key in parameter.keys if (value := meta(key)) is not None), parameter.default)
        if isinstance(got, list):
            got = got[0] if len(set(got)) == 1 else want  # a value a layer: no single one to compare
        compared += 1
        if not _same(want, got):
            wrong.append(f"{parameter.label} is {_show(got)} and should be {_show(want)}")
    _say(wrong, compared, step)


def compare_configs(source: Config, built: Config, step: Step) -> None:
    """The same parameters, and those that GGUF has no key for, between two config.json files."""
    readers = {p.label: p.of for p in PARAMETERS} | {name.replace("_", " "): _named(name) for name in SAME_IN_FOLDERS}
    wrong, compared = [], 0
    for label, read in readers.items():
        want, got = read(source), read(built)
        if want is None or (got is None and label not in ("rope base", "layers", "width")):
            continue  # left at the class's default in one of the two
        compared += 1
        if not _same(want, got):
            wrong.append(f"{label} is {_show(got)} and should be {_show(want)}")
    _say(wrong, compared, step)


def _say(wrong: list[str], compared: int, step: Step) -> None:
    step.numbers["hyperparameters"] = compared
    if wrong:
        step.fail("hyperparameters", f"Hyperparameters differ: {'; '.join(wrong)}.")
    else:
        step.note(f"{compared} hyperparameters agree.")


def _same(want: Any, got: Any) -> bool:
    if isinstance(want, int | float) and isinstance(got, int | float):
        return abs(want - got) <= CLOSE * max(abs(want), abs(got))
    return bool(want == got)


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "missing" if value is None else str(value)
