"""A row's ticket: cancelled before, while and after a worker has the row, it ends once and the worker is told."""

import threading
from collections.abc import Callable, Sequence

import pytest

from playground.errors import WorkerError
from playground.events import Delta, Event, Failed, Finished, Progress, Stats
from playground.presets import Sampling
from playground.protocol import RowRequest
from playground.workers.pool import Hold
from playground.workers.tickets import Rows, Ticket

ROW = RowRequest(variant="v", text="q", sampling=Sampling())


def finished(reason: str, text: str = "") -> Finished:
    stats = Stats(prompt_tokens=1, tokens=1, first_token_s=None, tokens_per_s=None, memory_bytes=0, dtype="")
    return Finished.model_validate({"variant": "v", "reason": reason, "text": text, "stats": stats})


class Desk:
    """A worker that answers when the test says so; `asking` runs while rows are on their way to it."""

    def __init__(self, asking: Callable[[], None] = lambda: None) -> None:
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self._asking = asking

    def ask(self, rows: Rows) -> None:
        self._asking()
        assert all(row.id == ticket.id for ticket, row in rows)
        self.asked += [row.id for _, row in rows]

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids


def submit(desk: Desk, *tickets: Ticket) -> None:
    Hold(desk, lambda: None).submit([(ticket, ROW) for ticket in tickets])  # type: ignore[arg-type]


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def ticket(events: list[Event]) -> Ticket:
    return Ticket("v", events.append)


def reasons(events: list[Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, Finished)]


def test_ids_differ_and_the_row_gets_its_own(ticket: Ticket) -> None:
    desk, other = Desk(), Ticket("v", print)
    submit(desk, ticket, other)
    assert desk.asked == [ticket.id, other.id]
    assert ticket.id != other.id


def test_cancelled_before_it_is_asked_it_ends_at_once_and_is_never_asked(ticket: Ticket, events: list[Event]) -> None:
    desk, other = Desk(), Ticket("v", print)
    ticket.cancel()
    assert (ticket.cancelled, other.cancelled) == (True, False)
    assert reasons(events) == ["cancelled"]
    submit(desk, ticket, other)
    assert (desk.asked, desk.cancelled) == ([other.id], [])
    ticket.cancel()
    ticket.deliver(Progress(variant="v", step="loading"))  # a late word of whoever prepared it
    ticket.fail(WorkerError("v was cancelled before it was loaded."))
    assert reasons(events) == ["cancelled"]
    assert len(events) == 1


def test_cancelled_on_its_way_to_the_worker_it_ends_at_once_and_the_worker_is_told(
    ticket: Ticket, events: list[Event]
) -> None:
    desk = Desk(ticket.cancel)
    submit(desk, ticket)
    assert (desk.asked, desk.cancelled) == ([ticket.id], [ticket.id])
    ticket.deliver(Delta(variant="v", text="a"))  # it had begun before it heard
    ticket.deliver(finished("cancelled", "a"))
    assert len(events) == 1
    assert reasons(events) == ["cancelled"]


def test_cancelled_at_the_worker_it_ends_with_what_it_has_and_is_told_once(ticket: Ticket, events: list[Event]) -> None:
    desk = Desk()
    submit(desk, ticket)
    ticket.deliver(Delta(variant="v", text="a"))
    ticket.cancel()
    ticket.cancel()
    assert desk.cancelled == [ticket.id]
    assert reasons(events) == []  # the worker says what had come by then
    ticket.deliver(Delta(variant="v", text="b"))
    ticket.deliver(finished("cancelled", "ab"))
    assert [type(event) for event in events] == [Delta, Delta, Finished]


def test_cancelled_after_the_end_nothing_happens(ticket: Ticket, events: list[Event]) -> None:
    desk = Desk()
    submit(desk, ticket)
    ticket.deliver(finished("stop"))
    ticket.cancel()
    ticket.cancel()
    assert (ticket.cancelled, desk.cancelled) == (False, [])
    assert reasons(events) == ["stop"]


def test_an_error_ends_it_once(ticket: Ticket, events: list[Event]) -> None:
    ticket.fail(WorkerError("It is gone.", "Ask again."))
    ticket.fail(WorkerError("Once more."))
    ticket.cancel()
    assert events == [Failed(variant="v", message="It is gone.", hint="Ask again.", error="WorkerError")]


def test_a_sink_may_cancel(events: list[Event]) -> None:
    def take(event: Event) -> None:
        events.append(event)
        made.cancel()

    made, desk = Ticket("v", take), Desk()
    submit(desk, made)
    made.deliver(Delta(variant="v", text="a"))
    assert desk.cancelled == [made.id]


class Race(Desk):
    """Cancels, asks and answers one ticket at the same moment, on three threads."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.ticket = Ticket("v", self.events.append)
        self._answering = threading.Thread(target=self._answer)
        self._together = threading.Barrier(3)

    def run(self) -> None:
        threads = [threading.Thread(target=self._at_once, args=(work,)) for work in (self._ask, self.ticket.cancel)]
        for thread in threads:
            thread.start()
        self._together.wait(30)
        for thread in threads:
            thread.join(30)
        if self.asked:
            self._answering.join(30)

    def _at_once(self, work: Callable[[], None]) -> None:
        self._together.wait(30)
        work()

    def _ask(self) -> None:
        submit(self, self.ticket)

    def ask(self, rows: Rows) -> None:
        super().ask(rows)
        self._answering.start()

    def cancel(self, ids: Sequence[str]) -> None:
        super().cancel(ids)
        self.ticket.deliver(finished("cancelled"))

    def _answer(self) -> None:
        self.ticket.deliver(Delta(variant="v", text="a"))
        self.ticket.deliver(finished("stop"))


def test_whoever_wins_the_race_it_ends_once_and_last() -> None:
    for _ in range(200):
        race = Race()
        race.run()
        ends = [place for place, event in enumerate(race.events) if isinstance(event, Finished | Failed)]
        assert ends == [len(race.events) - 1]
        assert len(race.cancelled) <= 1
