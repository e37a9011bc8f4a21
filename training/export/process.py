"""Runs one of our functions in a Python process of its own, which dies with ours. For heavy or native work only.

Torch then never enters the page's process, an abort in native code costs an error message instead of the page, and
the memory is given back. The other side is child.py.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from playground import errors
from playground.errors import MadangError

CHILD = Path(__file__).with_name("child.py")
MARK = "\x1emadang-error "  # the same in child.py; a record separator, since no log line begins with one
TAIL = 8


def isolated(function: Callable[..., None], *args: str | Path, what: str) -> None:
    """Call a module-level function with text arguments (paths go as text) in a process of its own, and wait.

    Its MadangError is raised here again; anything else becomes a MadangError with the last lines of its log.
    """
    # -P, because this folder's own gguf.py must not stand in for the package `gguf`.
    command = [sys.executable, "-P", str(CHILD), f"{function.__module__}:{function.__name__}", *map(str, args)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        # The pipe to its stdin stays open for as long as we live. That is how it knows (see child.py).
        assert child.stdout is not None
        log = child.stdout.read().decode(errors="replace")
        code = child.wait()
    finally:
        child.kill()
        child.wait()
    if code:
        raise _failure(log, code, what)


def _failure(log: str, code: int, what: str) -> MadangError:
    if MARK in log:
        kind, message, hint = json.loads(log.rpartition(MARK)[2].splitlines()[0])
        error: MadangError = getattr(errors, kind)(message, hint)
        return error
    lines = [line.rpartition("\r")[2].rstrip() for line in log.splitlines()]
    tail = "\n".join([line for line in lines if line][-TAIL:])
    died = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    hint = "If the machine ran out of memory, close other models and try again." if code == -9 else ""
    return MadangError(f"{what} failed: its process {died}.\n{tail}", hint or "The lines above are the end of its log.")
