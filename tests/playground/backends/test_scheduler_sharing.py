"""Many at once on one backend: nobody waits for all of another's rows or prompts, and prompts are built once."""

from collections.abc import Callable
from typing import Any

import pytest

from playground.backends import scheduler as module
from playground.backends.prompting import Prompt
from playground.events import Failed, Started
from playground.messages import Conversation, Message
from playground.protocol import Backend, RowRequest
from tests.playground.backends.test_scheduler import GREEDY, Desk, Narrow


def test_a_row_joins_midway_and_all_decode_together() -> None:
    backend = Narrow()
    desk = Desk(backend)
    desk.add("a", "the first question is long enough")
    desk.run(until=lambda: len(backend.widths) == 5)
    desk.add("b", "second")
    desk.run()
    assert set(backend.widths[:5]) == {1}
    assert 2 in backend.widths
    assert desk.end("a").text == "a heard: the first question is long enough"
    assert desk.end("b").text == "b heard: second"


def test_without_room_rows_wait_in_the_order_they_came() -> None:
    backend = Narrow(rooms=1)
    desk = Desk(backend)
    ended: list[str] = []
    for name in "abc":
        desk.add(name)

    def watch() -> bool:
        ended.extend(n for n in "abc" if "Finished" in desk.kinds(n) and n not in ended)
        return False

    desk.run(until=watch)
    assert set(backend.widths) == {1}
    assert ended + [name for name in "abc" if name not in ended] == ["a", "b", "c"]
    assert [desk.end(name).text for name in "abc"] == ["a heard: hi", "b heard: hi", "c heard: hi"]


def test_a_request_of_many_rows_does_not_hold_another_up() -> None:
    desk = Desk(Narrow(rooms=2))
    for number in range(6):
        desk.add(f"many {number}", group="many")
    desk.add("one", group="one")
    desk.run(until=lambda: "Finished" in desk.kinds("one"))
    ended = [name for name in desk.said if "Finished" in desk.kinds(name)]
    assert ended == ["one"]  # it shared the two places with the first of them
    desk.run()


def test_no_request_takes_every_place_nor_is_read_first() -> None:
    backend = Narrow(rooms=8)
    backend.portion = 64  # one chunk of the fake's between two tokens
    backend.max_rows = 8
    desk = Desk(backend)
    for number in range(20):
        desk.add(f"many {number}", "x" * 200, group="many")
    desk.scheduler.step()
    assert len(backend.open_rows) == 6
    desk.add("one", group="one")
    steps = 0
    while "Finished" not in desk.kinds("one"):
        desk.scheduler.step()
        steps += 1
    assert steps < 20  # its own tokens, and nobody else's prompt before its own
    assert [name for name in desk.said if "Finished" in desk.kinds(name)] == ["one"]
    desk.run()


def test_whoever_is_answered_gets_tokens_while_many_prompts_are_read() -> None:
    backend = Narrow()
    backend.portion = 128  # two chunks of the fake's
    desk = Desk(backend)
    desk.add("first", "x" * 20)
    desk.run(until=lambda: len(backend.widths) == 1)
    for number in range(8):
        desk.add(f"{number}", "y" * 150)  # three chunks each
    desk.run(until=lambda: backend.widths[-1] > 1)
    assert len(backend.widths) > 3
    desk.run()
    assert desk.end("first").text.endswith("x" * 20)


def talk(turns: int) -> tuple[Message, ...]:
    made = Conversation.start("be brief")
    for number in range(turns):
        made = made.ask(f"question {number}").answer(f"answer {number}")
    return made.ask("the last").messages


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[RowRequest]:
    """The requests whose prompts are built."""
    built: list[RowRequest] = []
    real: Callable[[Backend[Any], RowRequest, int], Prompt] = vars(module)["prompt_of"]

    def build(backend: Backend[Any], request: RowRequest, most: int) -> Prompt:
        built.append(request)
        return real(backend, request, most)

    monkeypatch.setattr(module, "prompt_of", build)
    return built


def test_many_turns_take_few_looks(rendered: list[RowRequest]) -> None:
    desk = Desk(Narrow(context=160))
    desk.add("a", messages=talk(500))
    started = desk.said["a"][0]
    assert isinstance(started, Started)
    assert started.dropped_turns == 498
    assert len(rendered) < 14


def test_a_prompt_that_must_be_whole_is_refused_at_once() -> None:
    desk = Desk(Narrow(context=160))
    desk.add("a", messages=talk(10), whole=True)
    [failed] = desk.said["a"]
    assert isinstance(failed, Failed)
    assert failed.error == "ContextError"


def test_the_answers_of_one_request_build_their_prompt_once(rendered: list[RowRequest]) -> None:
    desk = Desk()
    for number in range(5):
        desk.add(f"{number}", "a question", GREEDY.model_copy(update={"seed": number}))
    desk.add("other", "another")
    assert len(rendered) == 2
    desk.run()
    assert desk.end("4").text == "4 heard: a question"
