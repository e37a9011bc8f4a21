"""Make .venv and install Madang into it; not the models, which `madang` prepares at its first start.

Standard library only, and no syntax newer than Python 3.8, so that an old Python gets a sentence and not a traceback.
`make` calls it; without make it is `python scripts/setup.py`. A second run finds its stamp and returns at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from installer import Pip, clock, pip_error, say, unfinished
from llama import LLAMA_INDEX, announce_compile, check_computes, compile_environment
from machine import (
    MAKE,
    SUPPORTED,
    WINDOWS,
    SetupError,
    check_disk,
    choose_python,
    has_nvidia,
    python_version,
    runs,
    torch_index,
    venv_python,
)


def main(argv: list[str] | None = None) -> int:
    """Command line: exit 0 when .venv is ready, 2 with `error:` and `hint:` when something is missing."""
    options = parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kill ends pip too, as Ctrl-C does
    try:
        ensure(options)
    except SetupError as error:
        sys.stderr.write("error: %s\nhint: %s\n" % (error.message, error.hint))
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. The next run goes on from here.\n")
        return 130
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options; `--extra a,b` and `--extra a --extra b` mean the same."""
    parser = argparse.ArgumentParser(prog="setup.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extra", action="append", default=[], help="extras to install: dev, gptq, cuda, unsloth, …")
    parser.add_argument("--prebuilt", action="store_true", help="take llama.cpp ready-built: nothing is compiled")
    parser.add_argument("--torch-index", default="auto", help="PyTorch wheel index to use, or 'none'")
    parser.add_argument("--python", help="Python to make .venv with (default: this one, if it is 3.11 to 3.13)")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.extra = sorted({name.strip() for item in options.extra for name in item.split(",") if name.strip()})
    return options


def ensure(options: argparse.Namespace) -> None:
    """Bring .venv up to date with pyproject.toml, constraints.txt and the extras asked for."""
    venv = options.root / ".venv"
    if is_fresh(venv, options.root, options.extra):
        return
    lock = hold_lock(options.root)
    if is_fresh(venv, options.root, options.extra):  # the run that we waited for did the work
        return
    started = time.monotonic()
    check_extras(options.root, options.extra)
    check_disk(options.root, "update" if has_package(venv, "torch") else "nvidia" if has_nvidia() else "cpu")
    python = make_venv(options.python, venv)
    extras = sorted(set(options.extra) | set(read_stamp(venv).get("extras", [])))
    pip = Pip(python, venv, lock, compile_environment())
    install(pip, options, extras)
    check_computes(pip, pinned(options.root, "llama-cpp-python"), options.root / "constraints.txt")
    stamp = {"key": stamp_key(venv, options.root), "extras": extras}
    (venv / "madang-stamp.json").write_text(json.dumps(stamp), encoding="utf-8")
    say("Installed in %s." % clock(time.monotonic() - started))


def is_fresh(venv: Path, root: Path, extras: list[str]) -> bool:
    """True when nothing that decides the install has changed since the last complete one."""
    stamp = read_stamp(venv)
    if not stamp or not venv_python(venv).exists() or unfinished(venv).exists():
        return False
    return stamp.get("key") == stamp_key(venv, root) and set(extras) <= set(stamp.get("extras", []))


def read_stamp(venv: Path) -> dict:  # type: ignore[type-arg]  # JSON
    """What the last complete install was made of; empty when there was none."""
    try:
        stamp = json.loads((venv / "madang-stamp.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def stamp_key(venv: Path, root: Path) -> str:
    """Hash of the dependencies, the Python of .venv and the place where both lie (an editable install knows it)."""
    digest = hashlib.sha256(str(root).encode())
    for path in (root / "pyproject.toml", root / "constraints.txt", venv / "pyvenv.cfg"):
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()


def hold_lock(root: Path) -> int | None:
    """Wait for another install in this folder. The lock ends with this process and the pip it started."""
    if WINDOWS:
        return None
    import fcntl

    handle = os.open(str(root / "pyproject.toml"), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("Another install is at work in this folder: waiting for it.")
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def check_extras(root: Path, extras: list[str]) -> None:
    """pip only warns about an extra that does not exist; we stop."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    section = re.search(r"^\[project\.optional-dependencies\]\n(.*?)(?=^\[)", text, re.M | re.S)
    known = re.findall(r"^([\w-]+) = \[", section.group(1), re.M) if section else []
    for name in extras:
        if name not in known:
            raise SetupError("There is no extra named %r." % name, "Known: %s." % ", ".join(sorted(known)))


def make_venv(asked: str | None, venv: Path) -> Path:
    """A .venv that works: the one that lies there, or a new one in the place of a half-made or broken one."""
    python = venv_python(venv)
    if venv.exists():
        version = python_version(str(python))
        if version in SUPPORTED and not unfinished(venv).exists():
            if not runs(python, "import pip") and not runs(python, "import ensurepip", "-m", "ensurepip"):
                raise SetupError("%s has no pip." % venv, "Remove the folder, then run again: %s" % MAKE)
            return python
        say(".venv is half-made or broken: making it afresh.")
        shutil.rmtree(str(venv))
    chosen = choose_python(asked)
    if not runs(Path(chosen), "import ensurepip, venv"):
        version = python_version(chosen) or SUPPORTED[0]
        raise SetupError(
            "%s cannot make virtual environments." % chosen,
            "On Debian and Ubuntu: sudo apt-get install python%d.%d-venv" % version,
        )
    venv.mkdir()
    unfinished(venv).touch()
    say("Making .venv with Python %d.%d." % (python_version(chosen) or (0, 0)))
    done = subprocess.run([chosen, "-m", "venv", str(venv)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise pip_error(done.stdout.decode(errors="replace"), "%s -m venv .venv" % chosen)
    unfinished(venv).unlink()
    return python


def install(pip: Pip, options: argparse.Namespace, extras: list[str]) -> None:
    """Install into .venv: torch from PyTorch's own index where that saves the CUDA wheels, then everything else."""
    root, venv = options.root, pip.venv
    constraints = ["--constraint", str(root / "constraints.txt")]
    llama = pinned(root, "llama-cpp-python")
    if options.prebuilt:
        constraints += ["--extra-index-url", LLAMA_INDEX, "--only-binary", "llama-cpp-python"]
    elif not has_package(venv, "llama_cpp_python", llama):
        announce_compile(pip.python, llama)
    index = torch_index(options.torch_index)
    torch = pinned(root, "torch")
    if index and not has_package(venv, "torch", torch):
        say("Installing PyTorch from %s." % index)
        pip.run(["--no-deps", "--index-url", index, "torch==%s" % torch], may_fail=True)
    say("Installing Madang%s." % (" with " + ", ".join(extras) if extras else ""))
    target = "%s[%s]" % (root, ",".join(extras)) if extras else str(root)
    pip.run([*constraints, "--editable", target])


def pinned(root: Path, name: str) -> str:
    """The version that constraints.txt holds a package to."""
    text = (root / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(r"^%s==(\S+)" % re.escape(name), text, re.M)
    if not found:
        raise SetupError("constraints.txt has no line for %s." % name, "Restore it: git checkout constraints.txt")
    return found.group(1)


def has_package(venv: Path, name: str, version: str = "") -> bool:
    """A distribution lies in .venv; with a version, that one (2.13.0 is also found as 2.13.0+cpu)."""
    pattern = "%s-%s*.dist-info" % (name, version)
    places = ("lib/python3.*/site-packages", "Lib/site-packages")
    return any(any(venv.glob("%s/%s" % (place, pattern))) for place in places)


if __name__ == "__main__":
    sys.exit(main())
