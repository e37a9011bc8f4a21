"""A function in a process of its own: its errors come back, its aborts do not spread, it dies with its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from playground.errors import MadangError, VariantError
from tests.places import ROOT
from training.export import gguf
from training.export.process import isolated


def test_a_madang_error_comes_back_as_it_was(tmp_path: Path) -> None:
    from training.export.merge import merge

    with pytest.raises(VariantError) as caught:
        isolated(merge, tmp_path / "nothing", tmp_path, tmp_path / "out", "float16", what="Merging")
    assert caught.value.message == f"{tmp_path / 'nothing'} is not a base: it has no config.json."
    assert caught.value.hint


def test_a_bug_over_there_brings_the_end_of_its_log() -> None:
    with pytest.raises(MadangError, match=r"(?s)Sleeping failed: its process ended with exit code 1\..*TypeError"):
        isolated(time.sleep, "not a number", what="Sleeping")


def test_an_abort_over_there_is_an_error_here() -> None:
    with pytest.raises(MadangError, match="Aborting failed: its process ended with SIGABRT"):
        isolated(os.abort, what="Aborting")


def test_it_dies_with_a_killed_parent() -> None:
    code = "import test_process as t; t.isolated(t.sleep_long, what='Sleeping')"
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    parent = psutil.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    deadline = time.monotonic() + 20
    while not (children := parent.children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)  # until it sleeps
    assert children[0].is_running()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def sleep_long() -> None:
    time.sleep(60)


def test_our_gguf_module_does_not_hide_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a script, the process would put its folder, and our gguf.py in it, first on the path."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    isolated(needs_gguf_package, what="Importing")


def needs_gguf_package() -> None:
    import gguf

    assert hasattr(gguf, "GGUFReader")


def test_nothing_heavy_is_imported_for_it() -> None:
    code = (
        "import sys, training.export.gguf, training.export.merge\n"
        "print([m for m in ('torch', 'llama_cpp', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
    assert gguf.QUANTS["q4_k_m"] == "Q4_K_M"
