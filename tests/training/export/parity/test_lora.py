"""What an adapter adds, from its files alone, against PEFT's own merge: every kind of LoRA that it can save."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from training.export.parity.lora import Lora, canonical
from training.export.parity.source import Source

from . import tiny

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 2, r"layers\.1\.mlp\..*": 64}},
    "dora": {"use_dora": True},
    "biases": {"lora_bias": True, "target_modules": ["q_proj", "up_proj"]},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "whole modules": {"modules_to_save": ["lm_head"]},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options: dict[str, Any] = {
        "vocab_size": 320,
        "tie_word_embeddings": False,
        "attention_bias": True,
        "mlp_bias": True,
    }
    return tiny.model(tmp_path_factory.mktemp("base"), "llama", **options)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_adds_what_peft_merges(kind: str, base: Path, tmp_path: Path) -> None:
    folder = tiny.adapter(tmp_path / "adapter", base, **KINDS[kind])
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder)
    want = {canonical(name): value.numpy() for name, value in merged.merge_and_unload().state_dict().items()}
    source, touched = Source(base, folder), Lora(folder).touched
    assert touched
    assert source.not_followed == []
    for name in source.names:
        original = source.base_rows(name, slice(None))
        change = source.change_rows(name, slice(None), original)
        assert (change is not None) == (name in touched)
        got = original if change is None else original + change
        assert np.allclose(got, want[name].reshape(got.shape), atol=2e-6), name


def test_some_rows_are_those_rows(base: Path, tmp_path: Path) -> None:
    source = Source(base, tiny.adapter(tmp_path / "adapter", base, use_dora=True))
    name, which = "layers.0.self_attn.q_proj.weight", np.array([5, 3, 200])
    whole = source.base_rows(name, slice(None))
    all_rows = source.change_rows(name, slice(None), whole)
    some = source.change_rows(name, which, source.base_rows(name, which))
    assert all_rows is not None
    assert some is not None
    assert np.array_equal(source.base_rows(name, which), whole[which])
    assert np.allclose(some, all_rows[which], atol=1e-7)


@pytest.mark.parametrize("wrapped", ["model.", "language_model.model.", "model.language_model.", ""])
def test_wrappers_do_not_count(wrapped: str) -> None:
    name = f"{wrapped}layers.0.x.weight"
    assert canonical(name) == canonical(f"base_model.model.{name}") == "layers.0.x.weight"
