"""The set-up script against a fake Python and a fake pip: first run, second run, and every way to fail."""

import ast
import importlib
import os
import threading
import time
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.setup.checkout import SCRIPTS, Checkout

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fakes are POSIX scripts")


def test_first_run_installs_with_the_constraints_and_second_run_does_nothing(checkout: Checkout) -> None:
    first = checkout.run()
    assert first.returncode == 0, first.stderr
    assert len(checkout.installs()) == 1
    assert str(checkout.root / "constraints.txt") in checkout.installs()[0]
    second = checkout.run()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert len(checkout.installs()) == 1


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_dependency_file_installs_again(checkout: Checkout, name: str) -> None:
    checkout.run()
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")
    assert checkout.run().returncode == 0
    assert len(checkout.installs()) == 2


def test_an_extra_is_added_and_then_kept(checkout: Checkout) -> None:
    checkout.run()
    assert checkout.run("--extra", "dev").returncode == 0
    assert checkout.run().returncode == 0
    assert [call[-1] for call in checkout.installs()] == [str(checkout.root), f"{checkout.root}[dev]"]
    with (checkout.root / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    checkout.run("--extra", "gptq")
    assert checkout.installs()[-1][-1] == f"{checkout.root}[dev,gptq]"


def test_an_unknown_extra_is_an_error_that_lists_the_known_ones(checkout: Checkout) -> None:
    done = checkout.run("--extra", "gtpq")
    assert done.returncode == 2
    assert "'gtpq'" in done.stderr
    assert "gptq" in done.stderr
    assert "unsloth" in done.stderr


@pytest.mark.parametrize("version", ["3.10", "3.14", "2.7"])
def test_a_wrong_python_is_named_and_so_is_the_remedy(checkout: Checkout, version: str) -> None:
    checkout.plan = {"version": version.replace(".", " ")}
    done = checkout.run()
    assert done.returncode == 2
    assert f"is Python {version}" in done.stderr
    assert "make demo PYTHON=python3.12" in done.stderr
    assert not checkout.venv.exists()


def test_a_python_that_does_not_run_is_an_error(checkout: Checkout) -> None:
    done = checkout.run(python="/nowhere/python")
    assert done.returncode == 2
    assert "/nowhere/python does not run" in done.stderr


def test_no_compiler_stops_before_pip_and_names_two_remedies(checkout: Checkout) -> None:
    (checkout.bin / "c++").unlink()
    checkout.program("apt-get")
    done = checkout.run()
    assert done.returncode == 2
    assert "no C++ compiler" in done.stderr
    assert "build-essential" in done.stderr
    assert "PREBUILT=1" in done.stderr
    assert checkout.installs() == []


@pytest.mark.parametrize(
    "plan",
    [
        {"cached": "/cache/llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"},
        {"wheel_on_index": True},
    ],
    ids=["cached wheel", "wheel on an index"],
)
def test_no_compiler_is_fine_where_a_wheel_exists(checkout: Checkout, plan: dict[str, Any]) -> None:
    (checkout.bin / "c++").unlink()
    checkout.plan |= plan
    assert checkout.run().returncode == 0


def test_prebuilt_needs_no_compiler_and_asks_the_authors_index(checkout: Checkout) -> None:
    (checkout.bin / "c++").unlink()
    done = checkout.run("--prebuilt")
    assert done.returncode == 0, done.stderr
    call = checkout.installs()[-1]
    assert call[call.index("--extra-index-url") + 1] == "https://abetlen.github.io/llama-cpp-python/whl/cpu"
    assert call[call.index("--only-binary") + 1] == "llama-cpp-python"


def test_minutes_of_compiling_are_announced_before_pip_starts(checkout: Checkout) -> None:
    done = checkout.run()
    assert done.stdout.index("6 to 9 minutes") < done.stdout.index("Installing Madang")


def test_pips_own_lines_become_the_stages_on_screen(checkout: Checkout) -> None:
    checkout.plan["says"] = [
        "Building wheels for collected packages: llama-cpp-python, madang",
        "  Building wheel for llama-cpp-python (pyproject.toml): started",  # pip's wording and indent
        "  Building wheel for llama-cpp-python (pyproject.toml): still running...",
    ]
    stages = [line.split(maxsplit=1)[-1] for line in checkout.run().stdout.splitlines() if line.startswith("  ")]
    assert stages == ["Compiling llama.cpp", "Copying packages into .venv"]


def test_nothing_is_announced_when_the_wheel_is_cached(checkout: Checkout) -> None:
    checkout.plan["cached"] = "/cache/llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
    assert "minutes" not in checkout.run().stdout


def test_a_python_without_the_venv_module_names_debians_package(checkout: Checkout) -> None:
    checkout.plan["missing"] = ["ensurepip"]
    done = checkout.run()
    assert done.returncode == 2
    assert "sudo apt-get install python3.12-venv" in done.stderr


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full", "TMPDIR"),
        ("CMake Error: CMAKE_CXX_COMPILER not set", "did not compile", "PREBUILT=1"),
        ("NewConnectionError: Temporary failure in name resolution", "could not be fetched", "network"),
        ("Something new", "Something new", "madang-install.log"),
    ],
)
def test_a_failing_pip_is_explained(checkout: Checkout, line: str, message: str, hint: str) -> None:
    checkout.plan |= {"says": ["Collecting torch", line], "fails": True}
    done = checkout.run()
    assert done.returncode == 2
    assert message in done.stderr
    assert hint in done.stderr
    assert line in (checkout.venv / "madang-install.log").read_text()
    checkout.plan = {"version": "3 12"}
    assert checkout.run().returncode == 0  # and the next run, with the fault gone, works


@pytest.mark.parametrize("stage", ["venv", "pip"])
def test_an_install_killed_half_way_is_made_afresh(checkout: Checkout, stage: str) -> None:
    checkout.plan["dies_in"] = stage
    assert checkout.run().returncode == -9
    (checkout.venv / "torn").touch()
    del checkout.plan["dies_in"]
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert "afresh" in done.stdout
    assert not (checkout.venv / "torn").exists()


def test_a_terminated_install_takes_its_pip_along(checkout: Checkout) -> None:
    checkout.plan["terminated"] = True
    began = time.monotonic()
    done = checkout.run()
    assert done.returncode == 130
    assert "The next run goes on" in done.stderr
    assert time.monotonic() - began < 25
    pip = int((checkout.root.parent / "plan.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pip, 0)
    del checkout.plan["terminated"]
    assert checkout.run().returncode == 0


def test_a_venv_whose_python_is_gone_is_made_afresh(checkout: Checkout) -> None:
    checkout.run()
    (checkout.venv / "bin" / "python").unlink()
    (checkout.venv / "bin" / "python").symlink_to("/nowhere/python3.12")
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert "afresh" in done.stdout


def test_a_library_that_does_not_load_is_found_at_once(checkout: Checkout) -> None:
    checkout.plan["missing"] = ["llama_cpp"]
    done = checkout.run()
    assert done.returncode == 2
    assert "--no-binary llama-cpp-python" in done.stderr


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/llama.py as a module; the scripts are no package."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("llama")


def test_a_library_that_does_not_compute_here_is_compiled_anew(checkout: Checkout) -> None:
    """A wheel that pip kept may have been compiled for another processor."""
    checkout.plan["fails_to_compute"] = 1
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert "compiled anew" in done.stdout
    assert ["-m", "pip", "cache", "remove", "llama_cpp_python"] in checkout.calls("remove")
    assert "--force-reinstall" in checkout.installs()[-1]
    assert checkout.installs()[-1][-1] == "llama-cpp-python==0.3.36"


@pytest.mark.parametrize("compilers", [True, False])
def test_a_library_that_never_computes_is_an_error(checkout: Checkout, compilers: bool) -> None:
    checkout.plan["fails_to_compute"] = 2
    checkout.plan["cached"] = "/cache/llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
    if not compilers:
        (checkout.bin / "c++").unlink()
    done = checkout.run()
    assert done.returncode == 2
    assert "does not compute" in done.stderr
    assert "PREBUILT=1" in done.stderr
    assert len(checkout.installs()) == (2 if compilers else 1)


@pytest.mark.parametrize(
    ("flags", "exit_code", "left_out"),
    [("fpu amx_bf16 amx_tile", 0, True), ("fpu amx_tile", 1, False), ("fpu avx512_bf16", 0, False)],
)
def test_amx_is_left_out_where_the_compiler_knows_it(
    flags: str, exit_code: int, left_out: bool, llama: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c++").write_text(f"#!/bin/sh\nexit {exit_code}\n")
    (tmp_path / "c++").chmod(0o755)
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("CXXFLAGS", "-g")
    monkeypatch.setattr(llama, "has_amx", partial(llama.has_amx, tmp_path / "cpuinfo"))
    assert llama.compile_environment()["CXXFLAGS"] == (f"-g {llama.NO_AMX}" if left_out else "-g")


@pytest.mark.parametrize("name", ["setup.py", "machine.py", "installer.py", "llama.py"])
def test_the_scripts_parse_on_an_old_python(name: str) -> None:
    ast.parse((SCRIPTS / name).read_text(), feature_version=(3, 8))


def test_a_full_disk_is_told_with_what_is_free_and_what_is_needed(
    machine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * 1024**3))
    with pytest.raises(machine.SetupError) as caught:
        machine.check_disk(tmp_path, "cpu")
    assert "3.0 GiB free" in caught.value.message
    assert "5 GiB" in caught.value.message
    machine.check_disk(tmp_path, "update")


@pytest.mark.parametrize(
    ("nvidia", "answers", "index"),
    [(False, True, "https://download.pytorch.org/whl/cpu"), (False, False, None), (True, True, None)],
)
def test_torch_comes_from_the_cpu_index_only_without_nvidia_and_when_it_answers(
    machine: ModuleType, monkeypatch: pytest.MonkeyPatch, nvidia: bool, answers: bool, index: str | None
) -> None:
    monkeypatch.setattr(machine, "has_nvidia", lambda: nvidia)
    monkeypatch.setattr(machine, "reachable", lambda url: answers)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    assert machine.torch_index("auto") == index


def test_an_index_that_hangs_costs_seconds(machine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()

    def hang(*_: object, **__: object) -> None:
        hanging.wait(60)
        raise OSError

    monkeypatch.setattr(machine.urllib.request, "urlopen", hang)
    monkeypatch.setattr(machine, "PROBE_SECONDS", 0.1)
    began = time.monotonic()
    assert machine.reachable("https://example.invalid/") is False
    assert time.monotonic() - began < 30
    hanging.set()
