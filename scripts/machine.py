"""What this machine has: disk, GPU, compilers, Pythons. Changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

SUPPORTED = ((3, 12), (3, 13), (3, 11))  # in the order of preference when the running Python is none of them
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_INDEX = "https://download.pytorch.org/whl/cu130"  # PyPI's torch for Windows has no CUDA
PROBE_SECONDS = 2.0
GIB = 1024**3
NEED_GIB = {"cpu": 5, "nvidia": 14, "update": 2}  # .venv and pip's cache together
WINDOWS = os.name == "nt"
MAKE = "python scripts/setup.py" if WINDOWS else "make demo"


class SetupError(Exception):
    """One sentence that names the thing, and a hint that names the remedy."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def check_disk(root: Path, kind: str) -> None:
    """Room for .venv and, where it lies on another disk, for pip's temporary files."""
    need = NEED_GIB[kind]
    free = shutil.disk_usage(str(root)).free / GIB
    if free < need:
        raise SetupError(
            "The disk of %s has %.1f GiB free; the install needs about %d GiB." % (root, free, need),
            "Free some space, or clone Madang onto a larger disk.",
        )
    temporary = Path(tempfile.gettempdir())
    free = shutil.disk_usage(str(temporary)).free / GIB
    if temporary.stat().st_dev != root.stat().st_dev and free < 2:
        raise SetupError(
            "The temporary folder %s has %.1f GiB free; pip needs about 2 GiB there." % (temporary, free),
            "Name a larger one: TMPDIR=/path/on/a/larger/disk %s" % MAKE,
        )


def has_nvidia() -> bool:
    """An NVIDIA driver is at work here."""
    return bool(shutil.which("nvidia-smi")) or Path("/dev/nvidiactl").exists()


def has_compiler() -> bool:
    """A C and a C++ compiler that CMake would find; cmake and ninja come from pip."""
    if WINDOWS:
        programs = Path(os.environ.get("PROGRAMFILES(X86)", r"C:\Program Files (x86)"))
        installer = programs / "Microsoft Visual Studio" / "Installer" / "vswhere.exe"
        return bool(shutil.which("cl") or shutil.which("g++")) or installer.exists()
    cc = [os.environ.get("CC", "").split(" ")[0], "cc", "gcc", "clang"]
    cxx = [os.environ.get("CXX", "").split(" ")[0], "c++", "g++", "clang++"]
    return all(any(name and shutil.which(name) for name in names) for names in (cc, cxx))


def compiler_remedy() -> str:
    """How a compiler is installed here, and how to do without one."""
    if WINDOWS:
        build = (
            "winget install Microsoft.VisualStudio.2022.BuildTools, then choose 'Desktop development with C++' in it"
        )
        return "Install it: %s. Or take llama.cpp ready-built: python scripts/setup.py --prebuilt" % build
    if sys.platform == "darwin":
        build = "xcode-select --install"
    else:
        managers = (("apt-get", "sudo apt-get install build-essential"), ("dnf", "sudo dnf install gcc-c++"))
        found = [command for program, command in managers if shutil.which(program)]
        build = found[0] if found else "your system's package for gcc and g++"
    return "Install it: %s. Or take llama.cpp ready-built: make demo PREBUILT=1" % build


def venv_python(venv: Path) -> Path:
    """The interpreter inside a venv."""
    return venv / "Scripts" / "python.exe" if WINDOWS else venv / "bin" / "python"


def python_version(python: str) -> tuple[int, int] | None:
    """(major, minor) of an interpreter; None when it does not run."""
    try:
        out = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=True,
        ).stdout.split()
        return int(out[0]), int(out[1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None


def choose_python(asked: str | None) -> str:
    """The Python to make .venv with: the one asked for, else this one, else another supported one on PATH."""
    if asked:
        version = python_version(asked)
        if version in SUPPORTED:
            return asked
        raise wrong_python(asked, version)
    if sys.version_info[:2] in SUPPORTED:
        return sys.executable
    for major, minor in SUPPORTED:
        found = shutil.which("python%d.%d" % (major, minor))
        if found and python_version(found) == (major, minor):
            return found
    raise wrong_python(sys.executable, sys.version_info[:2])


def wrong_python(python: str, version: tuple[int, int] | None) -> SetupError:
    """The error for a Python outside 3.11 to 3.13."""
    what = "is Python %d.%d" % version if version else "does not run"
    remedy = "py -3.12 scripts/setup.py" if WINDOWS else "make demo PYTHON=python3.12"
    return SetupError(
        "Madang needs Python 3.11, 3.12 or 3.13, but %s %s." % (python, what),
        "Install one of them, then name it: %s" % remedy,
    )


def runs(python: Path, code: str, *then: str) -> bool:
    """True when the code runs, and then the arguments, if there are any."""
    commands = [["-c", code]] + ([list(then)] if then else [])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return all(subprocess.run([str(python), *command], **quiet).returncode == 0 for command in commands)  # type: ignore[call-overload]


def torch_index(asked: str) -> str | None:
    """PyTorch's index that fits this machine, when it can be reached; None leaves torch to PyPI."""
    if asked != "auto":
        return None if asked == "none" else asked
    if WINDOWS:
        index = CUDA_INDEX if has_nvidia() else None
    else:
        index = CPU_INDEX if sys.platform == "linux" and not has_nvidia() else None
    return index if index and reachable(index + "/torch/") else None


def reachable(url: str) -> bool:
    """One request answered in time. In a thread, since a name lookup obeys no timeout."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as answer:
                answers.append(answer.status < 400)
        except (OSError, ValueError):
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS + 0.5)
    return bool(answers and answers[0])
