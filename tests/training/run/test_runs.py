"""The run's folder: whole checkpoints, half lines, one trainer at a time."""

import json
from pathlib import Path

import pytest

from playground.errors import ConfigError, SetupError, UnknownNameError
from playground.settings import Settings
from training import recipe as recipes
from training.run import runs
from training.run.runs import Run, mark_whole


@pytest.fixture
def run(settings: Settings) -> Run:
    return runs.create(settings, recipes.resolved(recipes.load(recipes.find("sft")), on_card=False))


def checkpoint(run: Run, step: int, whole: bool = True) -> Path:
    folder = run.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"x" * step)
    if whole:
        mark_whole(folder)
    return folder


def test_only_whole_checkpoints_count_and_in_the_order_of_their_steps(run: Run) -> None:
    for step in (900, 1000, 100):
        checkpoint(run, step)
    checkpoint(run, 1100, whole=False)
    short = checkpoint(run, 1200)
    (short / "adapter_model.safetensors").write_bytes(b"x")
    assert [path.name for path in run.whole_checkpoints()] == ["checkpoint-100", "checkpoint-900", "checkpoint-1000"]
    assert run.forget_broken_checkpoints() == ["checkpoint-1100", "checkpoint-1200"]
    assert len(list(run.checkpoints.iterdir())) == 3


def test_half_a_line_is_left_out_and_a_step_computed_twice_counts_once(run: Run) -> None:
    rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "eval_loss": 2.5}, {"step": 2, "loss": 1.9}]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3, "lo'
    (run.folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    assert [(row["step"], row.get("loss")) for row in run.metrics()] == [(1, 3.0), (2, 1.9), (2, None)]


def test_two_processes_never_train_one_run(run: Run) -> None:
    with run.locked(), pytest.raises(SetupError, match="is being trained by another process"), Run(run.folder).locked():
        pytest.fail("it was locked")
    with run.locked():
        pass


def test_state_is_told_and_a_damaged_one_is_no_end(run: Run) -> None:
    run.tell(status="running", step=3, steps=9)
    assert (run.state().step, run.state().status) == (3, "running")
    (run.folder / "state.json").write_text("{", encoding="utf-8")
    assert run.state().status == "preparing"


def test_runs_are_found_by_name_folder_or_as_the_newest_unfinished(settings: Settings, run: Run) -> None:
    assert runs.find(settings).folder == run.folder
    assert runs.find(settings, run.name).folder == run.folder
    assert runs.find(settings, str(run.folder)).folder == run.folder
    other = runs.create(settings, run.recipe())
    assert other.folder != run.folder
    with pytest.raises(UnknownNameError):
        runs.find(settings, "nope")
    run.tell(status="done")
    other.tell(status="done")
    with pytest.raises(ConfigError, match="no run to go on with"):
        runs.find(settings)


def test_events_come_back_as_they_happened_and_lines_that_are_none_are_skipped(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.happened("out_of_memory", "작아졌다", before={"batch": 2, "checkpointing": False}, after={"batch": 1})
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"kind": "note", "message": "of a later version", "more": 1}\n{"kind": 5}\n[]\n{"kind": "half')
    first, second = run.events()
    assert (first.kind, first.message, first.step) == ("out_of_memory", "작아졌다", None)
    assert (first.before, first.after) == ({"batch": 2, "checkpointing": False}, {"batch": 1})
    assert (second.message, second.at) == ("of a later version", 0.0)
    written = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[0])
    assert sorted(written) == ["after", "at", "before", "kind", "message"]


def test_an_event_loses_no_field_in_silence(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Event has no field lables"):
        Run(tmp_path).happened("push", "Pushed.", lables=["q4_k_m"])
    assert Run(tmp_path).events() == []
