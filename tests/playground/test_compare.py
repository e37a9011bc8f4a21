"""One question, several variants, one stream: real worker processes on the fake engine, and all that can end one."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground.catalogue.hub import HubFile
from playground.catalogue.hub_search import HubModel
from playground.compare import MAX_VARIANTS, Comparison, Playground, Question
from playground.errors import ConfigError, UnknownNameError
from playground.events import Delta, Event, Failed, Finished, Progress, Started
from playground.messages import Conversation
from playground.presets import Sampling
from playground.settings import Settings
from playground.system.hardware import GIB
from playground.workers.memory import Need
from playground.workers.pool import Hold, WorkerPool
from playground.workers.process import WorkerProcess
from playground.workers.tickets import Rows

pytestmark = pytest.mark.timeout(120)
SOON = 10.0
"""Seconds that no busy machine needs, and less than what any cancelled step here would take by itself."""
GREEDY = Sampling(temperature=0.0)
ENDLESS = "!long !slow"


def questions(asked: dict[str, str], sampling: Sampling = GREEDY) -> list[Question]:
    return [
        Question(variant=name, messages=Conversation.start().ask(text).messages, sampling=sampling)
        for name, text in asked.items()
    ]


def ask(playground: Playground, sampling: Sampling = GREEDY, **asked: str) -> Comparison:
    return playground.ask(questions(asked, sampling))


def ends(events: Iterator[Event] | Comparison) -> dict[str, Finished | Failed]:
    return {event.variant: event for event in events if isinstance(event, Finished | Failed)}


def text(event: Finished | Failed) -> str:
    assert isinstance(event, Finished), event
    return event.text


def failure(event: Finished | Failed) -> Failed:
    assert isinstance(event, Failed), event
    return event


def follow(events: Iterator[Event], wanted: Callable[[Event], bool]) -> list[Event]:
    """Events up to the wanted one."""
    seen = []
    for event in events:
        seen.append(event)
        if wanted(event):
            return seen
    raise AssertionError(f"it never came: {seen}")


def said(variant: str, kind: Any, step: str | None = None) -> Callable[[Event], bool]:
    return lambda event: (
        event.variant == variant
        and isinstance(event, kind)
        and (step is None or (isinstance(event, Progress) and event.step == step))
    )


def pids(playground: Playground) -> dict[str, int]:
    workers = playground.pool._workers.items()
    return {spec.name: worker.pid for spec, worker in workers if isinstance(worker, WorkerProcess)}


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_base_and_adapters_answer_from_one_worker_and_others_beside_it(playground: Playground) -> None:
    events = list(ask(playground, base="q0", one="q1", two="q2", other="q3"))
    answers = ends(iter(events))
    assert {name: text(event) for name, event in answers.items()} == {
        "base": "base heard: q0",
        "one": "one heard: q1",
        "two": "two heard: q2",
        "other": "other heard: q3",
    }
    for name in answers:
        own = [event for event in events if event.variant == name]
        assert list(dict.fromkeys(type(event) for event in own)) == [Progress, Started, Delta, Finished]
        assert own[0] == Progress(variant=name, step="loading")
        assert "".join(event.text for event in own if isinstance(event, Delta)) == text(answers[name])
    assert set(pids(playground)) == {"base", "other"}
    assert {row.spec.name: (row.busy, row.info.context) for row in playground.pool.loaded()} == {
        "base": (False, 4096),
        "other": (False, 512),
    }
    before = pids(playground)
    assert text(ends(ask(playground, two="again"))["two"]) == "two heard: again"
    assert pids(playground) == before


def test_variants_that_bring_no_seed_share_one(playground: Playground) -> None:
    drawn = Sampling(temperature=0.5)
    first, second = (ends(ask(playground, drawn, base="q", one="q")) for _ in range(2))
    numbers = [text(event).split("#")[1] for event in [*first.values(), *second.values()]]
    assert numbers[0] == numbers[1]
    assert numbers[2] == numbers[3] != numbers[0]
    seeded = [text(ends(ask(playground, Sampling(seed=7), base="q"))["base"]) for _ in range(2)]
    assert seeded[0] == seeded[1]


def test_what_cannot_be_asked_is_refused_before_anything_starts(playground: Playground) -> None:
    with pytest.raises(UnknownNameError, match="'bass'") as caught:
        ask(playground, base="q", bass="q")
    assert caught.value.near == ["base"]
    many = [question for _ in range(MAX_VARIANTS + 1) for question in questions({"base": "q"})]
    for asked in ([], many[:2], many):
        with pytest.raises(ConfigError, match=f"1 to {MAX_VARIANTS} different variants"):
            playground.ask(asked)
    for messages in ((), Conversation.start().ask("q").answer("a").messages):
        with pytest.raises(ConfigError, match="base got no question"):
            playground.ask([Question(variant="base", messages=messages, sampling=GREEDY)])
    assert pids(playground) == {}


@pytest.mark.parametrize(
    ("number", "said_so"),
    [
        (signal.SIGKILL, "running out of memory"),
        (signal.SIGABRT, "damaged files"),
        (signal.SIGILL, "another processor"),
    ],
)
def test_a_killed_worker_costs_its_own_panes_an_error(
    number: signal.Signals, said_so: str, playground: Playground
) -> None:
    events = iter(ask(playground, base=ENDLESS, one=ENDLESS, other="!slow fine"))
    seen = follow(events, said("base", Delta))
    pid = pids(playground)["base"]
    os.kill(pid, number)
    last = ends(iter([*seen, *events]))
    assert text(last["other"]) == "other heard: !slow fine"
    for name in ("base", "one"):
        event = failure(last[name])
        assert f"The worker of base ended with {number.name}" in event.message
        assert "a fresh worker starts" in event.hint
        assert said_so in event.hint
    assert text(ends(ask(playground, base="again"))["base"]) == "base heard: again"
    assert pids(playground)["base"] != pid


def test_an_engine_that_aborts_while_answering(playground: Playground) -> None:
    last = ends(ask(playground, base="!crash", other="fine"))
    assert "SIGABRT" in failure(last["base"]).message
    assert text(last["other"]) == "other heard: fine"


def test_models_that_do_not_come_up(playground: Playground) -> None:
    last = ends(ask(playground, broken="q", aborts="q", base="q"))
    assert failure(last["broken"]).message == "fake:broken is broken."
    assert failure(last["broken"]).hint == "Use another path."
    assert "SIGABRT" in failure(last["aborts"]).message
    assert text(last["base"]) == "base heard: q"
    again = ends(ask(playground, broken="q", base="q"))
    assert failure(again["broken"]).message == "fake:broken is broken."


class SlowHub:
    """A hub whose download waits until it is let go."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.go, self.left = folder, threading.Event(), threading.Event()
        self.whole = False

    def files(self, repo: str, revision: str | None, patterns: list[str] | None = None) -> list[HubFile]:
        return [HubFile("model.safetensors", GIB, False)]

    def fetch_folder(self, repo: str, revision: str | None, progress: Callable[[float, str], None]) -> Path:
        try:
            progress(0.25, f"{repo}: 0.25 of 1.00 GiB")
            self.go.wait(60)
            progress(0.5, f"{repo}: 0.50 of 1.00 GiB")
            self.whole = True
            return self.folder
        finally:
            self.left.set()

    def search(self, query: str) -> list[HubModel]:
        raise AssertionError("nobody searches")

    def here(self, repo: str, revision: str | None, name: str | None = None) -> Path | None:
        return None

    def fetch_plan(self, repo: str, revision: str | None, progress: Any) -> tuple[Path, int]:
        raise AssertionError("nobody plans")

    def fetch_file(self, repo: str, name: str | None, revision: str | None, progress: Any) -> Path:
        raise AssertionError("nobody asked for a file")


def cancelled(comparison: Comparison, events: Iterator[Event], variant: str) -> Finished:
    """Cancel a variant and give its end, which must come soon."""
    began = time.monotonic()
    comparison.cancel([variant])
    last = follow(events, said(variant, Finished | Failed))[-1]
    assert time.monotonic() - began < SOON
    assert isinstance(last, Finished), last
    assert last.reason == "cancelled"
    return last


def test_cancelled_while_downloading_the_download_stops(fake_settings: Settings, model_files: Any) -> None:
    hub = SlowHub(model_files.base(fake_settings.data / "far"))
    playground = Playground(fake_settings, hub)
    try:
        comparison = ask(playground, far="q")
        events = iter(comparison)
        progress = follow(events, said("far", Progress, "downloading"))[-1]
        assert progress == Progress(
            variant="far", step="downloading", fraction=0.25, detail="owner/far: 0.25 of 1.00 GiB"
        )
        cancelled(comparison, events, "far")
        assert list(events) == []
        hub.go.set()
        assert hub.left.wait(30)
        assert not hub.whole
        for thread in threading.enumerate():
            if thread.name.startswith("ask "):
                thread.join(30)
        assert pids(playground) == {}
    finally:
        playground.close()


def test_cancelled_while_loading(playground: Playground) -> None:
    comparison = ask(playground, sleepy="q", base="q")
    events = iter(comparison)
    follow(events, said("sleepy", Progress, "loading"))
    cancelled(comparison, events, "sleepy")


def test_one_of_a_group_cancelled_while_loading_is_not_answered_afterwards(fake_settings: Settings) -> None:
    class Loading:
        """A pool whose model is loaded when it is let go; it stands for its worker, too."""

        def __init__(self) -> None:
            self.go, self.told = threading.Event(), threading.Event()
            self.asked: list[str] = []

        def submit(self, spec: Any, rows: Rows, notify: Any) -> None:
            assert self.go.wait(30)
            assert not all(ticket.cancelled for ticket, _ in rows)  # the other still wants its answer
            Hold(self, lambda: None).submit(rows)  # type: ignore[arg-type]
            self.told.set()

        def ask(self, rows: Rows) -> None:
            self.asked += [row.id for _, row in rows]

        def cancel(self, ids: list[str]) -> None:
            raise AssertionError("the one that was cancelled is never asked")

    pool = Loading()
    comparison = ask(Playground(fake_settings, pool=pool), base=ENDLESS, one="q")  # type: ignore[arg-type]
    cancelled(comparison, iter(comparison), "base")
    pool.go.set()
    assert pool.told.wait(30)
    assert pool.asked == [comparison._tickets["one"].id]


def test_cancelled_while_reading(playground: Playground) -> None:
    comparison = ask(playground, wide="!slow" + "x" * 200_000)
    events = iter(comparison)
    follow(events, said("wide", Progress, "reading"))
    end = cancelled(comparison, events, "wide")
    assert (end.text, end.stats.tokens) == ("", 0)


def test_cancelled_while_answering_the_others_go_on(playground: Playground) -> None:
    comparison = ask(playground, base=ENDLESS, one=ENDLESS)
    events = iter(comparison)
    follow(events, said("one", Delta))
    end = cancelled(comparison, events, "one")
    assert end.text
    assert (f"one heard: {ENDLESS}" * 1000).startswith(end.text)
    follow(events, said("base", Delta))
    assert cancelled(comparison, events, "base").text.startswith("base heard"[:3])
    assert list(events) == []


def test_cancel_after_the_end_does_nothing(playground: Playground) -> None:
    comparison = ask(playground, base="q")
    assert text(ends(comparison)["base"]) == "base heard: q"
    comparison.cancel()
    assert text(ends(ask(playground, base="r"))["base"]) == "base heard: r"


def test_two_comparisons_at_once_on_one_worker_keep_apart(playground: Playground) -> None:
    sampling = GREEDY.model_copy(update={"max_new_tokens": 40})
    both = [ask(playground, sampling, base=f"{ENDLESS} {number}", one=f"{number}") for number in range(2)]
    for number, comparison in enumerate(both):
        last = ends(comparison)
        assert text(last["base"]) == f"base heard: {ENDLESS} {number}base heard: {ENDLESS} {number}"[:40]
        assert text(last["one"]) == f"one heard: {number}"
    assert list(pids(playground)) == ["base"]


def test_native_prints_do_not_reach_the_protocol(playground: Playground) -> None:
    assert text(ends(ask(playground, noisy="q"))["noisy"]) == "noisy heard: q"
    log = next(playground.settings.logs_dir.glob("worker-noisy-*.log")).read_text(encoding="utf-8")
    assert "native code prints what it likes" in log
    assert "and so does Python" in log


def test_long_lines_and_any_characters_come_through(playground: Playground) -> None:
    odd = "\u2028\x00\x85\r\n{}"
    sampling = GREEDY.model_copy(update={"max_new_tokens": 20})
    events = list(ask(playground, sampling, wide="가" * 100_000 + odd))
    started = next(event for event in events if isinstance(event, Started))
    assert started.prompt == f"user: {'가' * 100_000}{odd}\n"
    assert text(ends(ask(playground, base="!emoji"))["base"]) == "안녕 👩‍👩‍👧 마당 🎉"
    assert text(ends(ask(playground, base=odd))["base"]) == f"base heard: {odd}"


def test_unloading_while_it_answers(playground: Playground) -> None:
    events = iter(ask(playground, base=ENDLESS))
    follow(events, said("base", Delta))
    (spec,) = playground.pool._workers
    playground.pool.unload(spec)
    event = failure(ends(events)["base"])
    assert event.message == "base was unloaded while it was answering."
    assert playground.pool.loaded() == []


def test_closing_leaves_no_processes_and_starts_none(fake_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.workers.pool.WorkerProcess.memory", lambda self: Need(ram=GIB))
    settings = fake_settings.model_copy(update={"ram_budget_gb": 2.5})
    playground = Playground(settings, pool=WorkerPool(settings, estimate=lambda spec: Need(ram=GIB)))
    events = iter(ask(playground, base=ENDLESS))
    follow(events, said("base", Delta))
    follow(iter(ask(playground, sleepy="q")), said("sleepy", Progress, "loading"))
    waiting = iter(ask(playground, other="q"))
    follow(waiting, said("other", Progress, "queued"))
    running = list(pids(playground).values())
    assert len(running) == 2
    playground.close()
    assert "being ended" in failure(ends(events)["base"]).message
    assert isinstance(ends(waiting)["other"], Failed)
    assert all(gone(pid) for pid in running)
    assert isinstance(ends(ask(playground, other="q"))["other"], Failed)
    assert pids(playground) == {}


PARENT = """
import sys, time
from playground.compare import Playground, Question
from playground.events import Delta, Progress
from playground.messages import Conversation
from playground.presets import Sampling
from playground.settings import Settings
from pathlib import Path

def ask(name, text):
    messages = Conversation.start().ask(text).messages
    return playground.ask([Question(variant=name, messages=messages, sampling=Sampling(temperature=0))])

playground = Playground(Settings(data=Path(sys.argv[1])))
list(ask("other", "idle"))
next(event for event in ask("base", "!long !slow") if isinstance(event, Delta))
next(event for event in ask("sleepy", "q") if isinstance(event, Progress))
while len(playground.pool._workers) < 3:
    time.sleep(0.01)
sys.stdout.write(" ".join(str(worker.pid) for worker in playground.pool._workers.values()) + "\\n")
sys.stdout.flush()
time.sleep(600)
"""


def test_workers_end_when_their_parent_is_killed(fake_settings: Settings) -> None:
    command = [sys.executable, "-c", PARENT, str(fake_settings.data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        os.kill(parent.pid, signal.SIGKILL)
    assert len(workers) == 3
    assert [gone(pid) for pid in workers] == [True, True, True]  # one idle, one answering, one loading


def test_a_fault_of_our_own_ends_the_pane_too(fake_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.set())

    def estimate(spec: object) -> Need:
        raise ZeroDivisionError("oops")

    playground = Playground(fake_settings, pool=WorkerPool(fake_settings, estimate=estimate))
    event = failure(ends(ask(playground, base="q"))["base"])
    assert "ZeroDivisionError: oops" in event.message
    assert "report" in event.hint
    assert raised.wait(30)  # and it stands in the terminal
    playground.close()


def test_an_answer_is_gone_on_with(playground: Playground) -> None:
    begun = Conversation.start().ask("hi").answer("Well").messages
    question = Question(variant="base", messages=begun, sampling=GREEDY, continues=True)
    started = [event for event in playground.ask([question]) if isinstance(event, Started)]
    assert started[0].prompt == "user: hi\nassistant: Well"
    with pytest.raises(ConfigError, match="go on with"):
        playground.ask([question.model_copy(update={"messages": begun[:1]})])
    with pytest.raises(ConfigError, match="no question"):
        playground.ask([question.model_copy(update={"continues": False})])
