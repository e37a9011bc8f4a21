"""Processes: which one a number means, how one is ended with all that it started, and how it ended, in words."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from playground.system.processes import ProcessId, ending, kill, tree, wait_or_end, wait_or_kill
from tests.places import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
Started = tuple["subprocess.Popen[str]", psutil.Process]
PARENT = """
import signal, subprocess, sys, time
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True).pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def start() -> Iterator[Callable[[str], Started]]:
    """Start a process with a child in a session of its own, which no signal to the parent reaches."""
    started: list[Started] = []

    def go(manners: str) -> Started:
        parent = subprocess.Popen([sys.executable, "-c", PARENT, manners], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        started.append((parent, psutil.Process(int(parent.stdout.readline()))))
        return started[-1]

    yield go
    for parent, child in started:
        parent.kill()
        parent.communicate()
        kill([child])


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, within a while; nobody here waits for a grandchild, so a zombie counts."""
    for _ in range(100):
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_number_means_the_process_that_was_born_then() -> None:
    me = ProcessId.of()
    assert me == ProcessId.of(os.getpid())
    assert me.alive
    assert not ProcessId(me.pid, me.born - 60).alive
    assert ProcessId(me.pid, float(int(me.born))).alive  # names of files keep whole seconds


def test_one_that_ended_does_not_run_whether_it_was_waited_for_or_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = ProcessId.of(process.pid)
    before = known.alive
    assert process.stdin is not None
    process.stdin.close()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)
    unwaited = known.alive
    process.wait()
    assert (before, unwaited, known.alive) == (True, False, False)
    assert ProcessId.of(process.pid).born == 0.0
    assert tree(process.pid) == []


def test_a_tree_is_killed_to_its_leaves(start: Callable[[str], Started]) -> None:
    parent, child = start("polite")
    kill(tree(parent.pid))
    assert ending(parent.wait(10)) == "SIGKILL"
    assert gone(child)
    kill([child])  # once more does no harm


@pytest.mark.parametrize(("manners", "how"), [("polite", "SIGTERM"), ("stubborn", "SIGKILL")])
def test_one_that_is_asked_to_end_leaves_nothing_behind(
    manners: str, how: str, start: Callable[[str], Started]
) -> None:
    parent, child = start(manners)
    asked = threading.Event()
    threading.Timer(0.3, asked.set).start()
    assert ending(wait_or_end(parent, asked.is_set, signal.SIGTERM, 1.0)) == how
    assert gone(child)


def test_one_that_ends_by_itself_is_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    assert wait_or_end(process, lambda: False, signal.SIGTERM, 1.0) == 3


def test_one_that_takes_too_long_is_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert wait_or_kill(process, 0.1) == -signal.SIGKILL


def test_the_end_of_input_is_heard() -> None:
    code = "import os, time; from playground.system.processes import when_input_ends as w; w(lambda: os._exit(7))"
    process = subprocess.Popen([sys.executable, "-c", f"{code}; time.sleep(60)"], stdin=subprocess.PIPE, cwd=ROOT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.0)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 7


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "SIGKILL"),
        (-6, "SIGABRT"),
        (137, "SIGKILL"),
        (255, "exit code 255"),
    ],
)
def test_a_return_code_in_words(code: int, words: str) -> None:
    assert ending(code) == words
