"""An export's folder: what is built once is not built again, nothing incomplete has a final name, verdicts decide."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from playground.catalogue import gguf_files
from playground.catalogue.files import safetensors_header
from playground.catalogue.variants import Base, Catalogue, Gguf
from playground.errors import ConfigError, MadangError, SetupError, UnknownNameError
from playground.settings import Settings
from tests.places import ROOT
from tests.stored import stored
from tests.training.export.conftest import Verdicts, tree
from training.export import exports, making, plan, preparing
from training.export import gguf as ggufs
from training.export.making import Made
from training.export.preparing import Options


def export(settings: Settings, source: str, to: str, **options: object) -> Made:
    prepared = preparing.prepare(settings, source, plan.parse(to), Options(**options))  # type: ignore[arg-type]
    return making.make(settings, prepared)


def test_everything_is_built_judged_and_registered(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts
) -> None:
    outcome = export(settings, source, "adapter,merged,gguf:q4_k_m,q8_0")
    folder = outcome.export.folder
    stem = outcome.export.asked().stem
    assert folder.parent == settings.data / "exports"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            ".lock",
            "Modelfile",
            "Modelfile.Q8_0",
            "README.md",
            "adapter",
            "events.jsonl",
            "export.json",
            "merged",
            "parity.json",
            "state.json",
            f"{stem}-Q4_K_M.gguf",
            f"{stem}-Q8_0.gguf",
        ]
    )
    assert played == ["Merging the adapter into the base", "convert f16", "quantize q4_k_m", "quantize q8_0"]
    assert verdicts.asked == [
        (f"{source}:merged", "merged", None),
        (f"{source}:F16", "F16", None),
        (f"{source}:Q4_K_M", "Q4_K_M", f"{source}:F16"),
        (f"{source}:Q8_0", "Q8_0", f"{source}:F16"),
    ]
    catalogue = Catalogue.load(settings)
    built = catalogue.get(f"{source}:Q4_K_M")
    assert isinstance(built, Gguf)
    assert (built.base, built.path) == (source, folder / f"{stem}-Q4_K_M.gguf")
    assert isinstance(catalogue.get(f"{source}:merged"), Base)
    assert f"{source}:F16" not in catalogue.names
    state = outcome.export.state()
    assert (state.status, state.fraction) == ("done", 1.0)
    assert state.variants == (f"{source}:merged", f"{source}:Q4_K_M", f"{source}:Q8_0")


@pytest.mark.parametrize("to", ["gguf:q4_k_m,f16", "gguf:q4_k_m"])
def test_the_f16_file_stays_where_it_is_asked_for(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts, to: str
) -> None:
    outcome = export(settings, source, to, keep_f16=to.endswith("m"))
    assert (outcome.export.folder / f"{outcome.export.asked().stem}-F16.gguf").exists()
    assert played.count("convert f16") == 1
    assert f"{source}:F16" in Catalogue.load(settings).names


def test_levels_of_the_converter_need_no_f16(settings: Settings, source: str, played: list[str]) -> None:
    export(settings, source, "gguf:bf16,f32", parity=False)
    assert played == ["Merging the adapter into the base", "convert bf16", "convert f32"]


def test_what_failed_does_not_join_unless_forced(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts
) -> None:
    verdicts.say = {"Q4_K_M": "fail", "Q8_0": "warn"}
    outcome = export(settings, source, "gguf:q4_k_m,q8_0")
    assert outcome.failed == ["Q4_K_M"]
    assert outcome.variants == {"Q8_0": f"{source}:Q8_0"}
    assert f"{source}:Q4_K_M" not in Catalogue.load(settings).names
    state = outcome.export.state()
    assert (state.status, state.outcome, state.message) == ("failed", "parity", "Parity failed: Q4_K_M.")
    done = len(played)
    forced = export(settings, source, "gguf:q4_k_m,q8_0", force=True)
    assert forced.export.folder == outcome.export.folder
    assert len(played) == done  # goes on where it was: nothing is built twice
    assert forced.variants["Q4_K_M"] == f"{source}:Q4_K_M"
    assert forced.export.state().status == "done"


def test_nothing_is_quantized_from_an_f16_that_failed(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts
) -> None:
    verdicts.say = {"F16": "fail"}
    outcome = export(settings, source, "gguf:q4_k_m,q8_0")
    assert played[-1] == "convert f16"
    assert outcome.failed == ["F16"]
    assert outcome.variants == {}


def test_stopped_midway_it_goes_on_with_what_is_missing(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ggufs.quantize

    def stopped(gguf: Path, out: Path, level: str, imatrix: Path | None) -> None:
        if level == "q8_0":
            raise KeyboardInterrupt
        real(gguf, out, level, imatrix)

    monkeypatch.setattr(ggufs, "quantize", stopped)
    with pytest.raises(KeyboardInterrupt):
        export(settings, source, "gguf:q4_k_m,q8_0")
    (begun,) = exports.listed(settings)
    assert (begun.state().message, begun.state().outcome) == ("Stopped.", "stopped")
    monkeypatch.setattr(ggufs, "quantize", real)
    asked = len(verdicts.asked)
    outcome = export(settings, source, "gguf:q4_k_m,q8_0")
    assert outcome.export == begun
    assert played == ["Merging the adapter into the base", "convert f16", "quantize q4_k_m", "quantize q8_0"]
    assert len(verdicts.asked) == asked + 1
    assert not begun.work.exists()
    assert export(settings, source, "gguf:q4_k_m,q8_0").export != begun  # that one is done: a new one


def test_an_error_midway_keeps_what_is_whole_and_nothing_else(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise MadangError("Quantizing failed.", "Look.")

    monkeypatch.setattr(ggufs, "quantize", broken)
    before = tree(settings.data)
    with pytest.raises(MadangError):
        export(settings, source, "gguf:q4_k_m")
    assert [row for row in tree(settings.data) if row not in before] == ["exports "]
    with pytest.raises(MadangError):
        export(settings, source, "adapter,gguf:q4_k_m")
    (left,) = exports.listed(settings)
    assert not left.work.exists()
    assert (left.folder / "adapter" / "adapter_config.json").exists()
    assert (left.state().status, left.state().message, left.state().hint) == ("failed", "Quantizing failed.", "Look.")


def test_a_changed_adapter_is_another_export(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts, tmp_path: Path
) -> None:
    verdicts.say = {"Q8_0": "fail"}
    out = tmp_path / "out"
    export(settings, source, "gguf:q8_0", out=out)
    file = stored(Catalogue.load(settings), source).path / "adapter_config.json"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(ConfigError, match=r"Q8_0\.gguf exists already"):
        export(settings, source, "gguf:q8_0", out=out)
    done = len(played)
    verdicts.say = {}
    export(settings, source, "gguf:q8_0", out=out, force=True)
    assert played[done:] == played[:done]


def test_further_levels_join_a_folder(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(settings, source, "gguf:q8_0", out=out, name="mine")
    export(settings, source, "gguf:q4_k_m", out=out, name="mine")
    assert sorted(path.name for path in out.glob("*.gguf")) == ["mine-Q4_K_M.gguf", "mine-Q8_0.gguf"]


def test_two_processes_do_not_build_one_export(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts, tmp_path: Path
) -> None:
    verdicts.say = {"Q8_0": "fail"}
    held = export(settings, source, "gguf:q8_0", out=tmp_path / "out").export
    with held.locked(), pytest.raises(SetupError, match="is being made by another process"):
        export(settings, source, "gguf:q8_0", out=tmp_path / "out")
    with held.locked(), pytest.raises(SetupError, match="is being made by another process"):
        export(settings, source, "gguf:q4_k_m", out=tmp_path / "out")


def test_what_trained_in_4_bits_is_said(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = settings.catalogue
    catalogue.write_text(catalogue.read_text().replace('kind = "base"', 'kind = "base"\nload_in_4bit = true'))
    outcome = export(settings, source, "merged")
    notes = [event.message for event in outcome.export.events() if event.kind == "note"]
    assert len(notes) == 1
    assert notes[0].startswith("Trained on tiny in 4 bits; merged into its original weights in ")


def test_exports_are_found_by_name_and_folder(
    settings: Settings, source: str, played: list[str], verdicts: Verdicts
) -> None:
    made = export(settings, source, "adapter").export
    assert exports.find(settings, made.name) == exports.find(settings, str(made.folder)) == made
    with pytest.raises(UnknownNameError) as caught:
        exports.find(settings, made.name[:-1])
    assert made.name in caught.value.hint


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"status": "failed", "message": "Stopped."}, "stopped"),
        ({"status": "failed", "message": "Parity failed: Q4_K_M."}, "parity"),
        ({"status": "failed", "message": "No room."}, "error"),
        ({"status": "done"}, "done"),
        ({"status": "running"}, ""),
        ({"status": "failed", "outcome": "error", "message": "Stopped."}, "error"),
    ],
)
def test_how_it_ended_is_read_from_files_of_before_it_had_a_field(
    tmp_path: Path, row: dict[str, str], outcome: str
) -> None:
    (tmp_path / "state.json").write_text(json.dumps(row))
    assert exports.Export(tmp_path).state().outcome == outcome


def test_an_older_verdict_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    row = {"verdict": "fail", "causes": ["merge"], "lines": ["그대로."], "numbers": {"files": {"seconds": 0.1}}}
    text = json.dumps({"F16": row}, ensure_ascii=False, indent=1)
    (tmp_path / "parity.json").write_text(text, encoding="utf-8")
    export = exports.Export(tmp_path)
    verdict = export.verdicts()["F16"]
    assert (verdict.verdict, verdict.causes, verdict.drift) == ("fail", ["merge"], None)
    export.judge("F16", verdict)
    assert (tmp_path / "parity.json").read_text(encoding="utf-8") == text
    export.unjudge("F16")
    assert export.verdicts() == {}


def test_progress_never_goes_back(settings: Settings, source: str, played: list[str], verdicts: Verdicts) -> None:
    told: list[float] = []
    prepared = preparing.prepare(settings, source, plan.parse("gguf:q4_k_m,bf16"), Options())
    making.make(settings, prepared, lambda fraction, words: told.append(fraction))
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.long
@pytest.mark.models
def test_killed_at_any_point_no_final_name_is_incomplete(demo_models: Path, tmp_path: Path) -> None:
    """kill -9 after ever longer times; what has a final name loads, and the last run goes on to the end."""
    settings = Settings(data=tmp_path / "data")
    settings.data.mkdir()
    settings.models_dir.symlink_to(demo_models, target_is_directory=True)
    command = [sys.executable, "app.py", "--data", str(settings.data), "export", "smollm2:demo"]
    command += ["--to", "merged,gguf:q4_k_m,q8_0", "--no-parity"]
    for seconds in (4.0, 7.0, 10.0, 13.0):
        running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        time.sleep(1)  # until its children have noticed
        for made in exports.listed(settings):
            assert_whole(made.folder)
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    (made,) = exports.listed(settings)  # one folder: each run went on with the same
    assert made.state().status == "done"
    assert_whole(made.folder)
    assert len(list(made.folder.glob("*.gguf"))) == 2
    assert [path.name for path in made.folder.iterdir() if path.name.endswith(".part")] == []


def assert_whole(folder: Path) -> None:
    from gguf import GGUFReader

    for file in folder.rglob("*.gguf"):
        if ".part" not in str(file):
            gguf_files.check(file)
            last = max(GGUFReader(file).tensors, key=lambda tensor: tensor.data_offset)
            assert last.data_offset + last.n_bytes <= file.stat().st_size
    for file in folder.rglob("model.safetensors"):
        if ".part" not in str(file):
            safetensors_header(file)
            assert (file.parent / "tokenizer.json").exists()
    for name in ("state.json", "export.json"):
        if (folder / name).exists():
            json.loads((folder / name).read_text(encoding="utf-8"))
