"""TensorBoard, W&B and Trackio by name: each gets the losses of a run, on this machine alone; skipped where missing."""

from pathlib import Path

import pytest

from playground.settings import Settings
from tests.training.conftest import Write
from tests.training.trained import begin, losses
from training.trainer import process

FILES = {"tensorboard": "events.out.tfevents.*", "wandb": "run-*.wandb", "trackio": "*.db"}


@pytest.mark.parametrize("name", list(FILES))
def test_a_tracker_hears_of_every_loss(
    name: str, settings: Settings, recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "TRACKIO_DIR": str(tmp_path),
        "TENSORBOARD_LOGGING_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(variable, value)
    tracker = pytest.importorskip(name, reason=f"{name} is nobody's dependency: pip install {name}")
    run = begin(settings, str(recipe("sft")), f"trainer.report_to={name}")
    assert process.train(run).status == "done"
    if name == "wandb":
        tracker.finish()  # a process that ends does it by itself
    assert len(losses(run)) == run.state().steps
    written = [path for path in tmp_path.rglob(FILES[name]) if path.is_file()]
    assert written
    assert any(b"loss" in path.read_bytes() for path in written)
