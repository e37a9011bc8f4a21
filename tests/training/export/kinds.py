"""Kinds of adapters: what LoraConfig can say, on tiny bases of several families, tied and not."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from tests.playground.backends.conftest import tokenizer

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}
EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "gemma3_text": {"sliding_window": 16, "query_pre_attn_scalar": 8},
    "qwen3_moe": EXPERTS | {"num_experts": 4},
    "mixtral": EXPERTS | {"num_local_experts": 4},
}
SOME = ["q_proj", "v_proj", "o_proj"]
ALL = [*SOME, "k_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Kind:
    """One kind of adapter: LoraConfig's options; `grown` rows more than the base has; families that have it."""

    options: dict[str, Any]
    grown: int = 0
    only: tuple[str, ...] = ("llama", "qwen3", "gemma3_text")
    base: dict[str, Any] = field(default_factory=dict)


MIXTURES = ("qwen3_moe", "mixtral")
EVERYWHERE = (*FAMILIES,)
KINDS: dict[str, Kind] = {
    "plain": Kind({"target_modules": SOME}, only=EVERYWHERE),
    "all linear": Kind({"target_modules": "all-linear"}, only=EVERYWHERE),
    "expression": Kind({"target_modules": r".*\.layers\.1\..*\.(q|down)_proj"}),
    "patterns by ending": Kind({"target_modules": ALL, "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 64}}),
    "patterns by expression": Kind({"target_modules": ALL, "alpha_pattern": {r"layers\.1\..*": 64}}),
    "anchored patterns": Kind({"target_modules": ALL, "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 64}}),
    "the first pattern wins": Kind({"target_modules": ALL, "alpha_pattern": {"self_attn.q_proj": 64, "q_proj": 1}}),
    "rank-stabilized": Kind({"target_modules": ALL, "use_rslora": True, "rank_pattern": {"o_proj": 9}}),
    "one layer": Kind({"target_modules": SOME, "layers_to_transform": [1], "layers_pattern": "layers"}),
    "excluded": Kind({"target_modules": ALL, "exclude_modules": r".*layers\.0.*"}),
    "dora": Kind({"target_modules": ALL, "use_dora": True}),
    "all biases": Kind({"target_modules": SOME, "bias": "all"}, base={"attention_bias": True}),
    "biases of lora": Kind({"target_modules": SOME, "bias": "lora_only"}, base={"attention_bias": True}),
    "lora with biases": Kind({"target_modules": SOME, "lora_bias": True}, base={"attention_bias": True}),
    "whole modules": Kind({"target_modules": SOME, "modules_to_save": ["norm", "lm_head"]}),
    "whole embeddings": Kind({"target_modules": SOME, "modules_to_save": ["embed_tokens"]}),
    "whole and tied": Kind({"target_modules": SOME, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}),
    "single tokens": Kind({"target_modules": SOME, "trainable_token_indices": [1, 5, 7]}),
    "single tokens by name": Kind({"target_modules": SOME, "trainable_token_indices": {"embed_tokens": [1, 5]}}),
    "embeddings": Kind({"target_modules": [*SOME, "embed_tokens"]}),
    "head": Kind({"target_modules": [*SOME, "lm_head"]}),
    "head with dora": Kind({"target_modules": [*SOME, "lm_head"], "use_dora": True}),
    "embeddings and head": Kind({"target_modules": ["embed_tokens", "lm_head"]}),
    "tied by option": Kind({"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}),
    "grown": Kind({"target_modules": SOME, "modules_to_save": ["embed_tokens", "lm_head"]}, grown=3),
    "grown by single tokens": Kind({"target_modules": SOME, "trainable_token_indices": [-1, -2]}, grown=2),
    "grown embeddings": Kind({"target_modules": [*SOME, "embed_tokens"]}, grown=3),
    "experts": Kind(
        {"target_modules": SOME, "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]},
        only=MIXTURES,
    ),
    "pissa": Kind({"target_modules": SOME, "init_lora_weights": "pissa"}),
    "olora": Kind({"target_modules": SOME, "init_lora_weights": "olora"}),
    "orthogonal": Kind({"target_modules": SOME, "init_lora_weights": "orthogonal"}),
}


def base(folder: Path, family: str, tied: bool, **more: Any) -> Path:
    """A tiny random model of a family in fp32 with a tokenizer."""
    torch.manual_seed(3407)
    words = tokenizer()
    fields = SHAPE | FAMILIES[family] | {"vocab_size": len(words), "tie_word_embeddings": tied} | more
    config = AutoConfig.for_model(family, **fields, eos_token_id=words.eos_token_id, pad_token_id=0, bos_token_id=None)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def loaded(base_folder: Path, rows: int = 0) -> Any:
    """The base in fp32, its vocabulary resized to `rows`, if that is said."""
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    return model


def adapter(folder: Path, base_folder: Path, kind: Kind) -> Path:
    """A random adapter of a kind, saved by PEFT itself, none of its numbers zero."""
    torch.manual_seed(1)
    model = loaded(base_folder)
    rows = model.config.vocab_size + kind.grown if kind.grown else 0
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    fields = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"} | kind.options
    if isinstance(indices := fields.get("trainable_token_indices"), list):
        fields["trainable_token_indices"] = [index % (rows or model.config.vocab_size) for index in indices]
    made = get_peft_model(model, LoraConfig(**fields))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.requires_grad and "lora_A" not in name and "magnitude" not in name:
                parameter.add_(0.15 * torch.randn_like(parameter))
    made.save_pretrained(folder)
    return folder


def of_single_experts(folder: Path, base_folder: Path, **more: Any) -> Path:
    """An adapter on the single experts of a mixture, as PEFT saved it under transformers 4."""
    from safetensors.torch import load_file, save_file

    torch.manual_seed(3)
    names = {"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3", "q_proj"}
    found = {}
    for key, weight in load_file(base_folder / "model.safetensors").items():
        module = key.removesuffix(".weight")
        if module.rpartition(".")[2] in names:
            found[f"base_model.model.{module}.lora_A.weight"] = 0.1 * torch.randn(4, weight.shape[1])
            found[f"base_model.model.{module}.lora_B.weight"] = 0.2 * torch.randn(weight.shape[0], 4)
    targets = sorted({name.split(".")[-3] for name in found})
    LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=targets, **more).save_pretrained(folder)
    save_file(found, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder
