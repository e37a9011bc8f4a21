"""Runs one of our functions in a Python process of its own, which dies with ours. For heavy or native work only.

Torch then never enters the page's process, an abort in native code costs an error message instead of the page, and
the memory is given back. The other side is `python -m training.export.process MODULE:FUNCTION ARGUMENTS...`.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from playground import errors
from playground.errors import MadangError
from playground.settings import child_environment, variable
from playground.system.logs import last_lines
from playground.system.processes import ending, when_input_ends
from playground.wording import packed, revived

ROOT = Path(__file__).resolve().parents[2]
MARK = "\x1emadang-error "  # a record separator, since no log line begins with one
TAIL = 8


def isolated(function: Callable[..., None], *args: str | Path, what: str) -> None:
    """Call a module-level function with text arguments (paths go as text) in a process of its own, and wait.

    Its MadangError is raised here again; anything else becomes a MadangError with the last lines of its log.
    """
    name = f"{function.__module__}:{function.__name__}"
    child = subprocess.Popen(
        # -P, because a gguf.py in the folder where someone works must not stand in for the package `gguf`.
        [sys.executable, "-P", "-m", "training.export.process", name, *map(str, args)],
        # This pipe stays open for as long as we live. That is how the process knows.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=child_environment({"PYTHONPATH": os.pathsep.join([str(ROOT), variable("PYTHONPATH")])}),
    )
    try:
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
        error: MadangError = getattr(errors, kind)(revived(message), revived(hint))
        return error
    tail = "\n".join(last_lines(log, TAIL))
    hint = "If the machine ran out of memory, close other models and try again." if code == -signal.SIGKILL else ""
    return MadangError(
        f"{what} failed: its process ended with {ending(code)}.\n{tail}",
        hint or "The lines above are the end of its log.",
    )


def main(words: Sequence[str]) -> int:
    """Run the other side: call the function, and put its MadangError on standard error, where `_failure` finds it."""
    when_input_ends(lambda: os._exit(1))
    module, _, name = words[0].partition(":")
    try:
        getattr(import_module(module), name)(*words[1:])
    except Exception as error:
        told = error if isinstance(error, MadangError) else errors.refused(error)
        if told is None:
            raise
        sys.stderr.write(f"\n{MARK}{json.dumps([type(told).__name__, packed(told.message), packed(told.hint)])}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
