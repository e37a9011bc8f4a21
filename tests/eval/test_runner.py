"""The runner over fake models: whole files, runs that go on after kill -9, and runs that must not be believed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import app
from eval.kobest import DataError
from eval.lm import Cancelled, Saved
from eval.progress import Progress
from eval.results import read_run
from eval.runner import EvalError, Plan, Run, refuse_alike
from eval.suites import Suite, find
from eval.writing import write
from playground.compare import Playground
from playground.errors import SetupError, UnknownNameError
from playground.settings import Settings
from tests.places import ROOT

from .runs import make_run

ROWS = """
[[variant]]
name = "a"
kind = "base"
source = "fake:a"

[[variant]]
name = "slow"
kind = "base"
source = "fake:slow"
"""
COPA = Suite(name="copa", tasks=["kobest_copa"], shots=[0])


@pytest.fixture
def playground(tmp_path: Path) -> Iterator[Playground]:
    (tmp_path / "variants.toml").write_text(ROWS)
    made = Playground(Settings(data=tmp_path))
    yield made
    made.close()


def scored(path: Path) -> dict[str, Any]:
    return {result.task: [row.scores for row in result.documents.samples()] for result in read_run(path)}


def test_a_run_leaves_lm_evals_files_and_nothing_else(
    playground: Playground, kobest_sample: Path, tmp_path: Path
) -> None:
    heard: list[Progress] = []
    path = Run(playground, tmp_path / "out", heard.append, measures=()).score(Plan("a", COPA, 0, kobest_sample))
    (result, *_) = read_run(path)
    assert result.task == "kobest_copa"
    assert result.n == len(result.documents.samples()) > 0
    assert result.facts is not None
    assert result.facts.kind == "base"
    assert not list((tmp_path / "out").rglob("*.part*"))
    assert heard[-1].done == heard[-1].total > 0


def test_lm_eval_asks_no_git_that_complains_on_the_screen(
    playground: Playground,
    kobest_sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # no repository
    Run(playground, tmp_path / "out", measures=()).score(Plan("a", COPA, 0, kobest_sample))
    assert "fatal" not in capfd.readouterr().err


def test_a_suite_that_samples_asks_its_documents_alone(
    playground: Playground, kobest_sample: Path, tmp_path: Path
) -> None:
    quick = find("quick").chosen(["copa"])
    assert quick.sample is not None
    quick = quick.model_copy(update={"sample": quick.sample.model_copy(update={"documents": 2})})
    (result, *_) = read_run(Run(playground, tmp_path, measures=()).score(Plan("a", quick, 0, kobest_sample)))
    assert (result.n, result.partial) == (2, True)


@pytest.mark.slow
def test_killed_it_goes_on_where_it_was(playground: Playground, kobest_sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "app.py"), "--data", str(tmp_path), "eval", "kobest", "-v", "slow"]
    command += ["--tasks", "copa,boolq", "--shots", "0", "--data", str(kobest_sample), "--out", str(out)]
    environment = os.environ | {"MADANG_EVAL_PIECE_TOKENS": "1"}  # a piece a document: there is time to kill it
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    deadline = time.monotonic() + 90
    while not (parts := _lines(out)) or len(parts) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(out.rglob("results_*.json"))
    kept = len(_lines(out))
    with pytest.raises(SystemExit) as ended:
        app.main(command[2:])
    assert ended.value.code == 0
    (path,) = out.rglob("results_*.json")
    content = json.loads(path.read_text())
    whole = Run(playground, tmp_path / "whole", measures=()).score(
        Plan("slow", find("kobest").chosen(["copa", "boolq"]), 0, kobest_sample)
    )
    assert scored(path) == scored(whole)
    least = json.loads(whole.read_text())["config"]["tokens_least"]
    assert 0 < content["config"]["tokens_least"] < least
    assert kept >= 3
    assert not _lines(out)


def _lines(out: Path) -> list[str]:
    return [line for file in out.glob(".*.part.jsonl") for line in file.read_text().splitlines()]


def test_cancel_keeps_what_was_scored(
    playground: Playground, kobest_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = playground.settings.model_copy(update={"eval_piece_tokens": 1})
    monkeypatch.setattr(playground, "settings", small)
    asked = iter([False, False, True])
    run = Run(playground, tmp_path / "out", cancelled=lambda: next(asked), measures=())
    with pytest.raises(Cancelled):
        run.score(Plan("a", COPA, 0, kobest_sample))
    assert len(_lines(tmp_path / "out")) >= 2
    assert not list((tmp_path / "out").rglob("results_*.json"))


@pytest.mark.parametrize(
    ("scores", "cause"),
    [
        ([[-1.0, -1.0], [-2.0, -2.0]], "scored the same"),
        ([[0.0, 0.0], [0.0, 0.0]], "Every log-probability is 0"),
        ([[-1.0, float("nan")], [-2.0, -1.0]], "not finite"),
        ([[-1.0, float("-inf")], [-2.0, -1.0]], "not finite"),
    ],
)
def test_choices_that_cannot_be_told_apart_are_refused(scores: list[list[float]], cause: str) -> None:
    rows = [{"resps": [[(value, False)] for value in row]} for row in scores]
    with pytest.raises(EvalError, match="kobest_copa") as caught:
        refuse_alike("a", {"kobest_copa": rows})
    assert cause in caught.value.hint


def test_one_tie_among_clear_answers_is_no_fault() -> None:
    rows = [{"resps": [[(-1.0, False)], [(-1.0, False)]]}, {"resps": [[(-1.0, False)], [(-2.0, False)]]}]
    refuse_alike("a", {"kobest_copa": rows})


def test_unknown_variant_has_near_matches(playground: Playground, kobest_sample: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="slwo") as caught:
        Run(playground, tmp_path).score(Plan("slwo", COPA, 0, kobest_sample))
    assert "slow" in caught.value.hint


@pytest.mark.parametrize("text", ["", "ID\tsentence\n", None])
def test_broken_rows_are_named_before_a_model_loads(
    text: str | None, playground: Playground, kobest_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shutil.copytree(kobest_sample, tmp_path / "kobest")
    file = data / "COPA" / "test.tsv"
    file.unlink()
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr("eval.runner.probing", lambda *_: pytest.fail("it loads a model first"))
    with pytest.raises(DataError, match=r"test\.tsv") as caught:
        Run(playground, tmp_path / "out").score(Plan("a", COPA, 0, data))
    assert caught.value.hint


def test_an_out_that_is_no_folder_is_an_error_with_a_remedy(
    playground: Playground, kobest_sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be written") as caught:
        Run(playground, tmp_path / "file").score(Plan("a", COPA, 0, kobest_sample))
    assert "folder" in caught.value.hint


def test_a_file_below_a_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be written"):
        write(tmp_path / "file", "a", {})


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ([], "Nothing has been scored yet", "madang eval quick"),
        (["{empty}"], "holds no result of lm-eval", "madang eval quick"),
        (["{empty}/none"], "There is no folder", "lm-eval's output"),
        (["{results}", "-v", "zz"], "No row of the leaderboard fits", "m (0 shots)"),
        (["{results}", "--shots", "7"], "No row of the leaderboard fits", "m (0 shots)"),
        (["{results}", "--tasks", "cop"], "named 'cop'", "copa"),
        (["{results}", "--sort", "siz"], "named 'siz'", "size"),
    ],
)
def test_what_a_leaderboard_cannot_show_it_says(
    given: list[str], message: str, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, folder = tmp_path / "empty", tmp_path / "folder"
    empty.mkdir()
    make_run(folder, "m", {"kobest_copa": [True, False]})
    arguments = [part.format(empty=empty, results=folder) for part in given]
    assert app.main(["--data", str(tmp_path), "leaderboard", *arguments]) == 2
    error, _, remedy = capsys.readouterr().err.partition("hint: ")
    assert error.startswith("error: ")
    assert message in error
    assert hint in remedy


def test_data_is_kobests_alone(playground: Playground, kobest_sample: Path, tmp_path: Path) -> None:
    with pytest.raises(EvalError, match="hellaswag"):
        Run(playground, tmp_path).score(Plan("a", Suite(name="x", tasks=["hellaswag"], shots=[0]), 0, kobest_sample))


def test_without_data_and_without_the_hub_it_says_where_the_files_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process the switches that the environment would have set are read already."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
    (tmp_path / "variants.toml").write_text(ROWS)
    for suite, more in {"kobest": ["--tasks", "copa", "--shots", "0"], "haerae_history": []}.items():
        assert app.main(["--data", str(tmp_path), "eval", suite, "-v", "a", *more]) == 2
        said = capsys.readouterr().err
        assert ("--data DIR" in said, "KoBEST" in said, "HF_HOME" in said) == (
            (True, True, False) if suite == "kobest" else (False, False, True)
        )


@pytest.mark.parametrize("option", [["--limit", "0"], ["--limit", "-3"], ["--tasks", "cpoa"], ["--shots", "-1"]])
def test_bad_options_are_errors_with_remedies(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "variants.toml").write_text(ROWS)
    assert app.main(["--data", str(tmp_path), "eval", "kobest", "-v", "a", *option]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "\nhint: " in said


def test_half_a_line_spoils_neither_the_answer_before_nor_the_one_after(tmp_path: Path) -> None:
    file = tmp_path / "run.part.jsonl"
    file.write_text('["a", [-1.0, true]]\n["b", [-2')
    saved = Saved(file)
    assert saved.known == {"a": [-1.0, True]}
    saved.add([("c", [-3.0, False])])
    assert Saved(file).known == {"a": [-1.0, True], "c": [-3.0, False]}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_disk_that_fills_up_midway_is_said(tmp_path: Path) -> None:
    saved = Saved(None)
    saved.path = Path("/dev/full")
    with pytest.raises(SetupError, match="disk is full"):
        saved.add([("a", [-1.0, True])])
