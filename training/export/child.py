"""The process that `isolated` starts: calls one function and dies with its parent. A script, never imported."""

import json
import os
import sys
import threading
from importlib import import_module
from pathlib import Path

MARK = "\x1emadang-error "  # the same in process.py


def _die_with_parent() -> None:
    """Nothing is ever written to our stdin: when it ends, our parent is gone, killed perhaps, and so are we."""

    def watch() -> None:
        os.read(0, 1)  # not through sys.stdin: its lock would be ours when the interpreter ends
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    _die_with_parent()
    module, _, name = sys.argv[1].partition(":")
    from playground.errors import MadangError  # found only now

    try:
        getattr(import_module(module), name)(*sys.argv[2:])
    except MadangError as error:
        sys.stderr.write(f"\n{MARK}{json.dumps([type(error).__name__, error.message, error.hint])}\n")
        sys.exit(2)


if __name__ == "__main__":
    _main()
