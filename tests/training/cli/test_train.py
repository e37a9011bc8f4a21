"""`madang train` from the command line to the catalogue, with a tiny model and a real trainer process."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import app
from playground.catalogue.variants import Catalogue
from playground.settings import Settings
from tests.stored import stored
from tests.training.conftest import Write
from training.cli import train
from training.run import runs


def madang(settings: Settings, *arguments: str) -> int:
    """The exit code."""
    try:
        return app.main(["--data", str(settings.data), *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def test_a_dry_run_shows_everything_and_writes_nothing(
    settings: Settings, recipe: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert madang(settings, "train", str(recipe()), "--dry-run", "--set", "trainer.max_steps=20") == 0
    shown = capsys.readouterr().out
    for said in (
        "max_steps: 20",
        "11,136 of 140,736 parameters",
        "Data: 40 rows (koalpaca)",
        "RAM: about",
        "DISK: about",
    ):
        assert said in shown
    assert "Row 1 as the model sees it" in shown
    assert "In Korea; it is stop 0 of the trip." in shown
    assert not runs.folder(settings).exists()


def test_a_dry_run_needs_no_weights(
    settings: Settings, recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe()
    whole = Path(yaml.safe_load(path.read_text(encoding="utf-8"))["model"])
    bare = shutil.copytree(whole, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    dry = ("train", str(path), "--dry-run", "--json", "--set", f"model={bare}")
    assert madang(settings, *dry) == 0
    told = json.loads(capsys.readouterr().out)
    assert madang(settings, "train", str(path), "--dry-run", "--json") == 0
    here = json.loads(capsys.readouterr().out)
    assert told["parameters"] == here["parameters"]
    assert (here["download"], told["download"]["estimated"]) == (None, True)
    assert told["download"]["size"] == pytest.approx((whole / "model.safetensors").stat().st_size, rel=0.03)
    disk, less = ([one["need"] for one in row["memory"] if one["place"] == "disk"][0] for row in (told, here))
    assert disk - less == told["download"]["size"]
    assert madang(settings, "train", str(path), "--dry-run", "--set", f"model={bare}") == 0
    assert f"to come into {bare}" in capsys.readouterr().out
    assert madang(settings, "train", str(path), "--set", f"model={bare}") == 2
    assert "holds no model.safetensors" in capsys.readouterr().err


@pytest.mark.slow
def test_from_recipe_to_catalogue_with_a_stop_and_a_resume(
    settings: Settings,
    recipe: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, progress = str(recipe(kobest=True, trainer={"max_steps": 30})), tmp_path / "progress.json"
    scored: list[list[str]] = []

    def score(settings: Settings, names: list[str]) -> bool:
        scored.append(names)
        return True

    monkeypatch.setattr(app, "score_quick", score)
    asked = iter([False] * 3 + [True] * 1000)
    monkeypatch.setattr(train, "_watched", lambda live, flag: live.refresh() or (seen() and next(asked)))

    def seen() -> bool:
        return any(run.metrics() for run in runs.listed(settings))

    assert madang(settings, "train", path, "--progress", str(progress)) == 1
    (run,) = runs.listed(settings)
    assert run.state().status == "stopped"
    assert run.whole_checkpoints()
    assert json.loads(progress.read_text(encoding="utf-8"))["run"] == run.name
    monkeypatch.undo()
    monkeypatch.setattr(app, "score_quick", score)
    assert madang(settings, "train", "--resume", "--progress", str(progress)) == 0
    assert run.state().status == "done"
    name = run.state().variant
    assert name.endswith(":trip")
    catalogue = Catalogue.load(settings)
    assert stored(catalogue, name).path == run.adapter
    base = catalogue.base_of(catalogue.get(name))
    assert base is not None
    assert base.path == Path(run.model().folder)
    assert json.loads(progress.read_text(encoding="utf-8"))["variant"] == name
    assert scored == [[run.model().name], [run.model().name], [base.name, name]]
    capsys.readouterr()
    assert madang(settings, "runs") == 0
    assert "30/30" in capsys.readouterr().out
    assert madang(settings, "models", "check", name) == 0


@pytest.mark.slow
def test_rows_that_call_tools_are_trained_and_their_results_are_not(
    settings: Settings, recipe: Write, tmp_path: Path
) -> None:
    from tests.training.data.test_tools import HERMES, ONE, TOOL
    from training.data import tokenized
    from training.data.encoder import Encoder

    source = yaml.safe_load(recipe().read_text(encoding="utf-8"))["model"]
    folder = shutil.copytree(source, tmp_path / "calls")
    (folder / "chat_template.jinja").write_text(HERMES, encoding="utf-8")
    path = recipe(rows=[{"messages": ONE, "tools": json.dumps([TOOL])}] * 4, model=str(folder))
    assert madang(settings, "train", str(path), "--set", "trainer.max_steps=2", "--set", "trainer.packing=true") == 0
    (run,) = runs.listed(settings)
    assert run.state().status == "done"
    labels = tokenized.read(run.data / "train.arrow").to_pylist()[0]["labels"]
    learnt = Encoder(folder).tokenizer.decode([one for one in labels if one >= 0], skip_special_tokens=False)
    assert '"arguments": {"city": "서울"}' in learnt
    assert learnt.count("맑") == 1


def test_a_model_without_a_template_takes_alpacas_format_along(
    settings: Settings, recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.training.trained import begin
    from training.run import registering

    path = recipe()
    row = yaml.safe_load(path.read_text(encoding="utf-8"))
    bare = tmp_path / "bare"
    shutil.copytree(row["model"], bare)
    config = json.loads((bare / "tokenizer_config.json").read_text(encoding="utf-8"))
    config.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    run = begin(settings, str(path), f"model={bare}")
    assert run.model().prompt_format == "alpaca"
    from training.data import tokenized
    from training.data.encoder import Encoder

    first = tokenized.read(run.data / "train.arrow").to_pylist()[0]
    text = Encoder(bare).tokenizer.decode(first["input_ids"], skip_special_tokens=False)
    assert text.startswith("Below is an instruction that describes a task.")
    assert text.endswith("### Response:\nIn Korea; it is stop 0 of the trip.<|im_end|>")
    run.adapter.mkdir()
    name = registering.register(settings, run)
    catalogue = Catalogue.load(settings)
    assert catalogue.prompt_format(catalogue.get(name)) == "alpaca"
    assert registering.register(settings, run) == name
