"""`madang export` from the command line to the catalogue: played quickly, and once for real on the embedded model."""

import json
from pathlib import Path

import pytest

from playground.catalogue.variants import Catalogue
from playground.cli.context import Program
from playground.settings import Settings
from tests.training.conftest import Write
from tests.training.export.conftest import Verdicts, madang
from tests.training.trained import trainer
from training.export import exports


def test_it_says_where_what_and_how_it_went(
    settings: Settings,
    source: str,
    played: list[str],
    verdicts: Verdicts,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = tmp_path / "progress.json"
    assert madang(settings, "export", source, "--to", "merged,gguf:q4_k_m", "--progress", str(progress)) == 0
    (made,) = exports.listed(settings)
    shown = capsys.readouterr()
    assert str(made.folder) in shown.err
    assert "at its peak" in shown.err
    for words in ("Q4_K_M.gguf", "merged", "pass", "tiny:tuned:Q4_K_M", "tiny:tuned:merged"):
        assert words in shown.out
    assert json.loads(progress.read_text()) == {"fraction": 1.0, "stage": "Ready", "export": str(made.folder)}


def test_parity_that_fails_is_the_exit_code(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts.say = {"Q4_K_M": "fail"}
    assert madang(settings, "export", source, "--to", "gguf:q4_k_m") == 1
    said = capsys.readouterr().err
    assert "Q4_K_M: fail (weights)" in said
    assert "Looked." in said
    assert "--force adds it all the same" in said
    assert f"{source}:Q4_K_M" not in Catalogue.load(settings).names
    assert madang(settings, "export", source, "--to", "gguf:q4_k_m", "--force") == 0
    assert f"{source}:Q4_K_M" in Catalogue.load(settings).names


def test_without_parity_nobody_is_asked(settings: Settings, source: str, played: list[str], verdicts: Verdicts) -> None:
    assert madang(settings, "export", source, "--no-parity") == 0
    assert verdicts.asked == []


def test_a_folder_a_name_and_a_type_of_ones_own(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts, tmp_path: Path
) -> None:
    arguments = ["--to", "merged,gguf:q8_0", "--out", str(tmp_path / "out"), "--name", "mine", "--dtype", "bf16"]
    assert madang(settings, "export", source, *arguments, "--keep-f16") == 0
    assert {"merged", "mine-F16.gguf", "mine-Q8_0.gguf"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert json.loads((tmp_path / "out" / "merged" / "config.json").read_text())["dtype"] == "bfloat16"
    assert exports.listed(settings) == []


def test_embedded_models_are_made_first(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def prepare(ours: Program, names: list[str]) -> None:
        asked.append(names)

    monkeypatch.setattr(Program, "prepare_embedded", prepare)
    assert madang(settings, "export", "smollm2:demo", "--to", "adapter") == 2  # they are not there, in this test
    assert asked == [["smollm2:demo"]]


@pytest.mark.long
def test_a_run_is_a_source(settings: Settings, recipe: Write, played: list[str], verdicts: Verdicts) -> None:
    run = trainer(settings, Path("nowhere"))(str(recipe()))
    assert madang(settings, "export", run.name, "--to", "adapter,merged,gguf:q4_k_m") == 0
    (made,) = exports.listed(settings)
    assert made.asked().run == run.name
    assert made.asked().variant == run.state().variant
    assert (made.folder / "adapter" / "adapter_model.safetensors").read_bytes() == (
        run.adapter / "adapter_model.safetensors"
    ).read_bytes()
    assert f"{run.state().variant}:Q4_K_M" in Catalogue.load(settings).names
    assert madang(settings, "export", run.state().variant, "--to", "adapter") == 0


@pytest.mark.long
@pytest.mark.models
def test_the_embedded_adapter_goes_all_the_way(demo_models: Path, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    settings.data.mkdir()
    settings.models_dir.symlink_to(demo_models, target_is_directory=True)
    assert madang(settings, "export", "smollm2:demo", "--to", "adapter,merged,gguf:q4_k_m,q8_0", "--no-parity") == 0
    names = Catalogue.load(settings).names
    assert {"smollm2:demo:merged", "smollm2:demo:Q4_K_M-2", "smollm2:demo:Q8_0"} <= set(names)
    (made,) = exports.listed(settings)
    assert "SYSTEM" in (made.folder / "Modelfile").read_text()
    for name in ("smollm2:demo:merged", "smollm2:demo:Q8_0"):
        assert madang(settings, "models", "check", name) == 0
    from gguf import GGUFReader

    reader = GGUFReader(made.folder / "SmolLM2-135M-Instruct-demo-Q8_0.gguf")
    assert reader.fields["general.name"].contents() == "SmolLM2-135M-Instruct-demo"
    assert "<|im_start|>" in reader.fields["tokenizer.chat_template"].contents()
