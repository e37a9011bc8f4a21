"""Bases that are quantized already: read where the machine can, else refused with what to use instead."""

from pathlib import Path
from typing import Any

import pytest

from playground.catalogue import files, quantized
from playground.errors import VariantError
from playground.system import hardware


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "vram_total", lambda: 0)
    monkeypatch.setattr(hardware, "capability", lambda: 0.0)
    monkeypatch.setattr(quantized, "_installed", lambda package: False)


def refusal(folder: Path) -> VariantError:
    with pytest.raises(VariantError) as caught:
        files.check_loadable(folder)
    return caught.value


def packed(model_files: Any, folder: Path, **config: Any) -> Path:
    made: Path = model_files.base(folder, quantization_config=config)
    return made


def test_the_table_is_that_of_transformers() -> None:
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    theirs = {name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZER_MAPPING}
    assert theirs - {"gguf"} == set(quantized.METHODS) | set(quantized.NEVER)


@pytest.mark.parametrize(
    ("method", "package", "hint"),
    [
        ("bitsandbytes", "bitsandbytes", "`make install EXTRAS=cuda` adds it, or `pip install bitsandbytes`"),
        ("compressed-tensors", "compressed-tensors", "EXTRAS=gptq"),
        ("gptq", "gptqmodel and optimum", "`pip install gptqmodel optimum`"),
        ("awq", "gptqmodel", "Use the unquantized original, owner/plain, or a GGUF build of it."),
    ],
)
def test_a_package_that_is_missing_is_named(
    method: str, package: str, hint: str, tmp_path: Path, model_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = packed(model_files, tmp_path / "b", quant_method=method)
    (folder / "README.md").write_text("---\nbase_model:\n- owner/plain\nlicense: mit\n---\n# Packed", encoding="utf-8")
    error = refusal(folder)
    assert error.message.endswith(f"what reads it is not installed: {package}.")
    assert hint in error.hint
    assert "owner/plain" in error.hint
    monkeypatch.setattr(quantized, "_installed", lambda package: True)
    files.check_loadable(folder)


@pytest.mark.parametrize("method", ["fbgemm_fp8", "vptq", "higgs"])
def test_what_runs_on_a_card_alone(
    method: str, tmp_path: Path, model_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = packed(model_files, tmp_path / "b", quant_method=method)
    monkeypatch.setattr(quantized, "_installed", lambda package: True)
    assert "an NVIDIA GPU alone" in refusal(folder).message
    monkeypatch.setattr(hardware, "vram_total", lambda: 1)
    files.check_loadable(folder)


@pytest.mark.parametrize("method", ["fp8", "mxfp4", "bitnet"])
def test_what_transformers_unpacks_by_itself_passes(method: str, tmp_path: Path, model_files: Any) -> None:
    files.check_loadable(packed(model_files, tmp_path / "b", quant_method=method))


def test_what_is_computed_on_new_cards_needs_its_kernels_there(
    tmp_path: Path, model_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = packed(model_files, tmp_path / "b", quant_method="fp8")
    for capability, runs in ((0.0, True), (8.0, True), (8.9, False), (9.0, False)):
        monkeypatch.setattr(hardware, "capability", lambda: capability)  # noqa: B023
        if runs:
            files.check_loadable(folder)
        else:
            assert "kernels" in refusal(folder).message


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"quantization_config": {"quant_method": "exl3", "bits": 4}}, "format exl3: transformers does not read it"),
        ({"quantization_config": {"quant_method": "modelopt"}}, "format modelopt"),
        ({"quantization_config": {"quant_method": "nvfp4"}}, "format nvfp4"),
        ({"quantization_config": {"bits": 4, "group_size": 64}}, "names no method"),
        ({"quantization": {"bits": 4, "group_size": 64}}, "names no method"),
        ({"quantization_config": "yes"}, "names no method"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, "format awq"),
        ({"quantization_config": {"load_in_8bit": True}}, "format bitsandbytes"),
    ],
)
def test_what_transformers_would_load_as_if_it_were_plain(
    config: dict[str, Any], said: str, tmp_path: Path, model_files: Any
) -> None:
    """Of a format it does not know, transformers takes the bytes for weights and answers nonsense."""
    error = refusal(model_files.base(tmp_path / "b", _name_or_path="owner/other", **config))
    assert said in error.message
    assert "owner/other" in error.hint


def test_packed_weights_that_no_config_speaks_of(tmp_path: Path, model_files: Any) -> None:
    folder = model_files.base(tmp_path / "b", {"model.layers.0.mlp.down_proj.qweight": (8, 8)}, "U8")
    assert "is quantized (model.layers.0.mlp.down_proj.qweight)" in refusal(folder).message


@pytest.mark.parametrize(
    "card",
    [
        "",
        "---\n- a list\n---",
        "---\n: [\n---",
        "---\nbase_model: 3\n---",
        "# no front matter",
        "---\nbase_model: ../x",
    ],
)
def test_cards_that_name_nothing(card: str, tmp_path: Path, model_files: Any) -> None:
    folder = packed(model_files, tmp_path / "b", quant_method="awq")
    (folder / "README.md").write_text(card, encoding="utf-8")
    assert refusal(folder).hint.startswith("Use the unquantized original, or a GGUF build of it.")
