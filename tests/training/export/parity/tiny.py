"""Tiny random models with widths divisible by 256 and real tokenizers, and random adapters on them."""

import shutil
from pathlib import Path
from typing import Any

WIDTHS = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "initializer_range": 0.03,
}
SPREAD = 0.08
"""Of embeddings and output layers: sure of the next token, as trained models are, so that the likeliest is no tie."""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
SPM_SIZE = 512
SPM_BYTES = slice(3, 261)
"""Its byte tokens, which said at random are no text. Two control tokens of ours lie among them."""
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TEMPLATE += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
SPM_TEXT = "마당은 집 안에 있으면서 하늘이 열린 곳이다. The courtyard was the quietest part of the house. 0123456789 "


def model(folder: Path, family: str, seed: int = 1, faint: slice = slice(0), **options: Any) -> Path:
    """A random model of a family in fp32, without a tokenizer. Norms are not all ones, `faint` tokens not likely."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **(WIDTHS | options))
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, parameter in made.named_parameters():
        if "norm" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.1)
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            torch.nn.init.normal_(parameter, std=SPREAD)
            parameter.data[faint] *= 0.1  # never said
    made.save_pretrained(folder)
    return folder


def adapter(folder: Path, base: Path, seed: int = 2, std: float = 0.05, **options: Any) -> Path:
    """A random LoRA on every linear layer, its B not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    fields = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | options
    made = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**fields))
    for name, parameter in made.named_parameters():
        if "lora_B" in name or "lora_embedding_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    made.save_pretrained(folder)
    return folder


def smollm_tokenizer(folder: Path, models: Path) -> Path:
    """SmolLM2's tokenizer, template and ends."""
    for name in TOKENIZER:
        shutil.copyfile(models / "smollm2" / name, folder / name)
    return folder


def catalogue(data: Path, base: Path, adapter_folder: Path) -> None:
    """A user's catalogue with `tiny` and `tiny:lora`."""
    rows = [("tiny", "base", base, ""), ("tiny:lora", "adapter", adapter_folder, 'base = "tiny"\n')]
    text = "".join(f'[[variant]]\nname = "{n}"\nkind = "{k}"\nsource = "{p}"\n{more}\n' for n, k, p, more in rows)
    data.mkdir(parents=True, exist_ok=True)
    (data / "variants.toml").write_text(text, encoding="utf-8")


def sentencepiece_tokenizer(folder: Path, prefix: bool) -> Path:
    """A SentencePiece model that falls back to bytes, and the same as tokenizer.json, as these families ship both.

    `prefix`: a space is put before each piece of text, as Phi-3 has it and Gemma has not.
    """
    import sentencepiece
    from tokenizers import normalizers
    from transformers import LlamaTokenizer, PreTrainedTokenizerFast

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([SPM_TEXT] * 50),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=SPM_SIZE,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        user_defined_symbols=["<|im_start|>", "<|im_end|>"],
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    raw = LlamaTokenizer.from_pretrained(folder, add_bos_token=True).backend_tokenizer
    rules = [normalizers.Prepend("\u2581")] if prefix else []
    raw.normalizer = normalizers.Sequence([*rules, normalizers.Replace(" ", "\u2581")])
    raw.pre_tokenizer = None
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return folder
