"""Broken and unsafe model files are refused with the reason, and what an adapter is is told from its files."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue import files
from playground.errors import VariantError

LAYER = "base_model.model.model.layers.0.mlp.down_proj"


def refusal(check: Callable[[], object]) -> str:
    with pytest.raises(VariantError) as caught:
        check()
    assert caught.value.hint
    return caught.value.message


def test_whole_bases_pass(tmp_path: Path, model_files: Any) -> None:
    files.check_base(model_files.base(tmp_path / "one"))
    files.check_base(model_files.sharded(tmp_path / "many"))


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        (0, "cut short"),
        (5, "cut short"),
        (8, "inside its header"),
        (100, "inside its header"),
        (-1, "bytes long and should be"),
        (-500, "bytes long and should be"),
    ],
)
def test_a_safetensors_file_that_is_cut_short(cut: int, said: str, tmp_path: Path, model_files: Any) -> None:
    weights = model_files.base(tmp_path / "b") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    message = refusal(lambda: files.check_base(tmp_path / "b"))
    assert said in message
    assert str(weights) in message


def test_a_safetensors_file_with_more_behind_it(tmp_path: Path, model_files: Any) -> None:
    weights = model_files.base(tmp_path / "b") / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    assert "should be" in refusal(lambda: files.check_base(tmp_path / "b"))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (struct.pack("<Q", 2**60) + b"{}", "1,152,921,504,606,846,976 bytes"),
        (struct.pack("<Q", 2**64 - 1), "not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not a safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "damaged"),
        (struct.pack("<Q", 9) + b'{"a": 1}\n', "damaged"),
        (struct.pack("<Q", 11) + b'{"a": {}}  ', "damaged"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "damaged"),
        (struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe", "damaged"),
    ],
)
def test_what_is_no_safetensors_file(raw: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    assert said in refusal(lambda: files.safetensors_header(path))


def test_pickled_weights_are_never_opened(tmp_path: Path, model_files: Any) -> None:
    base = model_files.base(tmp_path / "b")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    assert "pickled weights alone (pytorch_model.bin)" in refusal(lambda: files.check_base(base))
    (base / "pytorch_model.bin").unlink()
    with pytest.raises(VariantError, match=r"holds no model\.safetensors") as caught:
        files.check_base(base)
    assert "--dry-run` alone plans without weights" in caught.value.hint


def test_shards(tmp_path: Path, model_files: Any) -> None:
    base = model_files.sharded(tmp_path / "b")
    (base / "model-00001-of-00004.safetensors").unlink()
    assert "lacks 1 of its 4 shards: model-00001-of-00004.safetensors" in refusal(lambda: files.check_base(base))
    indices: list[dict[str, Any]] = [{"weight_map": {}}, {"weight_map": ["x"]}, {}]
    for index in indices:
        model_files.json(base / "model.safetensors.index.json", index)
        assert "names no weights" in refusal(lambda: files.check_base(base))


def test_code_that_comes_with_a_model_is_refused(tmp_path: Path, model_files: Any) -> None:
    base = model_files.base(tmp_path / "b", auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    message = refusal(lambda: files.check_base(base))
    assert "trust_remote_code" in message
    assert "modeling_x.X" in message


def test_what_a_base_needs_beside_its_weights(tmp_path: Path, model_files: Any) -> None:
    base = model_files.base(tmp_path / "b")
    (base / "tokenizer.json").unlink()
    assert "no tokenizer" in refusal(lambda: files.check_base(base))
    model_files.json(base / "config.json", {"hidden_size": 8})
    assert "names no architecture" in refusal(lambda: files.check_base(base))
    for content, said in (("{", "not valid JSON"), ("[]", "no JSON object"), ("[" * 100_000, "not valid JSON")):
        (base / "config.json").write_text(content, encoding="utf-8")
        assert said in refusal(lambda: files.check_base(base))
    assert "is a file, and a base is a folder" in refusal(lambda: files.check_base(base / "config.json"))
    (base / "config.json").unlink()
    assert "config.json does not exist" in refusal(lambda: files.check_base(base))
    assert "is not a folder" in refusal(lambda: files.check_base(tmp_path / "none"))


def test_bytes_in_memory_whatever_the_file_stores(tmp_path: Path, model_files: Any) -> None:
    weights = 32 * 8 + 8 * 8 + 8 * 24 + 8
    for dtype in ("F32", "BF16", "F8_E4M3"):
        assert files.loaded_bytes(model_files.base(tmp_path / dtype, dtype=dtype), 2) == 2 * weights
    assert files.loaded_bytes(model_files.sharded(tmp_path / "many"), 4) == 4 * weights


def test_packed_weights_stay_as_they_are_or_are_unpacked(tmp_path: Path, model_files: Any) -> None:
    """bitsandbytes computes with its bytes; of mxfp4, transformers makes plain weights where there is no card."""
    packed = {"a.weight": (8, 4)}
    kept = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    assert files.loaded_bytes(model_files.base(tmp_path / "a", packed, "U8", **kept), 4) == 32
    made = {"quantization_config": {"quant_method": "mxfp4"}}
    assert files.loaded_bytes(model_files.base(tmp_path / "b", packed, "U8", **made), 2) == 128


@pytest.mark.parametrize(
    ("name", "said"),
    [("adapter_config.json", "an adapter and no base"), ("x.gguf", "GGUF files"), ("model_index.json", "diffusers")],
)
def test_folders_that_are_no_bases_are_called_what_they_are(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}", encoding="utf-8")
    assert said in refusal(lambda: files.check_base(tmp_path))


def test_a_model_kept_for_embeddings_has_no_output_layer(tmp_path: Path, model_files: Any) -> None:
    bare = {"architectures": ["MistralModel"], "model_type": "mistral", "tie_word_embeddings": False}
    base = model_files.base(tmp_path / "e5", **bare)
    assert "a MistralModel without its output layer" in refusal(lambda: files.check_loadable(base))
    files.check_loadable(model_files.base(tmp_path / "tied", **bare | {"tie_word_embeddings": True}))
    files.check_loadable(model_files.base(tmp_path / "whole", {"lm_head.weight": (8, 8)}, **bare))


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("b", {"data_offsets": [16, 48]}, "b begins at 16, and 32 is its place"),
        ("b", {"data_offsets": [64, 96]}, "b begins at 64, and 32 is its place"),
        ("b", {"shape": [9]}, "damaged inside its header"),
        ("b", {"shape": [2**40, 2**40]}, "damaged inside its header"),
        ("b", {"shape": [True, 8]}, "damaged inside its header"),
        ("b", {"dtype": "F16"}, "damaged inside its header"),
        ("b", {"dtype": ["F32"]}, "damaged inside its header"),
        ("b", {"data_offsets": [32.0, 64.0]}, "damaged inside its header"),
        ("b", {"data_offsets": [64, 32]}, "damaged inside its header"),
        ("a", {"data_offsets": [0, 2**60]}, "damaged inside its header"),
    ],
)
def test_a_safetensors_header_is_held_to_itself_and_the_file(
    name: str, row: dict[str, Any], said: str, tmp_path: Path, model_files: Any
) -> None:
    path = model_files.safetensors(tmp_path / "x.safetensors", {"a": (8,), "b": (8,)})
    assert list(files.safetensors_header(path)) == ["a", "b"]
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    header[name] |= row
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    assert said in refusal(lambda: files.safetensors_header(path))
