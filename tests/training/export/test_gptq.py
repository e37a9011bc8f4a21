"""GPTQ: what is refused before it begins, what it calibrates on, and, with the package, a model that answers."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from playground.catalogue.files import read_json
from playground.errors import ConfigError, SetupError
from playground.measure.drift import texts
from training.demo.examples import train_conversations
from training.export import gptq
from training.export.gptq import group_for, own_rows, quantize, rows_of, widths

needs_package = pytest.mark.skipif(
    find_spec("llmcompressor") is None, reason="the extra gptq (llmcompressor) is not installed"
)


@pytest.mark.parametrize(
    ("found", "asked", "size"),
    [
        ([4096, 14336], None, 128),
        ([576, 1536], None, 64),
        ([96, 64], None, 32),
        ([576], 64, 64),
        ([576], 32, 32),
        ([576], 192, 192),
    ],
)
def test_the_largest_group_that_divides_every_width(found: list[int], asked: int | None, size: int) -> None:
    assert group_for(found, asked) == size


def test_a_group_that_does_not_divide_is_named_with_one_that_does() -> None:
    with pytest.raises(ConfigError, match="group of 128 does not divide 576") as caught:
        group_for([1536, 576], 128)
    assert "group of 64" in caught.value.hint
    with pytest.raises(ConfigError, match="group of 32 does not divide 100") as caught:
        group_for([100, 128])
    assert "gguf:q8_0" in caught.value.hint
    with pytest.raises(ConfigError):
        group_for([576], 0)


def test_widths_are_those_of_linear_layers(tmp_path: Path) -> None:
    shapes = {
        "model.embed_tokens.weight": (7, 24),
        "lm_head.weight": (7, 24),
        "model.layers.0.self_attn.q_proj.weight": (8, 64),
        "model.layers.0.self_attn.q_proj.bias": (8,),
        "model.layers.0.self_attn.q_norm.weight": (8,),
        "model.layers.0.mlp.down_proj.weight": (64, 96),
        "model.norm.weight": (64,),
    }
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "model.safetensors")
    assert sorted(widths(tmp_path)) == [64, 96]


def test_widths_are_those_of_the_real_layers(tiny: Callable[[str], Path]) -> None:
    from transformers import AutoModelForCausalLM

    folder = tiny("llama")
    model = AutoModelForCausalLM.from_pretrained(folder)
    linear = [part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and name != "lm_head"]
    assert sorted(widths(folder)) == sorted(part.in_features for part in linear)


def test_without_the_package_it_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gptq, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match="llmcompressor") as caught:
        quantize(tmp_path, tmp_path / "out", None)
    assert "EXTRAS=gptq" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def _arrow(path: Path, columns: dict[str, list[list[int]]]) -> Path:
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def test_rows_are_the_runs_spread_and_cut(tmp_path: Path) -> None:
    rows = [[number] * (3000 if number == 0 else 5) for number in range(512)]
    found = rows_of(_arrow(tmp_path / "a.arrow", {"input_ids": rows, "labels": rows}))
    assert [ids[0] for ids in found] == list(range(0, 512, 4))
    assert len(found[0]) == gptq.MAX_TOKENS


def test_of_few_rows_all_are_taken_and_empty_ones_left_out(tmp_path: Path) -> None:
    assert rows_of(_arrow(tmp_path / "a.arrow", {"input_ids": [[1], [], [2]]})) == [[1], [2]]


def test_of_a_preference_prompt_and_chosen_answer(tmp_path: Path) -> None:
    columns = {"prompt_ids": [[1, 2]], "chosen_ids": [[3]], "rejected_ids": [[4]]}
    assert rows_of(_arrow(tmp_path / "a.arrow", columns)) == [[1, 2, 3]]


def test_without_rows_our_own_text_which_is_not_the_judges(tiny: Callable[[str], Path]) -> None:
    rows = own_rows(tiny("llama"))
    assert len(rows) == gptq.ROWS
    judged = {line for text in texts() for line in text.splitlines()}
    ours = {line for turns in train_conversations() for turn in turns for line in turn["content"].splitlines()}
    assert not judged & ours


@pytest.mark.long
@needs_package
@pytest.mark.parametrize("with_rows", [True, False], ids=["rows", "own text"])
def test_a_tiny_model_goes_all_the_way(tiny: Callable[[str], Path], tmp_path: Path, with_rows: bool) -> None:
    folder, out = tiny("llama"), tmp_path / "tiny-gptq"
    rows = _arrow(tmp_path / "a.arrow", {"input_ids": [[1, 2, 3, 4] * 8] * 8}) if with_rows else None
    told: list[float] = []
    quantize(folder, out, rows, progress=lambda fraction, words: told.append(fraction))
    _answers(folder, out, group_for(widths(folder)))
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")]


@pytest.mark.long
@needs_package
def test_what_fails_leaves_nothing(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    from playground.errors import MadangError

    (tmp_path / "a.arrow").write_text("no rows")
    with pytest.raises(MadangError, match="Quantizing with GPTQ failed"):
        quantize(tiny("llama"), tmp_path / "out", tmp_path / "a.arrow")
    assert [path.name for path in tmp_path.iterdir()] == ["a.arrow"]


@pytest.mark.long
@pytest.mark.models
@needs_package
@pytest.mark.timeout(1800)
def test_the_embedded_model_still_answers(demo_models: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, out = demo_models / "smollm2", tmp_path / "smollm2-gptq"
    quantize(source, out, None)
    _answers(source, out, 64)
    words, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    ids = words("The capital of France is", return_tensors="pt")
    assert "Paris" in words.decode(model.generate(**ids, max_new_tokens=12, do_sample=False)[0])


def _answers(source: Path, out: Path, group: int) -> None:
    """Plain transformers loads it, 4 bits are what it holds, and the tokenizer's bytes are the source's."""
    from transformers import AutoModelForCausalLM

    config = read_json(out / "config.json")["quantization_config"]
    assert config["quant_method"] == "compressed-tensors"
    assert config["config_groups"]["group_0"]["weights"]["group_size"] == group
    assert config["config_groups"]["group_0"]["weights"]["num_bits"] == 4
    assert "lm_head" in config["ignore"]
    assert not (out / "recipe.yaml").exists()
    assert str(source) not in json.dumps(read_json(out / "config.json"))
    for file in source.glob("tokenizer*"):
        assert (out / file.name).read_bytes() == file.read_bytes()
    model = AutoModelForCausalLM.from_pretrained(out)
    logits = model(torch.arange(1, 9)[None]).logits
    assert torch.isfinite(logits).all()
