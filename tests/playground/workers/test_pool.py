"""Worker processes within a budget: who is evicted, who is waited for, who is refused."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from playground.compare import Comparison, Playground, Question
from playground.errors import MemoryBudgetError, VariantError, WorkerError
from playground.events import Delta, Event, Failed, Finished, Progress
from playground.messages import Conversation
from playground.presets import Sampling
from playground.protocol import ModelSpec, RowRequest
from playground.settings import Settings
from playground.system.hardware import GIB
from playground.system.logs import LOGS_KEPT
from playground.workers.memory import Need
from playground.workers.pool import WorkerPool
from playground.workers.process import WorkerProcess
from playground.workers.tickets import Ticket

pytestmark = pytest.mark.timeout(120)
GREEDY = Sampling(temperature=0.0)
ENDLESS = "!long !slow"


def spec(name: str, path: str = "fake:x") -> ModelSpec:
    return ModelSpec(engine="fake", name=name, path=path)


class Asked(Ticket):
    """One row and its events, which block until they come."""

    def __init__(self, name: str, text: str = "q") -> None:
        super().__init__(name, self)
        self.events: list[Event] = []
        self.changed = threading.Condition()
        self.told: list[tuple[str, str]] = []
        self.waiting = threading.Event()
        messages = Conversation.start().ask(text).messages
        self.row = (self, RowRequest(variant=name, messages=messages, sampling=GREEDY))

    def notify(self, step: str, detail: str) -> None:
        self.told.append((step, detail))
        self.waiting.set()

    def __call__(self, event: Event) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def wait(self, *kinds: type) -> Event:
        with self.changed:
            assert self.changed.wait_for(lambda: any(isinstance(e, kinds) for e in self.events), 60)
            return next(event for event in self.events if isinstance(event, kinds))

    def end(self) -> Event:
        return self.wait(Finished, Failed)


@pytest.fixture
def make_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WorkerPool]]:
    """Pools in which every model takes a GiB, loaded or not."""
    monkeypatch.setattr(WorkerProcess, "memory", lambda self: Need(ram=GIB))
    pools: list[WorkerPool] = []

    def make(models: float, estimate: Callable[[ModelSpec], Need] = lambda spec: Need(ram=GIB)) -> WorkerPool:
        pools.append(WorkerPool(Settings(data=tmp_path, ram_budget_gb=models), estimate=estimate))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def submit(pool: WorkerPool, model: ModelSpec, asked: Asked) -> WorkerProcess:
    """Ask, and give the worker that was asked."""
    pool.submit(model, [asked.row], asked.notify)
    worker = pool._workers[model]
    assert isinstance(worker, WorkerProcess)
    return worker


def answered(pool: WorkerPool, name: str) -> WorkerProcess:
    asked = Asked(name)
    worker = submit(pool, spec(name), asked)
    assert isinstance(asked.end(), Finished)
    return worker


def names(pool: WorkerPool) -> list[str]:
    return [loaded.spec.name for loaded in pool.loaded()]


def test_the_least_recently_used_idle_worker_leaves_first(make_pool: Callable[..., WorkerPool]) -> None:
    pool = make_pool(2.5)
    first, second = answered(pool, "a"), answered(pool, "b")
    assert answered(pool, "a") is first
    assert names(pool) == ["a", "b"]
    third = answered(pool, "c")
    assert names(pool) == ["c", "a"]
    assert not second.alive
    assert first.alive
    assert third.alive
    assert second._process.poll() is not None


def test_a_busy_worker_is_waited_for(make_pool: Callable[..., WorkerPool], monkeypatch: pytest.MonkeyPatch) -> None:
    looks = threading.Semaphore(0)

    def memory(worker: WorkerProcess) -> Need:
        looks.release()
        return Need(ram=GIB)

    monkeypatch.setattr(WorkerProcess, "memory", memory)
    pool = make_pool(1.5)
    busy, late = Asked("a", ENDLESS), Asked("b")
    worker = submit(pool, spec("a"), busy)
    busy.wait(Delta)
    thread = threading.Thread(target=submit, args=(pool, spec("b"), late))
    thread.start()
    assert late.waiting.wait(30)
    for _ in range(4):
        assert looks.acquire(timeout=30)  # it looks for room again and again
    assert worker.alive
    busy.cancel()
    end = busy.end()
    assert isinstance(end, Finished)
    assert (end.reason, isinstance(late.end(), Finished)) == ("cancelled", True)
    thread.join(30)
    assert late.told == [("queued", "a"), ("loading", "")]  # said once, however long it takes
    assert names(pool) == ["b"]


def test_who_waits_may_give_up(make_pool: Callable[..., WorkerPool]) -> None:
    pool = make_pool(1.5)
    impatient, caught = Asked("b"), []
    submit(pool, spec("a"), Asked("a", ENDLESS))

    def ask() -> None:
        with pytest.raises(WorkerError, match="b was cancelled before it was loaded") as error:
            submit(pool, spec("b"), impatient)
        caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert impatient.waiting.wait(30)
    impatient.cancel()
    thread.join(30)
    assert len(caught) == 1
    assert names(pool) == ["a"]


def test_who_gave_up_evicts_nobody(make_pool: Callable[..., WorkerPool]) -> None:
    pool = make_pool(1.5)
    first, impatient = answered(pool, "a"), Asked("b")
    impatient.cancel()
    with pytest.raises(WorkerError):
        submit(pool, spec("b"), impatient)
    assert first.alive


def test_what_can_never_fit_is_refused_with_numbers(make_pool: Callable[..., WorkerPool]) -> None:
    pool = make_pool(2.5, lambda spec: Need(ram=int(GIB * (9.2 if spec.name == "huge" else 1))))
    first = answered(pool, "a")
    with pytest.raises(MemoryBudgetError, match="huge needs about 9.2 GiB of RAM, and the budget is 2.5 GiB") as caught:
        submit(pool, spec("huge"), Asked("huge"))
    assert "Q4_K_M" in caught.value.hint
    assert "MADANG_RAM_BUDGET_GB" in caught.value.hint
    assert first.alive
    on_card = make_pool(2.5, lambda spec: Need(ram=1, vram=10 * GIB))
    with pytest.raises(MemoryBudgetError, match="10.0 GiB of VRAM") as caught:
        submit(on_card, spec("x"), Asked("x"))
    assert "MADANG_VRAM_BUDGET_GB" in caught.value.hint


def test_two_comparisons_that_want_more_than_fits_both_end(
    fake_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerProcess, "memory", lambda self: Need(ram=GIB))
    settings = fake_settings.model_copy(update={"ram_budget_gb": 1.5})
    playground = Playground(settings, pool=WorkerPool(settings, estimate=lambda spec: Need(ram=GIB)))

    def ask(*order: str) -> Comparison:
        messages = Conversation.start().ask("q").messages
        return playground.ask([Question(variant=name, messages=messages, sampling=GREEDY) for name in order])

    try:
        for comparison in [ask("base", "other", "third"), ask("third", "other", "base")]:
            last = [event for event in comparison if isinstance(event, Finished | Failed)]
            assert sorted(event.variant for event in last if isinstance(event, Finished)) == ["base", "other", "third"]
    finally:
        playground.close()


def test_a_pane_that_is_queued_says_behind_whom_and_can_be_cancelled(
    fake_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerProcess, "memory", lambda self: Need(ram=GIB))
    settings = fake_settings.model_copy(update={"ram_budget_gb": 1.5})
    playground = Playground(settings, pool=WorkerPool(settings, estimate=lambda spec: Need(ram=GIB)))

    def ask(name: str, text: str) -> Comparison:
        messages = Conversation.start().ask(text).messages
        return playground.ask([Question(variant=name, messages=messages, sampling=GREEDY)])

    try:
        first = iter(ask("base", ENDLESS))
        assert any(isinstance(event, Delta) for event in first)
        second = ask("other", "q")
        events = iter(second)
        assert next(events) == Progress(variant="other", step="queued", detail="base")
        second.cancel()
        (end,) = events
        assert isinstance(end, Finished)
        assert end.reason == "cancelled"
        assert names(playground.pool) == ["base"]
        assert isinstance(next(event for event in first), Delta)  # it was not evicted
    finally:
        playground.close()


def test_refusals_are_told_and_the_next_ask_tries_again(make_pool: Callable[..., WorkerPool]) -> None:
    pool = make_pool(9)
    for _ in range(2):
        with pytest.raises(VariantError, match="fake:broken is broken") as caught:
            submit(pool, spec("x", "fake:broken"), Asked("x"))
        assert caught.value.hint == "Use another path."
    with pytest.raises(WorkerError, match="SIGABRT"):
        submit(pool, spec("x", "fake:aborts"), Asked("x"))
    assert pool.loaded() == []


def test_asking_a_dead_worker_starts_a_fresh_one(make_pool: Callable[..., WorkerPool]) -> None:
    pool = make_pool(9)
    first = answered(pool, "a")
    first._process.kill()
    first._process.wait()
    second = answered(pool, "a")
    assert second is not first
    with pytest.raises(WorkerError, match="worker of a is gone"):
        first.ask([Asked("a").row])
    first.cancel(["a"])  # nothing to stop, and no error


def test_words_are_looked_up_and_scores_read_while_others_answer(make_pool: Callable[..., WorkerPool]) -> None:
    pool = make_pool(2.5)
    asked, read = Asked("r", ENDLESS), threading.Event()
    worker = submit(pool, spec("a"), asked)
    asked.wait(Delta)

    def score() -> None:
        worker.call("prompt_logprobs", prompts=[[97, 98]], top=1)
        read.set()

    scorer = threading.Thread(target=score)
    scorer.start()
    assert worker.call("encode", texts=["ab"], add_special=None) == [[97, 98]]
    assert worker.call("pieces", ids=[97]) == [[97]]
    assert worker.call("render", variant="v", messages=[], prompt_format=None)["stops"] == []
    scorer.join(60)
    assert read.is_set()
    assert not any(isinstance(event, Finished) for event in asked.events)
    asked.cancel()
    assert isinstance(asked.end(), Finished)


def test_a_call_that_is_given_up_holds_nobody_up(make_pool: Callable[..., WorkerPool]) -> None:
    pool = make_pool(2.5)
    gone = threading.Event()
    hold, other = pool.hold(spec("a", "fake:slow"), gone.is_set), pool.hold(spec("a", "fake:slow"))
    threading.Timer(0.3, gone.set).start()
    with pytest.raises(WorkerError, match="nobody waits for"):
        hold.call("prompt_logprobs", prompts=[[97, 98]] * 1000, top=1)
    began = time.monotonic()
    assert other.call("prompt_logprobs", prompts=[[97, 98]], top=0)
    assert time.monotonic() - began < 5  # of 100 s that the other would have taken
    hold.release()
    other.release()
    assert not hold.worker.busy


def test_who_gives_up_while_it_loads_need_not_wait_for_it(make_pool: Callable[..., WorkerPool]) -> None:
    pool, asked = make_pool(2.5), Asked("r")
    threading.Timer(0.3, asked.cancel).start()
    for ask in (
        lambda: submit(pool, spec("s", "fake:sleepy"), asked),
        lambda: pool.hold(spec("s", "fake:sleepy"), lambda: asked.cancelled),
    ):
        with pytest.raises(WorkerError, match="was cancelled before it was"):
            ask()
    [worker] = pool._workers.values()
    assert worker.holds == 0


def test_a_refused_call_says_what_it_was(make_pool: Callable[..., WorkerPool]) -> None:
    worker = answered(make_pool(2.5), "a")
    with pytest.raises(VariantError, match="empty"):
        worker.call("prompt_logprobs", prompts=[[]], top=1)
    with pytest.raises(VariantError, match="nonsense"):
        worker.call("render", variant="v", messages=[], prompt_format="nonsense")
    assert worker.alive


def test_asks_that_arrive_while_it_loads_share_one_worker(make_pool: Callable[..., WorkerPool]) -> None:
    pool = make_pool(9)
    rows = [Asked(f"r{number}") for number in range(6)]
    workers: list[WorkerProcess] = []
    threads = [
        threading.Thread(target=lambda asked=asked: workers.append(submit(pool, spec("a"), asked))) for asked in rows
    ]
    for thread in threads:
        thread.start()
    assert all(isinstance(asked.end(), Finished) for asked in rows)
    for thread in threads:
        thread.join(30)
    assert len(set(map(id, workers))) == 1


def test_a_sink_that_breaks_ends_the_other_rows(
    make_pool: Callable[..., WorkerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    pool = make_pool(9)

    def breaks(event: Event) -> None:
        raise ZeroDivisionError

    good, bad = Asked("a", ENDLESS), Asked("b")
    bad.sink = breaks
    submit(pool, spec("a"), good)
    submit(pool, spec("a"), bad)
    assert isinstance(good.end(), Failed)
    assert isinstance(answered(pool, "a"), WorkerProcess)


def test_logs_stay_few_and_names_are_safe(make_pool: Callable[..., WorkerPool], tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "job.log").touch()
    for number in range(LOGS_KEPT + 20):
        (logs / f"worker-old-{number}.log").touch()
    pool = make_pool(9)
    worker = answered(pool, f"../{'이름' * 100}:Q4/x")
    assert worker.log.parent == logs
    assert worker.log.exists()
    assert len(list(logs.glob("worker-*.log"))) == LOGS_KEPT
    assert (logs / "job.log").exists()


def test_unloading_what_is_not_loaded_does_nothing(make_pool: Callable[..., WorkerPool]) -> None:
    make_pool(9).unload(spec("a"))


def test_loaded_rows_say_how_long_they_are_idle(make_pool: Callable[..., WorkerPool]) -> None:
    pool = make_pool(9)
    answered(pool, "a")
    (loaded,) = pool.loaded()
    assert (loaded.busy, loaded.memory, loaded.info.dtype) == (False, Need(ram=GIB), "fake")
    assert 0 <= loaded.idle_s < 60
