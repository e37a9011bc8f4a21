"""Every fault planted in a healthy export of a tiny model: a check must fail and name its cause, and no other."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from training.export.merge import merge
from training.export.parity import Verdict

from . import tiny
from .conftest import Check, Made
from .planted import read, rewrite, zeros

pytestmark = pytest.mark.models
LAYER = "blk.1."
LEVELS = ["f16", pytest.param("q4_k_m", marks=pytest.mark.slow)]


def failed(verdict: Verdict, *causes: str) -> str:
    """The verdict's sentences, once it has failed for these causes alone."""
    assert (verdict.verdict, sorted(verdict.causes)) == ("fail", sorted(causes)), "\n".join(verdict.lines)
    return "\n".join(verdict.lines)


@pytest.fixture
def template(small: Made) -> str:
    config = json.loads((small.base / "tokenizer_config.json").read_text(encoding="utf-8"))
    return str(config["chat_template"])


def folder_with(small: Made, target: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """The merged folder with its config and its tensors changed."""
    shutil.copytree(small.merged, target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    tensors: dict[str, Any] = load_file(target / "model.safetensors")
    change(config, tensors)
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_a_missing_template(small: Made, check: Check, tmp_path: Path) -> None:
    file = rewrite(small.file("f16"), tmp_path / "x.gguf", {"tokenizer.chat_template": None})
    assert "chat template is missing" in failed(check(file), "template")


@pytest.mark.slow
def test_another_template(small: Made, check: Check, tmp_path: Path, template: str) -> None:
    other = template.replace("<|im_end|>", "</end>")
    file = rewrite(small.file("f16"), tmp_path / "x.gguf", {"tokenizer.chat_template": other})
    assert "</end>" in failed(check(file), "template")


@pytest.mark.slow
def test_bos_doubled_by_the_template(small: Made, check: Check, tmp_path: Path, template: str) -> None:
    doubled = "{{ bos_token }}" + template
    file = rewrite(small.file("f16"), tmp_path / "x.gguf", {"tokenizer.chat_template": doubled})
    assert "once more" in failed(check(file), "bos-eos")


@pytest.mark.slow
def test_bos_doubled_by_the_tokenizer(small: Made, check: Check, tmp_path: Path) -> None:
    """The template brings BOS and the file asks for one: a runner that obeys both says it twice."""
    file = rewrite(small.file("f16"), tmp_path / "x.gguf", {"tokenizer.ggml.add_bos_token": True})
    assert "BOS" in failed(check(file), "bos-eos")


@pytest.mark.slow
def test_another_eos(small: Made, check: Check, tmp_path: Path) -> None:
    file = rewrite(small.file("f16"), tmp_path / "x.gguf", {"tokenizer.ggml.eos_token_id": 0})
    assert "EOS is '<|endoftext|>' (0)" in failed(check(file), "bos-eos")


def test_a_stop_token_lost(small: Made, check: Check, tmp_path: Path) -> None:
    folder = shutil.copytree(small.merged, tmp_path / "x")
    (folder / "generation_config.json").write_text('{"eos_token_id": 0}', encoding="utf-8")
    assert "[2] end an answer" in failed(check(folder), "bos-eos")


@pytest.mark.slow
def test_tokens_in_another_order(small: Made, check: Check, tmp_path: Path) -> None:
    tokens = list(read(small.file("f16"))[0]["tokenizer.ggml.tokens"][0])
    tokens[300:400] = reversed(tokens[300:400])
    file = rewrite(small.file("f16"), tmp_path / "x.gguf", {"tokenizer.ggml.tokens": tokens})
    assert "100 of 49152 tokens differ" in failed(check(file), "vocabulary")


@pytest.mark.slow
def test_another_pre_tokenizer(small: Made, check: Check, tmp_path: Path) -> None:
    """The same vocabulary, cut into words by other rules: only texts show it."""
    file = rewrite(small.file("f16"), tmp_path / "x.gguf", {"tokenizer.ggml.pre": "llama-bpe"})
    verdict = check(file)
    assert "become other tokens" in failed(verdict, "vocabulary")
    assert "text" in verdict.numbers


@pytest.mark.parametrize("level", LEVELS)
def test_an_adapter_not_merged(small: Made, check: Check, level: str) -> None:
    verdict = check(small.convert(small.base, "unmerged", level), level)
    assert "not merged" in failed(verdict, "merge")
    assert verdict.numbers["files"]["adapter_times"] == pytest.approx(0, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["f16", "q4_k_m"])
def test_an_adapter_merged_twice(small: Made, check: Check, tmp_path: Path, level: str) -> None:
    merge(small.merged, small.adapter, tmp_path / "x", "float16")
    verdict = check(small.convert(tmp_path / "x", "twice", level), level)
    assert "merged twice" in failed(verdict, "merge")
    assert verdict.numbers["files"]["adapter_times"] == pytest.approx(2, abs=0.02)


def test_an_adapter_merged_at_half_its_strength(small: Made, check: Check, tmp_path: Path) -> None:
    half = shutil.copytree(small.adapter, tmp_path / "half")
    config = json.loads((half / "adapter_config.json").read_text(encoding="utf-8"))
    (half / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 8}), encoding="utf-8")
    merge(small.base, half, tmp_path / "x", "float16")
    assert "another strength (found 0.500" in failed(check(tmp_path / "x"), "merge")


@pytest.mark.slow
def test_one_module_passed_over(small: Made, check: Check, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.v_proj.weight"
    original = load_file(small.base / "model.safetensors")[name]

    def change(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors[name] = original.astype(np.float16)

    assert f"part for {name} was not" in failed(check(folder_with(small, tmp_path / "x", change)), "merge")


@pytest.mark.slow
@pytest.mark.parametrize("level", ["f16", "q4_k_m"])
def test_another_models_weights(small: Made, check: Check, tmp_path: Path, demo_models: Path, level: str) -> None:
    options: dict[str, Any] = {"vocab_size": 49152, "tie_word_embeddings": True, "rope_theta": 100000.0}
    other = tiny.smollm_tokenizer(tiny.model(tmp_path / "other", "llama", seed=9, **options), demo_models)
    verdict = check(small.convert(other, "other", level), level)
    assert "another model's weights" in failed(verdict, "weights")


@pytest.mark.slow
def test_another_models_shape(small: Made, check: Check, tmp_path: Path, demo_models: Path) -> None:
    options: dict[str, Any] = {
        "vocab_size": 49152,
        "tie_word_embeddings": True,
        "rope_theta": 100000.0,
        "num_hidden_layers": 1,
    }
    other = tiny.smollm_tokenizer(tiny.model(tmp_path / "other", "llama", **options), demo_models)
    lines = failed(check(small.convert(other, "shallow")), "hyperparameters", "weights")
    assert "layers is 1 and should be 2" in lines
    assert "tensors are missing" in lines


@pytest.mark.slow
def test_a_rope_base_off_in_a_gguf(small: Made, check: Check, tmp_path: Path) -> None:
    file = rewrite(small.file("f16"), tmp_path / "x.gguf", {"llama.rope.freq_base": 10000.0})
    assert "rope base is 10000 and should be 100000" in failed(check(file), "hyperparameters")


def test_a_rope_base_off_in_a_folder(small: Made, check: Check, tmp_path: Path) -> None:
    def change(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        config.pop("rope_parameters", None)
        config["rope_theta"] = 10000.0

    assert "rope base is 10000" in failed(check(folder_with(small, tmp_path / "x", change)), "hyperparameters")


@pytest.mark.slow
def test_a_norm_epsilon_off(small: Made, check: Check, tmp_path: Path) -> None:
    file = rewrite(small.file("f16"), tmp_path / "x.gguf", {"llama.attention.layer_norm_rms_epsilon": 1e-4})
    assert "norm epsilon" in failed(check(file), "hyperparameters")


@pytest.mark.slow
def test_embeddings_untied_and_random(small: Made, check: Check, tmp_path: Path) -> None:
    def change(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        config["tie_word_embeddings"] = False
        shape = tensors["model.embed_tokens.weight"].shape
        tensors["lm_head.weight"] = np.random.default_rng(1).normal(size=shape).astype(np.float16)

    folder = folder_with(small, tmp_path / "x", change)
    assert "untied" in failed(check(folder), "hyperparameters")
    assert "untied" in failed(check(small.convert(folder, "untied")), "hyperparameters")


@pytest.mark.slow
def test_embeddings_untied_without_a_head(small: Made, check: Check, tmp_path: Path) -> None:
    def change(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        config["tie_word_embeddings"] = False

    assert "random" in failed(check(folder_with(small, tmp_path / "x", change)), "hyperparameters")


@pytest.mark.slow
def test_embeddings_untied_into_a_copy_are_said_and_pass_on(small: Made, check: Check, tmp_path: Path) -> None:
    def change(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        config["tie_word_embeddings"] = False
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    verdict = check(folder_with(small, tmp_path / "x", change))
    assert (verdict.verdict, verdict.causes) == ("warn", ["hyperparameters"])
    assert "answers" in verdict.numbers


@pytest.mark.parametrize("left", [100, 3_000, 2_000_000, -1000])
def test_a_truncated_gguf(small: Made, check: Check, tmp_path: Path, left: int) -> None:
    data = small.file("f16").read_bytes()
    (tmp_path / "x.gguf").write_bytes(data[:left])
    assert "cut short" in failed(check(tmp_path / "x.gguf"), "file")


def test_a_truncated_folder(small: Made, check: Check, tmp_path: Path) -> None:
    folder = shutil.copytree(small.merged, tmp_path / "x")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1000])
    assert "cut short" in failed(check(folder), "file")


@pytest.mark.slow
@pytest.mark.parametrize("level", ["f16", "q4_k_m"])
def test_a_zeroed_layer(small: Made, check: Check, tmp_path: Path, level: str) -> None:
    file = rewrite(small.file(level), tmp_path / "x.gguf", tensors={LAYER: zeros})
    assert "Layer 1 (9 tensors) hold zeros alone" in failed(check(file, level), "weights")


@pytest.mark.slow
def test_a_few_rows_zeroed_in_four_bits(small: Made, check: Check, tmp_path: Path) -> None:
    """One row of 256 moves its tensor's error by a sixteenth: less than rounding to four bits does."""

    def change(data: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        data[7] = 0
        return data

    file = rewrite(small.file("q4_k_m"), tmp_path / "x.gguf", tensors={"blk.0.attn_q.weight": change})
    assert "1 of 256 rows of blk.0.attn_q.weight are damaged" in failed(check(file, "q4_k_m"), "weights")


@pytest.mark.slow
def test_query_rows_in_transformers_order(small: Made, check: Check, tmp_path: Path) -> None:
    def change(data: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        return data.reshape(4, 32, 2, 256).swapaxes(1, 2).reshape(data.shape)

    file = rewrite(small.file("f16"), tmp_path / "x.gguf", tensors={"blk.0.attn_q.weight": change})
    assert "blk.0.attn_q.weight is unlike" in failed(check(file), "weights")


def test_a_tensor_missing(small: Made, check: Check, tmp_path: Path) -> None:
    def change(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        del tensors["model.layers.1.mlp.up_proj.weight"]

    lines = failed(check(folder_with(small, tmp_path / "x", change)), "weights")
    assert "1 tensors are missing: layers.1.mlp.up_proj.weight" in lines


def test_a_file_coarser_than_it_says(small: Made, check: Check, tmp_path: Path) -> None:
    """Rows that were rounded more coarsely than their type rounds."""

    def change(data: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        return (np.round(data.astype(np.float32) / 0.05) * 0.05).astype(data.dtype)

    file = rewrite(small.file("f16"), tmp_path / "x.gguf", tensors={"blk.0.ffn_up.weight": change})
    assert "F16 loses at most" in failed(check(file), "weights")


@pytest.mark.slow
def test_a_level_that_is_another(small: Made, check: Check) -> None:
    verdict = check(small.file("q4_k_m"), "q8_0")
    assert "calls itself Q4_K_M, and Q8_0 was asked for" in "\n".join(verdict.lines)
    assert verdict.verdict != "pass"
