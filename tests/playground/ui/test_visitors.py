"""Shares of a Space's visitors: who counts as one, how often and how much at once; and the gate before Gradio."""

import asyncio
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi.responses import PlainTextResponse

from playground.conversations.turns import Chat
from playground.errors import WorkerError
from playground.protocol import ModelSpec
from playground.settings import Settings
from playground.ui import chat
from playground.ui.desk import Desk
from playground.ui.visitors import CALLS_A_MINUTE, UNANSWERED, Gate, Visitors, visitor
from playground.workers.pool import Notify, WorkerPool
from playground.workers.tickets import Rows

SPACE = Settings(mode="space", space_places=8, space_rate_per_minute=2)
JOIN = "/gradio_api/queue/join"


@pytest.mark.parametrize(
    ("host", "whose"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_a_visitor_is_an_address_or_a_network_of_one_home(host: str, whose: str) -> None:
    assert visitor(host) == whose


def test_shares_of_a_space() -> None:
    now = [0.0]
    visitors = Visitors(SPACE, lambda: now[0])
    assert visitors.refused("a", Counter({"a": 1, "b": 2})) is None
    assert visitors.refused("a", Counter({"a": 2})) == ("own_places", 2)
    assert visitors.refused("a", Counter({"b": 2, "c": 6})) == ("all_places", 8)
    assert visitors.refused("a", Counter()) is None
    assert visitors.refused("a", Counter()) == ("too_fast", 2)
    assert visitors.refused("b", Counter()) is None
    now[0] += 30
    assert visitors.refused("a", Counter()) is None


def test_where_the_owner_asks_nothing_is_counted() -> None:
    visitors = Visitors(Settings(space_rate_per_minute=1, space_places=1))
    assert [visitors.refused("", Counter({"": 9})) for _ in range(5)] == [None] * 5
    assert visitors.letters > SPACE.space_letters


def asked(gate: Gate, times: int, client: str = "198.51.100.1", path: str = JOIN, method: str = "POST") -> list[int]:
    """The answers to calls one after another."""

    async def calls() -> list[int]:
        transport = httpx.ASGITransport(gate, client=(client, 5000))
        async with httpx.AsyncClient(transport=transport, base_url="https://someone.hf.space") as http:
            return [(await http.request(method, path)).status_code for _ in range(times)]

    return asyncio.run(calls())


def gate(waiting: list[str] | None = None) -> Gate:
    """The gate before a page, whose queue holds calls from these addresses; its clock stands still."""
    events = {
        str(n): SimpleNamespace(request=SimpleNamespace(client=SimpleNamespace(host=host)))
        for n, host in enumerate(waiting or [])
    }
    queue: Any = SimpleNamespace(event_ids_to_events=events)
    return Gate(PlainTextResponse("the page"), queue, lambda: 0.0)


def test_calls_of_a_visitor_are_bounded_and_those_of_others_pass() -> None:
    it = gate()
    assert asked(it, CALLS_A_MINUTE + 1)[-2:] == [200, 429]
    assert asked(it, 1, "198.51.100.2") == [200]
    assert asked(it, 1, method="GET", path="/") == [200]
    assert asked(it, 1, method="GET", path="/gradio_api/heartbeat/a") == [200]


def test_a_visitor_has_so_many_calls_in_the_queue() -> None:
    full = gate(["2001:db8::1"] * UNANSWERED)
    assert asked(full, 1, "2001:db8::2") == [429]  # the same home
    assert asked(full, 1, "198.51.100.2") == [200]
    assert asked(gate(["198.51.100.1"] * (UNANSWERED - 1)), 1) == [200]


def test_a_model_knows_whose_question_it_answers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[str] = []

    def submit(pool: WorkerPool, spec: ModelSpec, rows: Rows, notify: Notify) -> None:
        groups.extend(row.group for _, row in rows)
        raise WorkerError("That is enough.")

    monkeypatch.setattr(WorkerPool, "submit", submit)
    values = {one: getattr(one, "value", None) for one in desk.view.inputs} | {
        desk.view.text: "hi",
        desk.view.picker: ["smollm2"],
    }
    list(chat.send(replace(desk, visitor="198.51.100.1"), values | {desk.view.chat: Chat()}, "session"))
    assert groups == ["198.51.100.1"]
