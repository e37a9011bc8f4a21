"""What an adapter is is told from its files, as PEFT reads them; what is broken or cannot be served is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from playground.catalogue import adapters
from playground.errors import VariantError

LAYER = "base_model.model.model.layers.0.mlp.down_proj"


def refusal(check: Callable[[], object]) -> str:
    with pytest.raises(VariantError) as caught:
        check()
    assert caught.value.hint
    return caught.value.message


def test_a_plain_adapter_shares_its_base(tmp_path: Path, model_files: Any) -> None:
    adapter = model_files.adapter(tmp_path / "a")
    for base in (None, model_files.base(tmp_path / "one"), model_files.sharded(tmp_path / "many")):
        found = adapters.read(adapter, base)
        assert (found.rank, found.base_model, found.beyond_plain) == (2, "owner/base", "")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "lora_only"}, "biases"),
        ({"lora_bias": True}, "biases"),
        ({"peft_type": "IA3"}, "its kind is IA3"),
        ({"ensure_weight_tying": True}, "ensure_weight_tying"),
        ({"a_field_of_tomorrow": 1}, "a_field_of_tomorrow"),
        ({"init_lora_weights": "PiSSA"}, "pissa"),
        ({"target_modules": ["q_proj"]}, "does not target"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
    ],
)
def test_what_is_more_than_plain_lora_says_why(
    config: dict[str, Any], why: str, tmp_path: Path, model_files: Any
) -> None:
    found = adapters.read(model_files.adapter(tmp_path / "a", **config), None)
    assert found.beyond_plain
    assert why in found.beyond_plain


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("base_model.model.model.embed_tokens.lora_embedding_A", (2, 32)),
        (f"{LAYER}.lora_magnitude_vector", (8,)),
        ("base_model.model.lm_head.weight", (32, 8)),
        ("base_model.model.conv.lora_A.weight", (2, 3, 3, 3)),
    ],
)
def test_tensors_that_are_no_matrices_of_linear_layers(
    name: str, shape: tuple[int, ...], tmp_path: Path, model_files: Any
) -> None:
    lora = {f"{LAYER}.lora_A.weight": (2, 24), f"{LAYER}.lora_B.weight": (8, 2)}
    found = adapters.read(model_files.adapter(tmp_path / "a", {**lora, name: shape}), None)
    assert found.beyond_plain
    assert name in found.beyond_plain


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        (f"{LAYER}.lora_A.weight", (2, 25), "brings [2, 25]"),
        (f"{LAYER}.lora_B.weight", (9, 2), "brings [9, 2]"),
        (
            "base_model.model.model.layers.7.mlp.down_proj.lora_A.weight",
            (2, 24),
            "model.layers.7.mlp.down_proj.weight does not exist there",
        ),
        ("base_model.model.model.norm.lora_B.weight", (9, 2), "model.norm.weight has the shape [8] there"),
    ],
)
def test_an_adapter_for_another_base(
    name: str, shape: tuple[int, ...], said: str, sharded: bool, tmp_path: Path, model_files: Any
) -> None:
    lora = {f"{LAYER}.lora_A.weight": (2, 24), f"{LAYER}.lora_B.weight": (8, 2)}
    adapter = model_files.adapter(tmp_path / "a", {**lora, name: shape})
    base = (model_files.sharded if sharded else model_files.base)(tmp_path / "b")
    message = refusal(lambda: adapters.read(adapter, base))
    assert "another base than b" in message
    assert said in message


def test_a_transposed_layer_as_in_gpt2_fits(tmp_path: Path, model_files: Any) -> None:
    lora = {"base_model.model.h.0.c_fc.lora_A.weight": (2, 8), "base_model.model.h.0.c_fc.lora_B.weight": (24, 2)}
    base = model_files.base(tmp_path / "b", {"h.0.c_fc.weight": (8, 24)})  # Conv1D: [in, out]
    found = adapters.read(model_files.adapter(tmp_path / "a", lora, fan_in_fan_out=True), base)
    assert "fan_in_fan_out" in found.beyond_plain


@pytest.mark.parametrize("embeddings", ["model.embed_tokens.weight", "embed_tokens.weight", "transformer.wte.weight"])
def test_an_output_layer_tied_to_the_embeddings(embeddings: str, tmp_path: Path, model_files: Any) -> None:
    """It lies in no file itself: its adapter was refused as another base's."""
    head = "base_model.model.lm_head"
    lora = {f"{LAYER}.lora_A.weight": (2, 24), f"{LAYER}.lora_B.weight": (8, 2)}
    lora |= {f"{head}.lora_A.weight": (2, 8), f"{head}.lora_B.weight": (32, 2)}
    layer = LAYER.removeprefix("base_model.model.") + ".weight"
    base = model_files.base(tmp_path / "b", {embeddings: (32, 8), layer: (8, 24)})
    assert adapters.read(model_files.adapter(tmp_path / "a", lora), base).beyond_plain == ""
    wrong = model_files.adapter(tmp_path / "c", {**lora, f"{head}.lora_A.weight": (2, 9)})
    assert "lm_head.weight has the shape [32, 8] there" in refusal(lambda: adapters.read(wrong, base))
    grown = adapters.read(model_files.adapter(tmp_path / "d", {**lora, f"{head}.lora_B.weight": (40, 2)}), base)
    assert grown.rows == 40


def test_names_that_match_nowhere_are_left_to_the_engine(tmp_path: Path, model_files: Any) -> None:
    other = "base_model.model.other"
    lora = {f"{other}.lora_A.weight": (2, 3), f"{other}.lora_B.weight": (3, 2)}
    adapter = model_files.adapter(tmp_path / "a", lora)
    assert adapters.read(adapter, model_files.base(tmp_path / "b")).beyond_plain == ""


def test_broken_adapters(tmp_path: Path, model_files: Any) -> None:
    adapter = model_files.adapter(tmp_path / "a")
    weights = adapter / "adapter_model.safetensors"
    weights.rename(adapter / "adapter_model.bin")
    assert "pickled weights alone" in refusal(lambda: adapters.read(adapter, None))
    (adapter / "adapter_model.bin").rename(weights)
    weights.write_bytes(weights.read_bytes()[:-3])
    assert "cut short" in refusal(lambda: adapters.read(adapter, None))
    model_files.safetensors(weights, {})
    assert "holds no tensors" in refusal(lambda: adapters.read(adapter, None))
    weights.unlink()
    assert "no adapter_model.safetensors" in refusal(lambda: adapters.read(adapter, None))
    (adapter / "adapter_config.json").unlink()
    assert "adapter_config.json does not exist" in refusal(lambda: adapters.read(adapter, None))
    assert "is not a folder" in refusal(lambda: adapters.read(tmp_path / "none", None))


def test_an_adapter_in_a_file_is_told_by_what_it_is(tmp_path: Path, model_files: Any) -> None:
    lora = {"general.type": "adapter", "general.architecture": "llama"}
    gguf = model_files.gguf(tmp_path / "gguf" / "adapter.gguf", fields=lora)
    for path in (gguf, gguf.parent):
        assert "is a LoRA adapter as GGUF" in refusal(lambda: adapters.read(path, None))  # noqa: B023
    weights = model_files.adapter(tmp_path / "a") / "adapter_model.safetensors"
    assert "is a file, and no adapter" in refusal(lambda: adapters.read(weights, None))


def test_a_rank_that_is_no_number_is_no_traceback(tmp_path: Path, model_files: Any) -> None:
    assert adapters.read(model_files.adapter(tmp_path / "a", r="x"), None).rank == 0


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "of the kind PREFIX_TUNING"),
        ({"peft_type": "BOFT"}, "of the kind BOFT"),
        ({"peft_type": None}, "of the kind None"),
        ({"task_type": "SEQ_CLS"}, "to classify"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens"),
        ({"arrow_config": {"top_k": 2}}, "arrow_config"),
        ({"init_lora_weights": "pissa_niter_4"}, "began as pissa_niter_4"),
        ({"init_lora_weights": "corda"}, "began as corda"),
        ({"init_lora_weights": "lora_ga"}, "began as lora_ga"),
    ],
)
def test_what_cannot_be_served_is_refused_from_its_files(
    config: dict[str, Any], said: str, tmp_path: Path, model_files: Any
) -> None:
    assert said in refusal(lambda: adapters.read(model_files.adapter(tmp_path / "a", **config)))


@pytest.mark.parametrize(
    ("config", "module"),
    [
        ({"target_modules": ["q_proj"]}, "model.layers.0.self_attn.q_proj"),
        ({"target_modules": ["q_proj"]}, "model.layers.0.self_attn.xq_proj"),
        ({"target_modules": ["0.self_attn.q_proj"]}, "model.layers.10.self_attn.q_proj"),
        ({"target_modules": r".*\.(q|v)_proj"}, "model.layers.3.self_attn.v_proj"),
        ({"target_modules": r"q_proj"}, "model.layers.3.self_attn.q_proj"),
        ({"target_modules": ["q_proj"], "exclude_modules": r".*\.1\..*"}, "model.layers.1.self_attn.q_proj"),
        (
            {"target_modules": ["q_proj"], "exclude_modules": ["layers.1.self_attn.q_proj"]},
            "m.layers.1.self_attn.q_proj",
        ),
        ({"target_modules": ["q_proj"], "layers_to_transform": 1}, "model.layers.1.self_attn.q_proj"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 2]}, "model.layers.1.self_attn.q_proj"),
        ({"target_modules": ["q_proj"], "layers_to_transform": []}, "model.layers.1.self_attn.q_proj"),
        ({"target_modules": ["w1"], "layers_to_transform": [1]}, "model.layers.1.mlp.experts.0.w1"),
        ({"target_modules": ["w1"], "layers_to_transform": [0]}, "model.layers.1.mlp.experts.0.w1"),
        ({"target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": "blocks"}, "h.0.blocks.1.q"),
        ({"target_modules": ["q"], "layers_to_transform": [1], "layers_pattern": ["h", "blocks"]}, "h.0.blocks.1.q"),
        ({"target_modules": ["q"], "layers_to_transform": [1]}, "layers.1.q"),
        ({"target_modules": ["mlp"], "modules_to_save": ["mlp"]}, "model.mlp"),
        ({"target_modules": ["down"], "modules_to_save": ["mlp"]}, "model.mlp.down"),
        ({"target_modules": None}, "model.q_proj"),
    ],
)
def test_targets_are_those_of_peft(config: dict[str, Any], module: str) -> None:
    theirs = LoraConfig(**config) if config["target_modules"] else LoraConfig(**config, target_parameters=["x"])
    assert adapters.targets(config, module) is bool(check_target_module_exists(theirs, module))


@pytest.mark.parametrize("module", ["model.layers.0.q_proj", "model.layers.10.q_proj", "q_proj", "x.self_attn.k_proj"])
@pytest.mark.parametrize(
    "pattern",
    [
        {},
        {"q_proj": 2},
        {"^q_proj": 2, "q_proj": 3},
        {"layers.0.q_proj": 2},
        {"^model.layers.0.q_proj": 2},
        {r"layers\.\d+\.q_proj": 2, "k_proj": 4},
        {".*": 5, "q_proj": 2},
        {"proj": 7},
        {"(q|k)_proj": 9},
        {"_proj$": 3},
    ],
)
def test_patterns_match_as_in_peft(pattern: dict[str, int], module: str) -> None:
    theirs = pattern.get(get_pattern_key(pattern.keys(), module), 8)
    assert adapters.of_pattern(pattern, module, 8) == theirs


@pytest.mark.parametrize(
    "odd",
    [
        {"lora_alpha": None},
        {"lora_alpha": "16"},
        {"alpha_pattern": {"*q": 4}},
        {"rank_pattern": ["q_proj"]},
        {"target_modules": "(q_proj"},
        {"target_modules": 5},
        {"exclude_modules": "(q"},
        {"modules_to_save": ["(x"]},
        {"target_modules": ["down_proj"], "layers_to_transform": "1"},
        {"trainable_token_indices": ["a"]},
    ],
)
def test_values_that_peft_cannot_use(odd: dict[str, Any], tmp_path: Path, model_files: Any) -> None:
    assert "that PEFT cannot use" in refusal(lambda: adapters.read(model_files.adapter(tmp_path / "a", **odd)))


def test_names_without_the_prefix_of_peft_are_no_plain_pairs(tmp_path: Path, model_files: Any) -> None:
    bare = {"model.q_proj.lora_A.weight": (2, 3), "model.q_proj.lora_B.weight": (3, 2)}
    found = adapters.read(model_files.adapter(tmp_path / "a", bare))
    assert found.beyond_plain == "it holds model.q_proj.lora_A.weight"
