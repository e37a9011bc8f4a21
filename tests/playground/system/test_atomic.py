"""Whole or not at all, leftovers of the dead, and full disks."""

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from playground.errors import MadangError, SetupError, disk_full
from playground.system.atomic import explained, replacing, room_for, sweep, write_beside
from tests.places import ROOT

Usage = namedtuple("Usage", "total used free")


BUILD_AND_DIE = """
import os, signal, sys
from pathlib import Path
from playground.system.atomic import replacing
with replacing(Path(sys.argv[1])) as part:
    part.mkdir()
    (part / "x").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_while_building(target: Path) -> None:
    subprocess.run([sys.executable, "-c", BUILD_AND_DIE, str(target)], check=False, cwd=ROOT)


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.gguf"
    with replacing(target) as part:
        part.write_text("whole")
        assert not target.exists()
        assert part.parent == target.parent
    assert target.read_text() == "whole"
    assert parts(target.parent) == []


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with replacing(target) as part:
        part.mkdir()
        (part / "new.txt").write_text("new")
        assert (target / "old.txt").exists()
    assert [path.name for path in target.iterdir()] == ["new.txt"]
    assert parts(tmp_path) == []


def half_build(target: Path, error: BaseException) -> None:
    with replacing(target) as part:
        part.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_a_block_that_raises_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    with pytest.raises(type(error)):
        half_build(target, error)
    assert target.read_text() == "old"
    assert parts(tmp_path) == []


def test_sweeping_takes_only_what_the_dead_left(tmp_path: Path) -> None:
    kill_while_building(tmp_path / "a")
    (left,) = parts(tmp_path)
    with replacing(tmp_path / "b") as mine:
        mine.write_text("alive")
        assert left in parts(tmp_path)  # another target's leftovers are not ours to judge
        sweep(tmp_path)
        assert parts(tmp_path) == [mine.name]


def test_a_reused_process_id_does_not_protect_a_leftover(tmp_path: Path) -> None:
    old = tmp_path / f".a.{os.getpid()}-12345-abcdef.part"  # our id, but started in 1970
    old.write_text("half")
    with replacing(tmp_path / "a") as part:
        assert parts(tmp_path) == []
        part.write_text("whole")


def test_too_little_room_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**10, 0, 200_000_000))
    with pytest.raises(SetupError) as caught, room_for(850_000_000, tmp_path, "Preparing x", " with MADANG_DATA"):
        pytest.fail("began all the same")
    assert caught.value.message == f"Preparing x needs 0.85 GB in {tmp_path}, and 0.20 GB are free."
    assert caught.value.hint == "Free 0.65 GB there, or choose a folder on another disk with MADANG_DATA."


def test_a_disk_that_fills_up_meanwhile_is_named(tmp_path: Path) -> None:
    for error in (
        OSError(errno.ENOSPC, "x"),
        OSError(errno.EDQUOT, "x"),
        MadangError("failed: No space left on device"),
    ):
        with pytest.raises(SetupError, match=r"needs 0\.00 GB"), room_for(1, tmp_path, "It"):
            raise error
    wrapped = ValueError("in a library")
    wrapped.__cause__ = OSError(errno.ENOSPC, "x")
    assert disk_full(wrapped)


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), room_for(1, tmp_path, "It"):
        raise PermissionError(errno.EACCES, "no")


def test_what_cannot_be_written_is_said_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "a" / "b.json"
    with pytest.raises(SetupError, match="cannot be written"), explained(target), replacing(target):
        pytest.fail("there is nowhere to write")
    with pytest.raises(SetupError, match="disk is full") as caught, explained(target):
        raise OSError(errno.ENOSPC, "x")
    assert "is untouched" in caught.value.hint


def test_a_small_file_is_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "progress.json"
    write_beside(told, "1")
    seen: list[str] = []
    replace = Path.replace

    def watch(part: Path, path: Path) -> Path:
        seen.append(told.read_text())
        return replace(part, path)

    monkeypatch.setattr(Path, "replace", watch)
    write_beside(told, "2")
    assert (seen, told.read_text(), parts(tmp_path)) == (["1"], "2", [])


def test_a_small_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    told = tmp_path / "progress.json"
    told.mkdir()  # which no file can replace
    with pytest.raises(OSError, match="progress"):
        write_beside(told, "2")
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]
