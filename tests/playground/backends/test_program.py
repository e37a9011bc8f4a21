"""What a worker does at once and what waits its turn."""

import io
import json
import threading
import time
from typing import Any

from playground.backends.fake import FakeBackend
from playground.backends.program import Program
from playground.backends.scheduler import Scheduler
from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import ModelSpec, RowRequest


def rows(name: str, text: str = "q") -> dict[str, Any]:
    turns = (Message(role="user", content=text),)
    row = RowRequest(id=name, variant=name, messages=turns, sampling=Sampling(temperature=0.0))
    return {"op": "rows", "rows": [row.model_dump()], "at": 0.0}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"op": "call", "id": name, "name": name, "arguments": arguments}


class Desk:
    """A worker without its process, and what it has told."""

    def __init__(self, path: str = "fake:x") -> None:
        self.sink = io.StringIO()
        self.worker = Program(io.StringIO(), self.sink)
        self.backend = FakeBackend(ModelSpec(engine="fake", name="fake", path=path))
        self.scheduler = Scheduler(self.backend, self.worker._emit, self.worker._cancelled.__contains__)

    def put(self, *operations: dict[str, Any]) -> None:
        for operation in operations:
            self.worker._operations.put(operation)

    def turn(self) -> None:
        self.worker._turn(self.scheduler)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.sink.getvalue().splitlines()]

    def told(self) -> list[str]:
        ends = [line for line in self.lines() if line["type"] == "result" or line.get("kind") == "Finished"]
        return [line["id"] for line in ends]


def score(name: str, prompts: int) -> dict[str, Any]:
    arguments = {"prompts": [[97, 98]] * prompts, "top": 0, "adapter": None}
    return call("prompt_logprobs", **arguments) | {"id": name}


def test_a_long_call_and_answers_go_on_by_turns() -> None:
    """Neither waits for the other: who comes in the middle of the call is answered before it ends, and it does end."""
    desk = Desk("fake:slow")
    desk.put(rows("long", "!long !slow"), score("score", 4))
    desk.turn()  # takes the row, and the call with its first pause
    desk.put(rows("behind"), call("pieces", ids=[97]))
    while len(desk.told()) < 3:
        desk.turn()
    assert set(desk.told()) == {"pieces", "behind", "score"}
    desk.worker._cancelled.add("long")
    while "long" not in desk.told():
        desk.turn()


def test_who_comes_while_a_call_computes_is_answered_between_two_of_its_batches() -> None:
    desk = Desk("fake:slow")
    real, prompts = desk.backend.pause, 4
    desk.put(score("score", prompts))
    waited = iter(range(prompts))

    def others() -> None:
        if next(waited) == 1:
            desk.put(rows("behind"), call("pieces", ids=[97]))

    go_on = desk.worker._let_rows_go_on

    def let(scheduler: Scheduler[Any]) -> None:
        others()
        go_on(scheduler)

    desk.worker._let_rows_go_on = let  # type: ignore[method-assign]
    desk.turn()
    assert desk.told() == ["pieces", "behind", "score"]
    assert desk.backend.pause is not real


def test_calls_that_compute_come_one_after_another() -> None:
    desk = Desk()
    desk.put(score("one", 2), score("two", 2), rows("row"))
    while len(desk.told()) < 3:
        desk.turn()
    assert [name for name in desk.told() if name != "row"] == ["one", "two"]


def test_a_call_that_is_given_up_is_not_begun_or_ends_at_its_next_pause() -> None:
    desk = Desk("fake:slow")
    computed: list[Any] = []
    held = desk.backend.prompt_logprobs
    desk.backend.prompt_logprobs = lambda *given: computed.append(given) or held(*given)  # type: ignore[func-returns-value,method-assign]
    desk.worker._cancelled.add("gone")
    desk.put(score("gone", 3), score("here", 1))
    while not desk.told():
        desk.turn()
    assert desk.told() == ["here"]
    assert len(computed) == 1
    desk.put(score("leaves", 1000))
    threading.Timer(0.3, desk.worker._cancelled.add, ("leaves",)).start()
    began = time.monotonic()
    desk.turn()
    assert time.monotonic() - began < 5
    assert desk.told() == ["here"]
    assert desk.worker._cancelled == set()
