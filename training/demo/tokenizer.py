"""A faithful tokenizer from a GGUF's own metadata; not for tokenizers other than SmolLM2's.

What transformers builds from the same file has a SentencePiece decoder, byte fallback and no special tokens. SmolLM2's
is a byte-level BPE that reads digits one by one. The converter recognises a tokenizer by what it does to a test text,
so a mistake here would also make a GGUF whose tokenization aborts its process.
"""

import json
from pathlib import Path
from typing import Any

from playground.errors import VariantError

CONTROL = 3  # a GGUF token_type: text that stands for itself and is never split


def write_tokenizer(meta: dict[str, Any], out_dir: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json (with the chat template) from a GGUF's metadata."""
    kind = (meta["tokenizer.ggml.model"], meta.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise VariantError(
            f"The tokenizer of this GGUF is {'/'.join(map(str, kind))}, and only gpt2/smollm can be rebuilt.",
            "Unpack SmolLM2's GGUF, or start from the model's Hugging Face folder.",
        )
    _backend(meta).save(str(out_dir / "tokenizer.json"))
    config = json.dumps(tokenizer_config(meta), indent=2, ensure_ascii=False)
    (out_dir / "tokenizer_config.json").write_text(config + "\n", encoding="utf-8")


def tokenizer_config(meta: dict[str, Any]) -> dict[str, Any]:
    """transformers' settings; the plain fast class, since GPT2Tokenizer would put its own pre-tokenizer back in."""
    tokens: list[str] = meta["tokenizer.ggml.tokens"]
    ids = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{ours}_token": tokens[meta[f"tokenizer.ggml.{theirs}_token_id"]] for ours, theirs in ids.items()},
        "model_max_length": meta["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        "chat_template": meta["tokenizer.chat_template"],
    }


def _backend(meta: dict[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    tokens: list[str] = meta["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, meta["tokenizer.ggml.token_type"], strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer
