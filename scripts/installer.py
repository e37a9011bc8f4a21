"""pip as a child process: one line of progress, a log, and errors that name the remedy."""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from machine import SetupError, compiler_remedy


class Pip:
    """pip as a child process with one line of progress; everything it says goes to .venv/madang-install.log."""

    def __init__(self, python: Path, venv: Path, lock: int | None, environment: dict[str, str] | None = None) -> None:
        self.python = python
        self.environment = environment or dict(os.environ)
        self.venv = venv
        self.lock = lock
        self.log = venv / "madang-install.log"

    def run(self, arguments: list[str], may_fail: bool = False) -> None:
        """`pip install` with these arguments; raises SetupError unless a failure is allowed."""
        flags = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
        command = [str(self.python), "-m", "pip", "install", *flags, *arguments]
        environment = dict(self.environment, PYTHONUNBUFFERED="1")
        said: list[str] = []
        keep = {"pass_fds": (self.lock,)} if self.lock is not None else {}
        with self.log.open("a", encoding="utf-8") as log:
            log.write("$ %s\n" % " ".join(command))
            child = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                **keep,
            )  # type: ignore[call-overload]
            try:
                for line in ticking(child):
                    said.append(line)
                    log.write(line + "\n")
                    log.flush()
                    if line.startswith("Installing collected packages"):
                        unfinished(self.venv).touch()  # from here on a kill leaves packages in pieces
                code = child.wait()
            finally:
                if child.poll() is None:
                    child.terminate()
                    child.wait()
        if code == 0:
            if unfinished(self.venv).exists():
                unfinished(self.venv).unlink()
        elif not may_fail:
            raise pip_error("\n".join(said), str(self.log))


def ticking(child: subprocess.Popen[bytes]) -> Iterator[str]:
    """The child's lines as they come, with a line on the screen that says what goes on and since when."""
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        assert child.stdout is not None
        for raw in child.stdout:
            lines.put(raw)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    progress = Progress()
    while True:
        try:
            raw = lines.get(timeout=1)
        except queue.Empty:
            progress.tick()
            continue
        if raw is None:
            progress.close()
            return
        line = raw.decode(errors="replace").rstrip()
        progress.see(line)
        yield line


class Progress:
    """One line that is rewritten on a terminal; elsewhere a line a stage, and one a minute while a stage lasts."""

    STAGES = (
        (re.compile(r"\s*Building wheel for llama-cpp-python .*started"), "Compiling llama.cpp"),
        (re.compile(r"\s*Building wheel for (\S+) .*started"), "Building {}"),
        (re.compile(r"\s*Downloading (\S+)(?: \(.*\))?$"), "Downloading {}"),
        (re.compile(r"\s*Collecting ([\w.-]+)"), "Looking up {}"),
        (re.compile(r"Installing collected packages"), "Copying packages into .venv"),
    )
    LOUD = ("Compiling", "Copying")

    def __init__(self) -> None:
        self.began = self.spoke = time.monotonic()
        self.stage = "Starting pip"
        self.terminal = sys.stdout.isatty()

    def see(self, line: str) -> None:
        """Take the stage from a line of pip's."""
        for pattern, text in self.STAGES:
            found = pattern.match(line)
            if found:
                self.stage = text.format(*[part.rsplit("/", 1)[-1] for part in found.groups()])
                if self.terminal or self.stage.startswith(self.LOUD):
                    self.show()
                return

    def tick(self) -> None:
        """A second in which pip said nothing."""
        if self.terminal or time.monotonic() - self.spoke > 60:
            self.show()

    def show(self) -> None:
        """Write the line."""
        self.spoke = time.monotonic()
        text = "  %s  %s" % (clock(self.spoke - self.began), self.stage)
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write("\r" + text[:width].ljust(width))
        else:
            sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Leave the screen as it was."""
        if self.terminal:
            sys.stdout.write("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")
            sys.stdout.flush()


REMEDIES = (
    (
        r"No space left on device|Errno 28|not enough space on the disk",
        "The disk is full.",
        "Free some space (pip's downloads: `python -m pip cache purge`), or name another temporary folder with TMPDIR.",
    ),
    (
        r"CMAKE_C(XX)?_COMPILER|CMake Error|CMake configuration failed|error: command '[^']*(cc|\+\+|cl\.exe)'",
        "llama.cpp did not compile.",
        "",
    ),
    (
        r"name resolution|NewConnectionError|ConnectTimeout|Read timed out|ProxyError|SSLError|Connection aborted"
        r"|No matching distribution found",
        "A package could not be fetched from its index.",
        "Check the network, and the proxy if you use one (HTTPS_PROXY), then run again: it goes on where it stopped.",
    ),
    (
        r"ensurepip",
        "The virtual environment could not be made.",
        "On Debian and Ubuntu install python3-venv, then run again.",
    ),
)


def pip_error(said: str, log: str) -> SetupError:
    """What went wrong, from what pip said; its last lines when it is nothing we know."""
    for pattern, message, hint in REMEDIES:
        if re.search(pattern, said):
            return SetupError("%s (%s)" % (message, log), hint or compiler_remedy())
    tail = "\n  ".join(said.splitlines()[-12:])
    return SetupError("The install failed:\n  %s" % tail, "All that pip said: %s" % log)


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return "%d:%02d" % divmod(int(seconds), 60)


def say(text: str) -> None:
    """A line for the person who waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def unfinished(venv: Path) -> Path:
    """The marker that lies in .venv while its contents are half-made."""
    return venv / "madang-unfinished"
