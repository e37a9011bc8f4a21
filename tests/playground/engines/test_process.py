"""An engine's process: ready or not, its last words, and its end, which is also that of everything it started."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from playground.catalogue.variants import Remote
from playground.engines.plan import Plan
from playground.engines.process import KEEPER, Engine
from playground.errors import WorkerError
from playground.settings import Settings

pytestmark = pytest.mark.timeout(120)
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
Start = Callable[..., Engine]


@pytest.fixture
def start(shelf: Any, free_port: int, fake_command: Any) -> Iterator[Start]:
    """Starts fake engines, all of which are gone at the end."""
    engines: list[Engine] = []

    def go(mode: str, key: str | None = None, command: tuple[str, ...] | None = None) -> Engine:
        url = f"http://127.0.0.1:{free_port}/v1"
        plan = Plan(
            title="vLLM",
            command=(*(command or fake_command(mode)), "--port", str(free_port)),
            host="127.0.0.1",
            port=free_port,
            rows=(Remote(name="x-vllm", url=url, model="x"),),
            environment={"DO_NOT_TRACK": "1"},
            key_variable="VLLM_API_KEY" if key else None,
        )
        engines.append(Engine(plan, shelf.settings, key))
        return engines[-1]

    yield go
    for engine in engines:
        engine.stop()


def gone(pid: int) -> bool:
    """Whether a process has ended, within a while."""
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_it_is_waited_for_until_it_is_healthy(start: Start) -> None:
    engine = start("ready", key="sesame")
    waited: list[float] = []
    engine.wait_ready(60, lambda seconds, said: waited.append(seconds))
    assert waited
    told = httpx.get(f"{engine.plan.address}/about").json()
    assert told["keys"] == {"VLLM_API_KEY": "sesame"}
    assert told["quiet"] == "1"
    engine.stop()
    assert not engine.alive
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{engine.plan.address}/health")


def test_a_crash_before_it_is_ready_says_its_last_line(start: Start) -> None:
    engine = start("crash")
    with pytest.raises(WorkerError) as caught:
        engine.wait_ready(60)
    assert caught.value.message.startswith(
        "vLLM ended before it was ready with exit code 3: ValueError: out of memory on this card (log: "
    )
    assert engine.log.read_text().startswith("loading\n")


def test_a_crash_by_a_signal_is_named(start: Start) -> None:
    engine = start("ready")
    engine.wait_ready(60)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{engine.plan.address}/die")
    assert engine.epitaph().message.startswith("vLLM ended with SIGABRT: CUDA error: an illegal memory access (log: ")


def test_never_ready_is_given_up(start: Start) -> None:
    with pytest.raises(WorkerError, match=r"was not ready within 1 s \(log: ") as caught:
        start("never").wait_ready(1)
    assert "--timeout" in caught.value.hint


def test_another_server_in_its_place_is_not_taken_for_it(start: Start) -> None:
    with pytest.raises(WorkerError, match="does not serve x, but somebody-else") as caught:
        start("other").wait_ready(60)
    assert "--port" in caught.value.hint


def test_a_program_that_is_not_there(start: Start) -> None:
    with pytest.raises(WorkerError, match="exit code 127: no-such-engine cannot be started: No such file"):
        start("", command=("no-such-engine",)).wait_ready(60)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_stubborn_one_and_its_children_are_killed(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_PIDS", str(tmp_path / "pids"))
    brief = (
        "import sys; from playground.engines import keeper; keeper.GRACE_S = 0.5; sys.exit(keeper.main(sys.argv[1:]))"
    )
    monkeypatch.setattr("playground.engines.process.KEEPER", (sys.executable, "-c", brief))
    engine = start("stubborn")
    engine.wait_ready(60)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert all(psutil.pid_exists(pid) for pid in pids)
    engine.stop()
    assert all(gone(pid) for pid in pids)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_server_leaves_no_children(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PIDS", str(tmp_path / "pids"))
    engine = start("stubborn")
    engine.wait_ready(60)
    server, child = map(int, (tmp_path / "pids").read_text().split())
    os.kill(server, signal.SIGKILL)
    assert engine.epitaph().message.startswith("vLLM ended with SIGKILL")
    assert gone(child)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_keeper_leaves_no_server(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PIDS", str(tmp_path / "pids"))
    engine = start("stubborn")
    engine.wait_ready(60)
    os.kill(engine.pid, signal.SIGKILL)
    assert engine.epitaph().message.startswith("vLLM ended with SIGKILL")
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("keeper_too", [False, pytest.param(True, marks=ON_LINUX)])
def test_it_ends_when_we_are_killed(keeper_too: bool, tmp_path: Path, free_port: int, fake_command: Any) -> None:
    program = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from playground.engines.plan import Plan
        from playground.engines.process import Engine
        from playground.settings import Settings
        from playground.catalogue.variants import Remote
        row = Remote(name="x", url="http://127.0.0.1/v1", model="x")
        plan = Plan("vLLM", {fake_command("ready")!r} + ("--port", "{free_port}"), "127.0.0.1", {free_port}, (row,))
        engine = Engine(plan, Settings(data=Path({str(tmp_path)!r})), None)
        engine.wait_ready(60)
        print(engine.pid, flush=True)
        time.sleep(600)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        family = [pid, *(process.pid for process in psutil.Process(pid).children(recursive=True))]
        assert len(family) == 2
        if keeper_too:
            os.kill(pid, signal.SIGSTOP)  # so that it sees nothing of its parent's end
        parent.kill()
        if keeper_too:
            os.kill(pid, signal.SIGKILL)
        assert all(gone(one) for one in family)


@pytest.mark.parametrize("code", [0, 7])
def test_the_keeper_gives_the_command_s_exit_code(code: int) -> None:
    command = [*KEEPER, sys.executable, "-c", f"raise SystemExit({code})"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as running:
        assert running.wait(60) == code


def test_logs_go_where_the_others_are(start: Start, shelf: Any) -> None:
    settings: Settings = shelf.settings
    assert start("crash").log.parent == settings.logs_dir
