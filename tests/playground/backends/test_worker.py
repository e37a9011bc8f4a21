"""What a worker does at once and what waits its turn."""

import io
import json
from typing import Any

from playground.backends.base import ModelSpec, RowRequest
from playground.backends.fake import FakeBackend
from playground.backends.scheduler import Scheduler
from playground.backends.worker import Worker
from playground.messages import Message
from playground.presets import Sampling


def rows(name: str, text: str = "q") -> dict[str, Any]:
    turns = (Message(role="user", content=text),)
    row = RowRequest(id=name, variant=name, messages=turns, sampling=Sampling(temperature=0.0))
    return {"op": "rows", "rows": [row.model_dump()], "at": 0.0}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"op": "call", "id": name, "name": name, "arguments": arguments}


def test_who_comes_after_a_call_that_waits_stays_behind_it() -> None:
    """Otherwise answers that keep coming would keep a score from ever being read, or the other way round."""
    sink = io.StringIO()
    worker = Worker(io.StringIO(), sink)
    backend = FakeBackend(ModelSpec(engine="fake", name="fake", path="fake:x"))
    scheduler = Scheduler(backend, worker._emit, worker._cancelled.__contains__)

    def told() -> list[str]:
        lines = [json.loads(line) for line in sink.getvalue().splitlines()]
        return [line["id"] for line in lines if line["type"] == "result" or line.get("kind") == "Finished"]

    score = call("prompt_logprobs", prompts=[[97]], top=0, adapter=None)
    for operation in (rows("long", "!long"), score, rows("behind"), call("pieces", ids=[97])):
        worker._operations.put(operation)
    for _ in range(40):
        worker._turn(scheduler)
    assert told() == ["pieces"]
    worker._cancelled.add("long")
    while len(told()) < 4:
        worker._turn(scheduler)
    assert told() == ["pieces", "long", "prompt_logprobs", "behind"]
