"""Tiny random models of several families, written as a user's folder would be, and adapters on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import RowRequest

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TEMPLATE += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "gemma2": {"sliding_window": 16, "query_pre_attn_scalar": 16},
    "mistral": {"sliding_window": 16},
    "qwen2": {},
    "gemma3_text": {"sliding_window": 16, "query_pre_attn_scalar": 16},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "norm_topk_prob": True},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 48},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64, "init_std": 0.3},
    "mixtral": {"num_local_experts": 4},
    "mamba2": {"head_dim": 16, "num_heads": 8, "n_groups": 1, "state_size": 16, "expand": 2, "chunk_size": 32},
}


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with chat control tokens: any text has ids."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        ["안녕하세요 마당 hello world " * 3],
        trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    return fast


def randomised(model: Any) -> Any:
    """Add noise to everything that an adapter trains, so that no part of it is without effect."""
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a tiny random model of the named family; made once a family. `qwen3 tied`: one table of words."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            torch.manual_seed(3407)
            words = tokenizer()
            name, _, tied = family.partition(" ")
            options = SHAPE | FAMILIES[name] | {"vocab_size": len(words), "eos_token_id": words.eos_token_id}
            options |= {"tie_word_embeddings": bool(tied)}
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **options), dtype=torch.float32)
            made[family] = tmp_path_factory.mktemp(family)
            model.save_pretrained(made[family])
            words.save_pretrained(made[family])
        return made[family]

    return make


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with a random LoRA adapter (B is not zero) on a base folder; options go to LoraConfig."""

    def make(base: Path, seed: int = 1, **options: Any) -> Path:
        torch.manual_seed(seed)
        fields = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | options
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**fields))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        folder = tmp_path_factory.mktemp("adapter")
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def ask() -> Callable[..., RowRequest]:
    """A request with one question; the rest by keyword."""
    numbers = iter(range(10**6))

    def make(text: str = "안녕", adapter: Path | None = None, **fields: Any) -> RowRequest:
        sampling = Sampling(**{"temperature": 0.9, "repetition_penalty": 1.2, "seed": 7, "max_new_tokens": 24} | fields)
        return RowRequest(
            id=f"r{next(numbers)}",
            variant="tiny",
            messages=(Message(role="user", content=text),),
            sampling=sampling,
            adapter=str(adapter) if adapter else None,
        )

    return make
