"""Counts from the architecture alone: known models, every kind of adapter, and what is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from playground.errors import ConfigError, VariantError
from tests.places import ROOT
from training.run.parameters import Shape, count

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
TINY: dict[str, Any] = LLAMA_8B | {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
PAIRS = 2 * (3 * (64 + 96) + 2 * (64 + 64) + 2 * (64 + 32))
"""Inputs and outputs of TINY's linear layers together: a LoRA has so many parameters a rank."""


@pytest.mark.parametrize(
    ("rank", "trainable", "share"),
    [
        (8, 20_971_520, "0.26%"),
        (16, 41_943_040, "0.52%"),
        (32, 83_886_080, "1.03%"),
        (64, 167_772_160, "2.05%"),
        (128, 335_544_320, "4.01%"),
    ],
)
def test_llama_8b_at_every_rank(rank: int, trainable: int, share: str) -> None:
    found = count(LLAMA_8B, {"r": rank, "target_modules": SEVEN})
    assert found.trainable == trainable == found.shape.lora(rank)
    assert found.total == 8_030_261_248 + trainable
    assert f"{found.share:.2%}" == share


def test_the_light_shape_is_the_built_models() -> None:
    assert Shape.from_config(LLAMA_8B) == count(LLAMA_8B, {"target_modules": SEVEN}).shape
    tied = TINY | {"tie_word_embeddings": True, "head_dim": 32}
    assert Shape.from_config(tied) == count(tied, {"target_modules": SEVEN}).shape


def test_tied_embeddings_count_once() -> None:
    untied = count(TINY, {"target_modules": SEVEN})
    tied = count(TINY | {"tie_word_embeddings": True}, {"target_modules": SEVEN})
    assert untied.total - tied.total == 100 * 64
    assert untied.shape.embedding == 2 * tied.shape.embedding == 2 * 100 * 64


def test_a_folder_counts_like_its_config(demo_models: Path) -> None:
    found = count(demo_models / "smollm2", {"r": 8, "target_modules": SEVEN})
    assert found.total == 134_515_008 + found.trainable
    assert found.trainable == found.shape.lora(8) == 2_442_240


@pytest.mark.parametrize(
    ("lora", "trainable"),
    [
        ({"r": 4, "target_modules": SEVEN}, 4 * PAIRS),
        ({"r": 4, "target_modules": "all-linear"}, 4 * PAIRS),
        ({"r": 4, "target_modules": SEVEN, "use_rslora": True}, 4 * PAIRS),
        ({"r": 4, "target_modules": SEVEN, "init_lora_weights": "loftq"}, 4 * PAIRS),
        ({"r": 4, "target_modules": ["q_proj"]}, 2 * 4 * (64 + 64)),
        ({"r": 4, "target_modules": r".*layers\.0.*q_proj"}, 4 * (64 + 64)),
        ({"r": 4, "target_modules": SEVEN, "use_dora": True}, 4 * PAIRS + 2 * (3 * 64 + 2 * 32 + 2 * 96)),
        ({"r": 4, "target_modules": SEVEN, "modules_to_save": ["lm_head"]}, 4 * PAIRS + 100 * 64),
        ({"r": 4, "target_modules": ["q_proj"], "rank_pattern": {"q_proj": 8}}, 2 * 8 * (64 + 64)),
    ],
)
def test_every_kind_of_adapter(lora: dict[str, Any], trainable: int) -> None:
    found = count(TINY, lora)
    assert found.trainable == trainable
    assert found.total == found.shape.total + trainable


@pytest.mark.parametrize(
    ("lora", "head", "untied"),
    [
        ({"target_modules": ["q_proj"]}, False, 0),
        ({"target_modules": ["q_proj", "lm_head"]}, True, 6400),
        ({"target_modules": r".*(q_proj|lm_head)"}, True, 6400),
        ({"target_modules": ["embed_tokens"]}, False, 6400),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, False, 6400),
        ({"target_modules": ["lm_head", "embed_tokens"], "ensure_weight_tying": True}, True, 0),
        ({"target_modules": ["q_proj"], "trainable_token_indices": [5]}, False, 0),
        ({"target_modules": "all-linear"}, False, 0),
    ],
)
def test_what_is_trained_of_tied_tables(lora: dict[str, Any], head: bool, untied: int) -> None:
    found = count(TINY | {"tie_word_embeddings": True}, lora)
    assert (found.head, found.untied) == (head, untied)
    assert count(TINY, lora).untied == 0


def test_other_architectures_have_their_own_layers() -> None:
    gpt2 = count({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100}, {"r": 4})
    assert gpt2.trainable == 2 * 4 * (64 + 192)
    assert {layer.name: (layer.inputs, layer.outputs) for layer in gpt2.shape.linears}["c_attn"] == (64, 192)
    phi = count(TINY | {"model_type": "phi3", "pad_token_id": 0}, {"r": 4, "target_modules": ["gate_up_proj"]})
    assert phi.trainable == 2 * 4 * (64 + 192)
    assert phi.shape.linear == count(TINY, {"target_modules": SEVEN}).shape.linear


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"r": 0, "target_modules": SEVEN}, ["positive", "0", "q_proj"]),
        ({"r": -3, "target_modules": SEVEN}, ["-3"]),
        ({"r": "16", "target_modules": SEVEN}, ["str", "whole number"]),
        ({"rank": 16, "target_modules": SEVEN}, ["rank"]),
        ({"lora_dropout": 2.0, "target_modules": SEVEN}, ["dropout", "2.0"]),
        ({"bias": "some", "target_modules": SEVEN}, ["some"]),
        ({"target_modules": "nothing"}, ["nothing", "q_proj"]),
        ({"target_modules": ["q_porj", "v_proj"]}, ["'q_porj' (target_modules)", "Did you mean q_proj", "down_proj"]),
        (
            {"target_modules": ["c_attn"], "modules_to_save": ["lm_haed"]},
            ["'c_attn'", "'lm_haed' (modules_to_save)", "lm_head"],
        ),
    ],
)
def test_what_is_refused(lora: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        count(TINY, lora)
    said = f"{caught.value.message} {caught.value.hint}"
    assert all(word in said for word in words), said


@pytest.mark.parametrize("config", [{}, {"model_type": "no-such"}, {"model_type": "t5"}])
def test_an_unknown_architecture_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(VariantError, match="transformers cannot build"):
        count(config, {})


@pytest.mark.parametrize("change", [{"hidden_size": None}, {"num_attention_heads": 0}, {"num_local_experts": 8}])
def test_the_light_shape_knows_its_limits(change: dict[str, Any]) -> None:
    with pytest.raises(VariantError):
        Shape.from_config(TINY | change)


def test_estimating_needs_no_torch() -> None:
    code = "import sys, training.run.memory; sys.exit(bool({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
