"""`madang data check` on small files: what it prints, what it writes, how it ends. And that it loads nothing heavy."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from playground.cli.context import Program
from playground.errors import ConfigError, VariantError
from playground.settings import Settings
from tests.places import ROOT
from tests.training.data.conftest import tiny_model
from tests.training.data.rows import KOALPACA, PREFERENCE, SHAREGPT, jsonl
from training.cli import data_tables
from training.cli.data import data as verbs
from training.data.report import Preview

BROKEN = {"instruction": "답이 없는 질문", "output": ""}


@pytest.fixture
def settings(tmp_path: Path, demo_models: Path) -> Settings:
    """A data folder of its own with the embedded models in it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "models").symlink_to(demo_models)
    return Settings(data=tmp_path / "data")


def run(settings: Settings, *arguments: object, texts: Any = None) -> tuple[int, str]:
    app = typer.Typer()

    @app.callback()
    def prepare(context: typer.Context) -> None:
        context.obj = Program(settings) if texts is None else Program(settings, benchmark_texts=texts)

    app.add_typer(verbs, name="data")
    done = CliRunner().invoke(app, ["data", "check", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.mark.models
def test_sound_data(tmp_path: Path, settings: Settings) -> None:
    code, said = run(settings, jsonl(tmp_path / "a.jsonl", KOALPACA))
    assert code == 0
    for words in ("3 rows, koalpaca", "Nothing is wrong", "Recommended maximum: 128", "<|im_start|>assistant", "█"):
        assert words in said


@pytest.mark.models
def test_fatal_findings_end_with_1_and_a_fixed_copy_with_0(tmp_path: Path, settings: Settings) -> None:
    path, clean = jsonl(tmp_path / "a.jsonl", [*KOALPACA, BROKEN]), tmp_path / "clean.jsonl"
    code, said = run(settings, path, "--method", "sft")
    assert code == 1
    assert "1 row without an answer" in said
    code, said = run(settings, path, "--fix", clean)
    assert (code, len(clean.read_text(encoding="utf-8").splitlines())) == (0, 3)
    assert "missing-answers 1" in said
    assert run(settings, clean)[0] == 0


@pytest.mark.models
def test_one_json_object(tmp_path: Path, settings: Settings) -> None:
    code, said = run(settings, jsonl(tmp_path / "a.jsonl", [*SHAREGPT, *SHAREGPT]), "--json", "--max-length", 64)
    whole = json.loads(said)
    assert (code, whole["format"], whole["kind"], whole["rows"], whole["fatal"], whole["model"]) == (
        *(0, "sharegpt", "conversation", 4, False, "smollm2"),
    )
    by_check = {finding["check"]: finding for finding in whole["findings"]}
    assert by_check["duplicates"]["rows"] == [3, 4]
    assert by_check["too-long"]["severity"] == "warning"
    assert len(whole["lengths"]["histogram"]["edges"]) == len(whole["lengths"]["histogram"]["counts"]) + 1
    assert [shown["row"] for shown in whole["previews"]] == [1, 2, 3]
    learnt = [part["text"] for part in whole["previews"][0]["parts"] if part["learnt"]]
    assert learnt == ["안녕하세요!<|im_end|>\n", "Fine, thanks.<|im_end|>\n"]
    assert "".join(part["text"] for part in whole["previews"][0]["parts"]).startswith("<|im_start|>system\n짧게")


@pytest.mark.models
def test_a_named_prompt_format_and_pairs(tmp_path: Path, settings: Settings) -> None:
    said = run(settings, jsonl(tmp_path / "a.jsonl", PREFERENCE), "--json", "--prompt-format", "koalpaca")[1]
    previews = json.loads(said)["previews"]
    assert [(shown["row"], shown["said"]) for shown in previews] == [(1, "chosen"), (1, "rejected"), (2, "chosen")]
    parts = previews[0]["parts"]
    assert parts[0]["text"] == "### 질문: 하늘은 왜 파란가요?\n\n### 답변:"
    assert parts[1]["text"].startswith(" 빛이 산란하기 때문입니다.<|im_end|>")


def test_what_becomes_less_likely_is_no_green() -> None:
    for said, colour, means in (
        ("", "green", "is learnt"),
        ("good", "green", "likelier"),
        ("bad", "red", "less likely"),
    ):
        shown = Preview(4, (("a", False), ("b", True)), said)
        assert colour in data_tables.title(shown)
        assert means in data_tables.title(shown)
        assert [str(span.style) for span in data_tables.preview(shown).spans] == ["dim", colour]


def test_without_lengths_nothing_is_loaded_and_columns_have_names(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"질문": "왜 [bold]?", "답": "그래서."}])
    columns = ("--column", "instruction=질문", "--column", "output=답")
    code, said = run(Settings(data=tmp_path), path, *columns, "--no-lengths", "--model", "none")
    assert (code, "koalpaca" in said, "Tokens" in said) == (0, True, False)
    with pytest.raises(ConfigError, match="--column 질문"):
        run(Settings(data=tmp_path), path, "--column", "질문")


def test_the_benchmark_is_handed_over(tmp_path: Path) -> None:
    asked: list[Path | None] = []

    def texts(folder: Path | None) -> Iterable[tuple[str, str]]:
        asked.append(folder)
        return [("kobest_boolq", "양파는 어떤 식물 부위인가요?")]

    path = jsonl(tmp_path / "a.jsonl", KOALPACA)
    code, said = run(Settings(data=tmp_path), path, "--no-lengths", "--kobest", tmp_path, "--json", texts=texts)
    assert (code, asked) == (0, [tmp_path])
    assert [(f["check"], f["rows"]) for f in json.loads(said)["findings"]] == [("benchmark", [1])]


def test_a_variant_without_a_base(tmp_path: Path) -> None:
    (tmp_path / "variants.toml").write_text('[[variant]]\nname = "g"\nkind = "gguf"\nsource = "fake:g"\n')
    with pytest.raises(VariantError, match="g names no base"):
        run(Settings(data=tmp_path), jsonl(tmp_path / "a.jsonl", KOALPACA), "--model", "g")


LIGHT = """
import sys
from pathlib import Path
from training.cli import data, data_tables
from training.data import mix, sources
from training.data.encoder import Encoder
from training.data.formats import convert
from training.data.report import inspect
inspect(convert(sources.read(sys.argv[1])), Encoder(Path(sys.argv[2])), None, [("t", "x" * 20)])
print(",".join(name for name in ("torch", "transformers", "datasets", "pandas", "gradio") if name in sys.modules))
"""


def test_a_check_loads_nothing_heavy(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny")
    command = [sys.executable, "-c", LIGHT, str(jsonl(tmp_path / "a.jsonl", KOALPACA)), str(model)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
