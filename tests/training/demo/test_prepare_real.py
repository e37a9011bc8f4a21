"""Preparing the real models: killed at each step, doubled, and on a disk that is too small. Minutes, in all."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from playground.errors import SetupError
from tests.places import ROOT
from training.demo import prepare as demo
from training.demo.prepare import prepare, prepared

pytestmark = [pytest.mark.slow, pytest.mark.models]
CODE = """
import sys
from pathlib import Path
from training.demo.prepare import prepare
prepare(Path(sys.argv[1]), lambda fraction, step: print(step, flush=True))
"""


def start(models_dir: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CODE, str(models_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def kill_in_step(models_dir: Path, step: str, seconds: float) -> None:
    """SIGKILL a preparing process some seconds into a step; its own children must not outlive it for long."""
    process = start(models_dir)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(step):
            break
    time.sleep(seconds)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert psutil.wait_procs(children, timeout=60)[1] == []


def contents(models_dir: Path) -> dict[str, str]:
    """Every file but locks and manifests (which `prepared` reads), with the hash of its bytes."""
    return {
        str(path.relative_to(models_dir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in models_dir.rglob("*")
        if path.is_file() and path.name not in (demo.LOCK, demo.MANIFEST)
    }


@pytest.mark.timeout(600)
def test_killed_in_each_step_the_next_start_recovers(demo_models: Path, tmp_path: Path) -> None:
    for step, seconds in [
        ("Unpacking", 0.3),
        ("Unpacking", 2.0),
        ("Merging", 3.0),
        ("Converting", 0.5),
        ("Converting", 3.0),
        ("Quantizing", 0.4),
    ]:
        kill_in_step(tmp_path, step, seconds)
        assert not prepared(tmp_path)
    prepare(tmp_path)
    assert prepared(tmp_path)
    assert contents(tmp_path) == contents(demo_models)


@pytest.mark.timeout(300)
def test_two_at_once_end_with_the_same_whole_models(demo_models: Path, tmp_path: Path) -> None:
    said = [process.communicate()[0] for process in [start(tmp_path), start(tmp_path)]]
    assert sorted("Waiting" in text for text in said) == [False, True]
    assert contents(tmp_path) == contents(demo_models)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 330 MB: room for the base, not for merging."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=330m", "none", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.timeout(300)
def test_a_small_disk_is_refused_and_a_full_one_survived(
    small_disk: Path, demo_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SetupError, match=r"needs 0\.8\d GB in .*, and 0\.3\d GB are free"):
        prepare(small_disk)
    assert contents(small_disk) == {}
    # Had there been room at first, and then somebody else filled the disk:
    monkeypatch.setattr("playground.system.atomic.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**12}))
    with pytest.raises(SetupError, match="The disk is full"):
        prepare(small_disk)
    assert not prepared(small_disk)
    assert list(small_disk.glob(".*.part")) == []
    base = {name: digest for name, digest in contents(demo_models).items() if not name.startswith(demo.GGUF)}
    assert contents(small_disk) == base
