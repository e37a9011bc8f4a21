"""Progress in a file: new words at once, numbers now and then, and nothing that cannot be read."""

import json
from pathlib import Path

import pytest

from playground.system import progress
from playground.system.progress import Progress, ProgressFile, read


class Far(Progress):
    step: str = ""
    done: int = 0
    left_s: float | None = None


def test_it_reads_back_with_what_was_said_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "progress.json"
    file = ProgressFile(path, Far(step="loading"))
    file.tell(step="읽는 중", done=3)
    assert json.loads(path.read_text(encoding="utf-8")) == {"step": "읽는 중", "done": 3}
    assert read(path, Far) == file.now == Far(step="읽는 중", done=3)


def test_numbers_wait_and_words_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress.json"
    file = ProgressFile(path, Far())
    file.tell(step="scoring", done=1)
    file.tell(step="scoring", done=2)
    assert (file.now.done, read(path, Far).done) == (2, 1)
    file.tell(step="speed", done=0)
    assert read(path, Far) == Far(step="speed", done=0)
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    file.tell(done=5)
    assert read(path, Far).done == 5


def test_without_a_file_it_is_only_kept(tmp_path: Path) -> None:
    file = ProgressFile(None, Far())
    file.tell(step="a")
    assert (file.now.step, list(tmp_path.iterdir())) == ("a", [])


@pytest.mark.parametrize("text", ["", "[1]", '{"done": "many"}', None])
def test_what_cannot_be_read_is_nothing_said(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert read(path, Far) == Far()


def test_fields_of_other_versions_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    path.write_text(json.dumps({"step": "a", "at": 1.0, "of_tomorrow": [1]}), encoding="utf-8")
    assert read(path, Far) == Far(step="a")
