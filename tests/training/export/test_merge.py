"""Merging tensor by tensor gives PEFT's own bits, on every family; what PEFT alone can merge goes through it."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from playground.catalogue.files import weight_files
from playground.errors import SetupError, VariantError
from tests.playground.backends.conftest import SHAPE, tokenizer
from tests.training.export.ropes import LLAMA3
from training.export import deltas, merge, shards

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": LLAMA3},
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"sliding_window": 16, "query_pre_attn_scalar": 16},
    "gemma3_text": {"sliding_window": 16, "query_pre_attn_scalar": 16},
    "mistral": {"sliding_window": 16},
    "phi3": {"sliding_window": 16, "pad_token_id": 0},
}
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with a tiny random model; once a family, dtype and set of options."""
    made: dict[str, Path] = {}

    def make(family: str, dtype: torch.dtype = torch.bfloat16, shard: str = "1GB", **options: Any) -> Path:
        key = f"{family} {dtype} {shard} {options}"
        if key not in made:
            torch.manual_seed(3407)
            words = tokenizer()
            fields = SHAPE | FAMILIES[family] | {"vocab_size": len(words), "eos_token_id": words.eos_token_id}
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields | options), dtype=dtype)
            made[key] = tmp_path_factory.mktemp(family)
            model.save_pretrained(made[key], max_shard_size=shard)
            words.save_pretrained(made[key])
        return made[key]

    return make


@pytest.fixture
def adapter(tmp_path: Path) -> Callable[..., Path]:
    """A folder with a random LoRA adapter whose B is not zero; options go to LoraConfig."""

    def make(folder: Path, **options: Any) -> Path:
        torch.manual_seed(1)
        fields = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | options
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), LoraConfig(**fields))
        for name, parameter in model.named_parameters():
            if any(
                part in name for part in ("lora_B", "lora_embedding_A", "modules_to_save", "trainable_tokens_delta")
            ):
                torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter"

    return make


def by_peft(base: Path, adapter: Path, dtype: torch.dtype, out: Path) -> Tensors:
    """What PEFT makes of it, as transformers saves that."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True).to(dtype)
    merged.save_pretrained(out)
    return held(out)


def held(folder: Path) -> Tensors:
    return {name: tensor for file in weight_files(folder) for name, tensor in load_file(file).items()}


def differing(ours: Tensors, theirs: Tensors) -> list[str]:
    assert sorted(ours) == sorted(theirs)
    return [
        name for name in ours if ours[name].dtype != theirs[name].dtype or not torch.equal(ours[name], theirs[name])
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_bits_are_pefts(
    base: Callable[..., Path], adapter: Callable[..., Path], tmp_path: Path, family: str, tied: bool, dtype: torch.dtype
) -> None:
    folder = base(family, tie_word_embeddings=tied)
    added = adapter(folder)
    assert deltas.why_in_memory(folder, added) == ""
    merge.merge(folder, added, tmp_path / "ours", str(dtype).removeprefix("torch."))
    assert differing(held(tmp_path / "ours"), by_peft(folder, added, dtype, tmp_path / "theirs")) == []
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert loaded.dtype == dtype
    assert loaded.config.tie_word_embeddings is tied


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"rank_pattern": {"layers.1.self_attn.q_proj": 8, "down_proj": 2}, "alpha_pattern": {"v_proj": 64}},
        {"rank_pattern": {r"model\.layers\.[02]\..*": 6}, "use_rslora": True},
        {"layers_to_transform": [1], "target_modules": LINEAR},
    ],
    ids=["rslora", "patterns", "expression", "one layer"],
)
def test_the_scaling_is_pefts(
    base: Callable[..., Path], adapter: Callable[..., Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    folder = base("llama")
    added = adapter(folder, **options)
    assert deltas.why_in_memory(folder, added) == ""
    merge.merge(folder, added, tmp_path / "ours", "float32")
    assert differing(held(tmp_path / "ours"), by_peft(folder, added, torch.float32, tmp_path / "theirs")) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "whole modules"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens.base_layer"),
        ({"trainable_token_indices": [1, 2, 3]}, "single tokens"),
    ],
    ids=["dora", "modules_to_save", "embeddings", "tokens"],
)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_what_peft_alone_can_merge_answers_as_unmerged(
    base: Callable[..., Path],
    adapter: Callable[..., Path],
    tmp_path: Path,
    options: dict[str, Any],
    reason: str,
    tied: bool,
) -> None:
    folder = base("llama", tie_word_embeddings=tied)
    added = adapter(folder, **options)
    assert reason in deltas.why_in_memory(folder, added)
    merge.merge(folder, added, tmp_path / "ours", "float32")
    assert answers_agree(folder, added, tmp_path / "ours")


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_an_adapter_on_a_tied_output_layer_leaves_the_embeddings_alone(
    base: Callable[..., Path], adapter: Callable[..., Path], tmp_path: Path, tied: bool
) -> None:
    """PEFT's own merge would change both, and every prompt with it: the layers are parted, and the config says so."""
    folder, ours = base("llama", tie_word_embeddings=tied), tmp_path / "ours"
    added = adapter(folder, target_modules=["q_proj", "lm_head"])
    ours.mkdir()
    merge._merge_in_memory(folder, added, ours, "float32")
    assert answers_agree(folder, added, ours)
    assert json.loads((ours / "config.json").read_text())["tie_word_embeddings"] is False
    name = "model.embed_tokens.weight"
    assert torch.equal(held(ours)[name], held(folder)[name].float())


def answers_agree(base: Path, adapter: Path, merged: Path) -> bool:
    ids = torch.arange(40)[None]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    plain = model(ids).logits.detach()
    expected = PeftModel.from_pretrained(model, str(adapter))(ids).logits
    found = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)(ids).logits
    assert not torch.allclose(plain, expected, atol=1e-2)
    return torch.allclose(found, expected, atol=2e-4 * float(expected.abs().max()))


def test_shards_keep_their_names_and_their_index(
    base: Callable[..., Path], adapter: Callable[..., Path], tmp_path: Path
) -> None:
    folder = base("qwen3", shard="60KB")
    added = adapter(folder)
    assert len(weight_files(folder)) > 3
    merge.merge(folder, added, tmp_path / "ours", "float16")
    ours, theirs = (json.loads((at / shards.INDEX).read_text()) for at in (tmp_path / "ours", folder))
    assert ours["weight_map"] == theirs["weight_map"]
    assert ours["metadata"]["total_size"] == sum(t.nbytes for t in held(tmp_path / "ours").values())
    assert differing(held(tmp_path / "ours"), by_peft(folder, added, torch.float16, tmp_path / "theirs")) == []


def test_rows_in_batches_have_the_bits_of_the_whole(
    base: Callable[..., Path], adapter: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = base("llama")
    added = adapter(folder)
    monkeypatch.setattr(shards, "ROWS", 32)
    merge.merge(folder, added, tmp_path / "ours", "bfloat16")
    assert differing(held(tmp_path / "ours"), by_peft(folder, added, torch.bfloat16, tmp_path / "theirs")) == []


def test_a_float32_base_is_rounded_once(
    base: Callable[..., Path], adapter: Callable[..., Path], tmp_path: Path
) -> None:
    folder = base("llama", torch.float32)
    added = adapter(folder)
    merge.merge(folder, added, tmp_path / "ours", "bfloat16")
    assert differing(held(tmp_path / "ours"), by_peft(folder, added, torch.bfloat16, tmp_path / "theirs")) == []


def test_what_is_not_a_float_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    kept = {
        "a": torch.arange(5, dtype=torch.uint8),
        "b": torch.ones(3, 2),
        "c": torch.tensor(7),
        "d": torch.tensor(2.5),
    }
    save_file(kept, tmp_path / "in" / "model.safetensors")
    shards.rewrite(tmp_path / "in", tmp_path / "out", "float16", lambda name, rows, begin: rows)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        "a": torch.uint8,
        "b": torch.float16,
        "c": torch.int64,
        "d": torch.float16,
    }
    assert all(torch.equal(found[name].double(), kept[name].double()) for name in kept)


def test_values_beyond_float16_are_refused(
    base: Callable[..., Path], adapter: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(base("llama"), tmp_path / "base")
    added = adapter(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = 1e5
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(VariantError, match=r"model\.norm\.weight holds values beyond what float16 can hold") as caught:
        merge.merge(folder, added, tmp_path / "ours", "float16")
    assert caught.value.hint == "Export with --dtype bf16."
    assert not (tmp_path / "ours").exists()
    merge.merge(folder, added, tmp_path / "ours", "bfloat16")


def test_an_adapter_that_is_no_numbers_is_refused(
    base: Callable[..., Path], adapter: Callable[..., Path], tmp_path: Path
) -> None:
    folder = base("llama")
    added = adapter(folder)
    tensors = load_file(added / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, added / "adapter_model.safetensors", {"format": "pt"})
    for dtype in ("bfloat16", "float32"):
        with pytest.raises(VariantError, match="comes out as infinity or no number at all"):
            merge.merge(folder, added, tmp_path / "ours", dtype)


def test_half_an_adapter_and_another_rank_are_refused(
    base: Callable[..., Path], adapter: Callable[..., Path], tmp_path: Path
) -> None:
    folder = base("llama")
    added = adapter(folder)
    config = added / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 8'))
    with pytest.raises(VariantError, match=r"says rank 8 for model\.layers\.0\S+ and holds rank 4"):
        merge.merge(folder, added, tmp_path / "ours")
    tensors = load_file(added / "adapter_model.safetensors")
    del tensors["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"]
    save_file(tensors, added / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(VariantError, match=r"one half of a pair alone: model\.layers\.1\.mlp\.up_proj"):
        merge.merge(folder, added, tmp_path / "ours")


def test_a_named_format_becomes_the_chat_template(
    base: Callable[..., Path], adapter: Callable[..., Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(base("llama"), tmp_path / "base")
    file = folder / "tokenizer_config.json"  # where templates stood before they had a file of their own
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": "of the base"}))
    merge.merge(folder, adapter(folder), tmp_path / "ours", "float16", "alpaca")
    assert "chat_template" not in json.loads((tmp_path / "ours" / "tokenizer_config.json").read_text())
    from transformers import AutoTokenizer

    said = AutoTokenizer.from_pretrained(tmp_path / "ours").apply_chat_template(
        [{"role": "user", "content": "안녕"}], tokenize=False, add_generation_prompt=True
    )
    assert said.endswith("### Instruction:\n안녕\n\n### Response:\n")


@pytest.mark.parametrize("method", ["gptq", "fp8"])
def test_other_quantized_bases_are_refused(
    base: Callable[..., Path], adapter: Callable[..., Path], tmp_path: Path, method: str
) -> None:
    folder = shutil.copytree(base("mistral"), tmp_path / "base")
    added = adapter(folder)
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": {"quant_method": method}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(VariantError, match=rf"is quantized \({method}\)"):
        merge.merge(folder, added, tmp_path / "ours")


def test_a_4bit_base_needs_bitsandbytes(packed: Path, tmp_path: Path) -> None:
    if find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is here")
    with pytest.raises(SetupError, match="the package bitsandbytes, which unpacks it, is not installed"):
        shards.rewrite(packed, tmp_path, "float16", lambda name, rows, begin: rows)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A layer as bitsandbytes saves it in 4 bits; its values do not matter."""
    folder = tmp_path / "packed"
    folder.mkdir()
    state = json.dumps({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [64, 32]}).encode()
    tensors = {
        "norm.weight": torch.ones(32, dtype=torch.bfloat16),
        "proj.weight": torch.zeros(1024, 1, dtype=torch.uint8),
        "proj.weight.absmax": torch.ones(32),
        "proj.weight.quant_map": torch.linspace(-1, 1, 16),
        "proj.weight.quant_state.bitsandbytes__nf4": torch.tensor(list(state), dtype=torch.uint8),
    }
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_4bit_bases_size_is_that_of_what_comes_out(packed: Path) -> None:
    assert shards.bytes_16bit(packed) == (32 + 64 * 32) * 2
