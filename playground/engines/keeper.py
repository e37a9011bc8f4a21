"""A process between Madang and a server that others wrote: it ends that server whenever Madang itself ends, however.

`python -m playground.engines.keeper COMMAND...` runs the command, and ends it and all its children when its own
standard input closes (its starter is gone, even by a kill) or on SIGTERM. Exit code: the command's; 128 + n
for the signal n. It imports nothing of Madang but system/processes.py, so that it needs little memory.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from playground.system.processes import group, kill, wait_or_end, when_input_ends

GRACE_S = 10.0
PR_SET_PDEATHSIG = 1
"""Linux's number for the signal that a process gets when its parent has gone."""


def keep(command: list[str], ended: threading.Event) -> int:
    """Run the command until it ends or `ended` is set; leave no process of it behind."""
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_dying_with_us())
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        return 127
    code = wait_or_end(server, ended.is_set, signal.SIGTERM, GRACE_S)
    kill(group(os.getpid()))
    return code if code >= 0 else 128 - code


def _dying_with_us() -> Callable[[], None] | None:
    """Return what has the kernel kill the command when this process is killed itself; None where no kernel does."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def main(command: list[str]) -> int:
    """Run the program: end the command when standard input closes, or on SIGTERM; Ctrl-C is our parent's business."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    signal.signal(signal.SIGINT, lambda number, frame: None)  # not SIG_IGN, which the command would inherit
    when_input_ends(ended.set)
    return keep(command, ended)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
