"""Sessions that come, go, never come back or were never there: what is kept of them, over ASGI."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import gradio as gr
import pytest

from playground.settings import Settings
from playground.ui import sessions
from playground.ui.sessions import Session

from .served import API, Page, page_of

RESTING = 10
MANY = 3 * RESTING


@pytest.fixture(scope="module")
def a_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page_of(Settings(data=tmp_path_factory.mktemp("data"))) as page:
        yield page


@pytest.fixture
def page(a_page: Page, monkeypatch: pytest.MonkeyPatch) -> Page:
    """The page, as nobody has seen it."""
    monkeypatch.setattr(sessions, "RESTING", RESTING)
    for name in [*a_page.sessions.session_data, *a_page.blocks._queue.pending_event_ids_session]:
        a_page.sessions.drop(name)
    return a_page


def kept(page: Page) -> int:
    """How many sessions anything is kept of."""
    queue = page.blocks._queue
    places: tuple[Any, ...] = (
        page.sessions.session_data,
        page.sessions.time_last_used,
        queue.pending_messages_per_session,
        queue.pending_event_ids_session,
    )
    return len({name for place in places for name in place})


def test_heartbeats_of_strangers_keep_next_to_nothing(page: Page) -> None:
    async def come_and_go() -> None:
        for number in range(MANY):
            assert await page.read(f"{API}/heartbeat/stranger{number}") == 200

    asyncio.run(come_and_go())
    assert kept(page) <= RESTING
    states = list(page.sessions.session_data.values())
    assert all(isinstance(state, Session) and not state.config_values for state in states)
    assert not page.sessions._open


def test_calls_of_strangers_who_read_nothing_keep_no_answers(page: Page) -> None:
    async def ask() -> None:
        async with page.client() as http:
            with page.running():
                for number in range(MANY):
                    joined = await http.post(f"{API}/queue/join", json=page.event(f"stranger{number}"))
                    assert joined.status_code == 200
                while page.blocks._queue.event_ids_to_events:
                    await asyncio.sleep(0.01)

    asyncio.run(ask())
    assert kept(page) <= RESTING


def test_one_who_asks_on_and_reads_nothing_is_let_go(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "UNREAD", 10)
    most = 0

    async def ask() -> None:
        nonlocal most
        async with page.client() as http:
            with page.running():
                for _ in range(20):
                    await http.post(f"{API}/queue/join", json=page.event("deaf"))
                    while page.blocks._queue.event_ids_to_events:
                        await asyncio.sleep(0.001)
                    waiting = page.blocks._queue.pending_messages_per_session.get("deaf")
                    most = max(most, waiting.qsize() if waiting else 0)

    asyncio.run(ask())
    assert 0 < most <= 20  # an event adds a handful before the next one is looked at


def test_an_open_page_keeps_its_session_among_any_number_of_others(page: Page) -> None:
    async def live() -> None:
        begun, end = asyncio.Event(), asyncio.Event()
        reader = asyncio.create_task(page.read(f"{API}/heartbeat/mine", begun, end))
        await begun.wait()
        mine = page.sessions["mine"]
        for number in range(MANY):
            page.sessions[f"stranger{number}"]
        assert page.sessions["mine"] is mine
        end.set()
        await reader

    asyncio.run(live())


def test_open_pages_have_a_number_too(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    assert page.sessions.capacity == page.blocks.state_session_capacity == sessions.CAPACITY
    monkeypatch.setattr(page.sessions, "capacity", 2 * RESTING)
    with ExitStack() as held:
        for number in range(MANY):
            held.enter_context(page.sessions.opened(f"page{number}"))
            page.sessions[f"page{number}"]
        assert kept(page) == 2 * RESTING


def test_who_comes_back_finds_what_was_there(page: Page) -> None:
    async def live() -> None:
        state = page.sessions["laptop"]
        assert await page.read(f"{API}/heartbeat/laptop") == 200
        assert vars(state)["is_closed"]
        begun, end = asyncio.Event(), asyncio.Event()
        reader = asyncio.create_task(page.read(f"{API}/heartbeat/laptop", begun, end))
        await begun.wait()
        assert page.sessions["laptop"] is state
        assert not vars(state)["is_closed"]  # or Gradio would take its values away an hour later
        end.set()
        await reader

    asyncio.run(live())


def test_a_conversation_outlives_strangers_and_a_night(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ASKED", 5)
    key, empty = next((key, one.value) for key, one in page.blocks.blocks.items() if isinstance(one, gr.State))

    async def come_and_go(named: str, value: Any) -> None:
        for number in range(MANY):
            page.sessions[f"{named}{number}"][key] = value
            assert await page.read(f"{API}/heartbeat/{named}{number}") == 200

    page.sessions["laptop"][key] = "a conversation"
    asyncio.run(page.read(f"{API}/heartbeat/laptop"))
    asyncio.run(come_and_go("stranger", empty))
    state: Any = page.sessions.session_data["laptop"]
    state._state_ttl[key] = (3600, datetime.now() - timedelta(hours=9))
    page.sessions.delete_all_expired_state()  # type: ignore[no-untyped-call]
    assert page.sessions["laptop"][key] == "a conversation"
    asyncio.run(come_and_go("asker", "another"))
    assert kept(page) <= RESTING + 5
    assert f"asker{MANY - 1}" in page.sessions.session_data


def test_what_no_form_holds_is_told_its_sender_and_fills_no_log(page: Page, capfd: pytest.CaptureFixture[str]) -> None:
    event = page.event("stranger")
    picker = next(n for n, value in enumerate(event["data"]) if isinstance(value, list))
    event["data"][picker] = ["x" * 100_000]

    async def ask() -> str:
        async with page.client() as http:
            with page.running():
                answer = await http.post(f"{API}/run/predict", json=event)
        return answer.text

    said = asyncio.run(ask())
    out, err = capfd.readouterr()
    assert "xxx" in said
    assert len(said) < 2000
    assert "xxx" not in out + err


def test_names_are_as_long_as_a_page_makes_them(page: Page) -> None:
    async def ask() -> None:
        name = "x" * 4000
        for path in (f"heartbeat/{name}", f"queue/data?session_hash={name}"):
            assert await page.read(f"{API}/{path}") == 400
        async with page.client() as http:
            with page.running():
                for path in ("queue/join", "run/predict"):
                    assert (await http.post(f"{API}/{path}", json=page.event(name))).status_code == 400

    asyncio.run(ask())
    assert kept(page) == 0


def test_a_change_of_a_component_is_sent_and_nothing_of_it_is_kept(page: Page) -> None:
    """Gradio puts the changed component into the session, and reads off what it gets back what to send."""
    state = Session(page.blocks)
    (row,) = [block for block in page.blocks.blocks.values() if block.elem_id == "actions"]
    state[row._id] = changed = gr.Row(visible=True, render=False)
    assert state[row._id] is changed
    assert state[row._id] is row
