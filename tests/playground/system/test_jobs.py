"""Jobs: they outlive the page, say how they ended, stop when asked, and never claim to run when they do not."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from playground.errors import UnknownNameError
from playground.settings import Settings
from playground.system import jobs
from playground.system.jobs import Job
from playground.system.processes import ProcessId
from playground.system.progress import Progress
from tests.places import ROOT

POLITE = """
import json, pathlib, signal, sys, time
def stop(number, frame):
    pathlib.Path(sys.argv[1], "kept").write_text("what was made")
    sys.exit(1)
signal.signal(signal.SIGINT, stop)
pathlib.Path(sys.argv[1], "progress.json").write_text(json.dumps({"done": 3, "total": 7}))
print("ready", flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(f"ready {child.pid}", flush=True)
time.sleep(60)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


def started(settings: Settings, code: str, *arguments: str) -> Job:
    return jobs.start(settings, "test", [sys.executable, "-c", code, *arguments], {"what": "a test"})


def until(settings: Settings, job: Job, ready: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + 30
    while not ready(found := jobs.find(settings, job.id)):
        assert time.monotonic() < deadline, (found.state, found.log())
        time.sleep(0.05)
    return found


class Counted(Progress):
    done: int = 0
    total: int = 0


def over(job: Job) -> bool:
    return not job.active


def said(job: Job) -> bool:
    return any(line.startswith("ready") for line in job.log())


def test_a_job_says_how_it_ended(settings: Settings) -> None:
    job = started(settings, "print('one\\rtwo'); import sys; print('three', file=sys.stderr)")
    assert job.state == "running"
    done = until(settings, job, over)
    assert (done.state, done.code, done.about) == ("done", 0, {"what": "a test"})
    assert done.log() == ["two", "three"]
    assert 0 < done.seconds < 30


def test_one_that_fails_keeps_its_last_words(settings: Settings) -> None:
    done = until(settings, started(settings, "print('error: no.'); raise SystemExit(2)"), over)
    assert (done.state, done.code, done.log()) == ("failed", 2, ["error: no."])


def test_a_command_that_cannot_start_is_a_failure_with_a_reason(settings: Settings) -> None:
    done = until(settings, jobs.start(settings, "test", ["/nowhere/at/all"]), over)
    assert done.state == "failed"
    assert "could not be started" in done.log()[0]


def test_it_outlives_the_page_that_started_it(settings: Settings) -> None:
    page = f"""
from playground.system import jobs
from playground.settings import Settings
job = jobs.start(Settings(data={str(settings.data)!r}), "test",
    [{sys.executable!r}, "-c", "import time; time.sleep(2); print('and on')"])
print(job.id)
"""
    root = ROOT
    asked = subprocess.run([sys.executable, "-c", page], capture_output=True, text=True, check=True, cwd=root)
    job = jobs.find(settings, asked.stdout.strip())
    assert job.state == "running"
    done = until(settings, job, over)
    assert (done.state, done.log()) == ("done", ["and on"])


def test_cancelled_it_may_put_away_what_it_has(settings: Settings) -> None:
    job = started(settings, POLITE, "{job}")
    running = until(settings, job, said)
    assert running.progress(Counted) == Counted(done=3, total=7)
    jobs.cancel(running)
    assert jobs.find(settings, job.id).state in ("cancelling", "cancelled")
    assert until(settings, job, over).state == "cancelled"
    assert (job.folder / "kept").read_text() == "what was made"


def test_a_command_of_no_manners_hears_an_interrupt_too(settings: Settings) -> None:
    job = started(settings, "import time; print('ready', flush=True); time.sleep(60)")
    jobs.cancel(until(settings, job, said))
    done = until(settings, job, over)
    assert (done.state, done.log(1)) == ("cancelled", ["KeyboardInterrupt"])  # not killed after its grace


def test_one_that_does_not_listen_is_killed_with_its_children(settings: Settings) -> None:
    job = jobs.start(settings, "test", [sys.executable, "-c", STUBBORN], grace_s=0.5)
    running = until(settings, job, said)
    jobs.cancel(running)
    assert until(settings, running, over).state == "cancelled"
    child = int(running.log()[0].split()[1])
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_one_whose_processes_are_gone_is_lost_and_no_other_process_stands_in(settings: Settings) -> None:
    running = until(settings, started(settings, "print('ready', flush=True); import time; time.sleep(60)"), said)
    for pid, _ in running.pids:
        psutil.Process(pid).kill()
    assert until(settings, running, over).state == "lost"
    mine = (ProcessId(os.getpid(), running.started - 1000.0),)
    assert running.model_copy(update={"pids": mine}).state == "lost"


def test_the_command_of_a_keeper_that_died_still_runs_and_can_be_stopped(settings: Settings) -> None:
    running = until(settings, started(settings, "print('ready', flush=True); import time; time.sleep(60)"), said)
    psutil.Process(running.pids[0][0]).kill()
    time.sleep(0.3)
    orphan = jobs.find(settings, running.id)
    assert orphan.state == "running"
    jobs.cancel(orphan)
    assert until(settings, orphan, over).state == "cancelled"


def test_the_newest_come_first_and_only_so_many_are_kept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KEPT", 2)
    made = [until(settings, started(settings, "pass"), over).id for _ in range(3)]
    other = until(settings, jobs.start(settings, "another", [sys.executable, "-c", "pass"]), over)
    assert [job.id for job in jobs.listed(settings, "test")] == made[:0:-1]
    assert jobs.listed(settings)[0].id == other.id


def test_a_broken_folder_is_passed_over(settings: Settings) -> None:
    (jobs.folder(settings) / "broken").mkdir(parents=True)
    (jobs.folder(settings) / "broken" / "job.json").write_text(json.dumps({"id": 1}))
    assert jobs.listed(settings) == []
    with pytest.raises(UnknownNameError):
        jobs.find(settings, "broken")
