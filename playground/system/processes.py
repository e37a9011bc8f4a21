"""Processes: which one a number means, how to end it with all that it started, and how it ended, in words.

Imports nothing but psutil: engines/keeper.py stands beside every engine and is to need little memory.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import psutil

LOOK_S = 0.1
"""How often a process is looked at while it is waited for."""


class ProcessId(NamedTuple):
    """The number of a process and when it was born (seconds since 1970): numbers are given out again."""

    pid: int
    born: float

    @classmethod
    def of(cls, pid: int | None = None) -> "ProcessId":
        """Identify the process that has the number now, this one by default; born at 0 where there is none."""
        with suppress(psutil.Error):
            return cls(pid or os.getpid(), psutil.Process(pid).create_time())
        return cls(pid or os.getpid(), 0.0)

    @property
    def alive(self) -> bool:
        """Whether this very process still runs. A zombie does not."""
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            # The kernel counts in ticks since the boot, whose moment two programs may round differently.
            return abs(process.create_time() - self.born) <= 1 and process.status() != psutil.STATUS_ZOMBIE
        return False


def tree(pid: int) -> list[psutil.Process]:
    """List what a process has started, and itself last; empty where it is gone."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    return []


def group(leader: int) -> list[psutil.Process]:
    """List what runs in the process group that a process began, but for itself: orphans stay in it."""
    found = []
    for process in psutil.process_iter() if os.name == "posix" else ():
        with suppress(psutil.Error, OSError):
            if process.pid != leader and os.getpgid(process.pid) == leader:
                found.append(process)
    return found


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill each process that still runs."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def wait_or_kill(process: "subprocess.Popen[Any]", grace_s: float) -> int:
    """Wait for a process that was asked to end, and kill it where it does not in time; gives its return code."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(grace_s)
    process.kill()
    return process.wait()


def wait_or_end(process: "subprocess.Popen[Any]", asked: Callable[[], bool], number: int, grace_s: float) -> int:
    """Wait until a process ends, by itself or because `asked` became true; gives its return code.

    Then it gets the signal `number`, and after `grace_s` what still runs of it and of what it started is killed.
    """
    while process.poll() is None and not asked():
        time.sleep(LOOK_S)
    if process.poll() is None:
        family = tree(process.pid)  # before it ends: an orphan no longer says whose child it was
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
        kill([*family, *tree(process.pid)])
    return process.wait()


def when_input_ends(then: Callable[[], None]) -> None:
    """Call a function, in a thread, when standard input ends: the process at its other end is gone, killed perhaps."""

    def watch() -> None:
        os.read(0, 1)  # nothing is ever written there; sys.stdin would be locked when the interpreter ends
        then()

    threading.Thread(target=watch, daemon=True).start()


def ending(code: int) -> str:
    """Say what a return code means: `SIGKILL`, `exit code 3`. 128 + n is how shells report the signal n."""
    with suppress(ValueError):
        number = -code if code < 0 else code - 128
        return signal.Signals(number).name
    return f"exit code {code}"
