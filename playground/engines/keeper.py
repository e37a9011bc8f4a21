"""A process between Madang and a server that others wrote: it ends that server whenever Madang itself ends, however.

`python -m playground.engines.keeper COMMAND...` runs the command, and ends it and all its children when its own
standard input closes (whoever started it is gone, be it by a kill) or on SIGTERM. Exit code: the command's; 128 + n
for the signal n. Needs little memory: it imports no part of Madang.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import NoReturn

import psutil

GRACE_S = 10.0
POLL_S = 0.1


def keep(command: list[str], ended: threading.Event) -> int:
    """Run the command until it ends or `ended` is set; leave no process of it behind."""
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        return 127
    while server.poll() is None and not ended.wait(POLL_S):
        pass
    family = _family(server.pid)
    if server.poll() is None:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(GRACE_S)
    for process in {*family, *_group()}:
        with suppress(psutil.Error):
            process.kill()
    server.wait()
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def _family(pid: int) -> list[psutil.Process]:
    """A process and what it started; empty where it has ended."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _group() -> list[psutil.Process]:
    """What else runs in this keeper's process group: children whose parent has died."""
    if os.name != "posix":
        return []
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and os.getpgid(process.pid) == os.getpid():
                found.append(process)
    return found


def main(command: list[str]) -> NoReturn:
    """The program: end the command when standard input closes, or on SIGTERM; Ctrl-C is our parent's business."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    signal.signal(signal.SIGINT, lambda number, frame: None)  # not SIG_IGN, which the command would inherit

    def listen() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    code = keep(command, ended)
    sys.stderr.flush()
    os._exit(code)  # the listening thread holds standard input, on which an ordinary end would wait


if __name__ == "__main__":
    main(sys.argv[1:])
