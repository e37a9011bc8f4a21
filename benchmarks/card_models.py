"""Models with random weights in the shape of ones that people run: for speed, where what they say does not matter."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SHARED: dict[str, Any] = {"vocab_size": 128256, "max_position_embeddings": 131072, "bos_token_id": 128000}
SHARED |= {"eos_token_id": 128001, "rms_norm_eps": 1e-5, "num_attention_heads": 32, "num_key_value_heads": 8}
SHAPES: dict[str, dict[str, Any]] = {
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "head_dim": 128},
    "tiny": {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "head_dim": 8},
}
"""Llama 3.2 1B, Llama 3.1 8B, and one to try the benchmark out with."""
RANK = 16


def make(shape: str, folder: Path) -> Path:
    """Write a model in bf16 with a tokenizer that reads a token a byte."""
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 500000.0}
    config = LlamaConfig(**SHARED, **SHAPES[shape], tie_word_embeddings=shape == "1b", rope_parameters=rope)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="4GB")
    _tokenizer().save_pretrained(folder)
    return folder


def make_adapter(base: Path, folder: Path) -> Path:
    """Write a plain LoRA adapter on all linear layers of a model that was made here."""
    config = LlamaConfig.from_pretrained(base)
    hidden, inner = config.hidden_size, config.intermediate_size
    heads, shared = (number * config.head_dim for number in (config.num_attention_heads, config.num_key_value_heads))
    sides = {"self_attn.q_proj": (hidden, heads), "self_attn.k_proj": (hidden, shared)}
    sides |= {"self_attn.v_proj": (hidden, shared), "self_attn.o_proj": (heads, hidden)}
    sides |= {"mlp.gate_proj": (hidden, inner), "mlp.up_proj": (hidden, inner), "mlp.down_proj": (inner, hidden)}
    tensors = {}
    for layer in range(config.num_hidden_layers):
        for name, (wide, out) in sides.items():
            place = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{place}.lora_A.weight"] = torch.randn(RANK, wide, dtype=torch.bfloat16) / wide**0.5
            tensors[f"{place}.lora_B.weight"] = torch.randn(out, RANK, dtype=torch.bfloat16) * 0.01
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    targets = sorted(name.split(".")[1] for name in sides)
    said = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(said | {"base_model_name_or_path": str(base)}))
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"\u0120w{number}" for number in range(len(alphabet), 128000))]
    raw = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_{number}|>" for number in range(254))]
    raw.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=special[0], eos_token=special[1], pad_token=special[2]
    )
    made.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
    return made
