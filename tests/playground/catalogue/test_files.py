"""Broken and unsafe model files are refused with the reason, and what an adapter is is told from its files."""

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
    assert "holds no model.safetensors" in refusal(lambda: files.check_base(base))
    adapter = model_files.adapter(tmp_path / "a")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "pickled weights alone" in refusal(lambda: files.check_adapter(adapter, None))


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


def test_a_plain_adapter_shares_its_base(tmp_path: Path, model_files: Any) -> None:
    adapter = model_files.adapter(tmp_path / "a")
    for base in (None, model_files.base(tmp_path / "one"), model_files.sharded(tmp_path / "many")):
        info = files.check_adapter(adapter, base)
        assert info == files.AdapterInfo(rank=2, base_model="owner/base", shares_base=True)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "lora_only"}, "biases"),
        ({"lora_bias": True}, "biases"),
        ({"peft_type": "IA3"}, "its type is IA3"),
        ({"peft_type": None}, "its type is None"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
    ],
)
def test_what_is_more_than_plain_lora_says_why(
    config: dict[str, Any], why: str, tmp_path: Path, model_files: Any
) -> None:
    info = files.check_adapter(model_files.adapter(tmp_path / "a", **config), None)
    assert not info.shares_base
    assert why in info.why_not


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("base_model.model.model.embed_tokens.lora_embedding_A", (2, 32)),
        (f"{LAYER}.lora_magnitude_vector", (8,)),
        ("base_model.model.lm_head.weight", (32, 8)),
        ("base_model.model.conv.lora_A.weight", (2, 3, 3, 3)),
    ],
)
def test_tensors_that_are_no_matrices_of_linear_layers(
    name: str, shape: tuple[int, ...], tmp_path: Path, model_files: Any
) -> None:
    lora = {f"{LAYER}.lora_A.weight": (2, 24), f"{LAYER}.lora_B.weight": (8, 2)}
    info = files.check_adapter(model_files.adapter(tmp_path / "a", {**lora, name: shape}), None)
    assert not info.shares_base
    assert name in info.why_not


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        (f"{LAYER}.lora_A.weight", (2, 25), "brings [2, 25]"),
        (f"{LAYER}.lora_B.weight", (9, 2), "brings [9, 2]"),
        (
            "base_model.model.model.layers.7.mlp.down_proj.lora_A.weight",
            (2, 24),
            "model.layers.7.mlp.down_proj.weight does not exist there",
        ),
        ("base_model.model.model.norm.lora_B.weight", (9, 2), "model.norm.weight has the shape [8] there"),
    ],
)
def test_an_adapter_for_another_base(
    name: str, shape: tuple[int, ...], said: str, sharded: bool, tmp_path: Path, model_files: Any
) -> None:
    lora = {f"{LAYER}.lora_A.weight": (2, 24), f"{LAYER}.lora_B.weight": (8, 2)}
    adapter = model_files.adapter(tmp_path / "a", {**lora, name: shape})
    base = (model_files.sharded if sharded else model_files.base)(tmp_path / "b")
    message = refusal(lambda: files.check_adapter(adapter, base))
    assert "another base than b" in message
    assert said in message


def test_a_transposed_layer_as_in_gpt2_fits(tmp_path: Path, model_files: Any) -> None:
    lora = {"base_model.model.h.0.c_fc.lora_A.weight": (2, 8), "base_model.model.h.0.c_fc.lora_B.weight": (24, 2)}
    base = model_files.base(tmp_path / "b", {"h.0.c_fc.weight": (8, 24)})  # Conv1D: [in, out]
    info = files.check_adapter(model_files.adapter(tmp_path / "a", lora, fan_in_fan_out=True), base)
    assert "fan_in_fan_out" in info.why_not


@pytest.mark.parametrize("embeddings", ["model.embed_tokens.weight", "embed_tokens.weight", "transformer.wte.weight"])
def test_an_output_layer_tied_to_the_embeddings(embeddings: str, tmp_path: Path, model_files: Any) -> None:
    """It lies in no file itself: its adapter was refused as another base's."""
    head = "base_model.model.lm_head"
    lora = {f"{LAYER}.lora_A.weight": (2, 24), f"{head}.lora_A.weight": (2, 8), f"{head}.lora_B.weight": (32, 2)}
    layer = LAYER.removeprefix("base_model.model.") + ".weight"
    base = model_files.base(tmp_path / "b", {embeddings: (32, 8), layer: (8, 24)})
    assert files.check_adapter(model_files.adapter(tmp_path / "a", lora), base).shares_base
    wrong = model_files.adapter(tmp_path / "c", {**lora, f"{head}.lora_B.weight": (31, 2)})
    assert "lm_head.weight has the shape [32, 8] there" in refusal(lambda: files.check_adapter(wrong, base))


def test_names_that_match_nowhere_are_left_to_the_engine(tmp_path: Path, model_files: Any) -> None:
    adapter = model_files.adapter(tmp_path / "a", {"base_model.model.other.lora_A.weight": (2, 3)})
    assert files.check_adapter(adapter, model_files.base(tmp_path / "b")).shares_base


def test_broken_adapters(tmp_path: Path, model_files: Any) -> None:
    adapter = model_files.adapter(tmp_path / "a")
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    assert "cut short" in refusal(lambda: files.check_adapter(adapter, None))
    model_files.safetensors(weights, {})
    assert "holds no tensors" in refusal(lambda: files.check_adapter(adapter, None))
    weights.unlink()
    assert "no adapter_model.safetensors" in refusal(lambda: files.check_adapter(adapter, None))
    (adapter / "adapter_config.json").unlink()
    assert "adapter_config.json does not exist" in refusal(lambda: files.check_adapter(adapter, None))
    assert "is not a folder" in refusal(lambda: files.check_adapter(tmp_path / "none", None))


def test_a_rank_that_is_no_number_is_no_traceback(tmp_path: Path, model_files: Any) -> None:
    assert files.check_adapter(model_files.adapter(tmp_path / "a", r="x"), None).rank == 0
