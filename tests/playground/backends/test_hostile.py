"""Ten requests that once held a model for minutes: who hangs up on one keeps nobody waiting, in both engines."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.errors import WorkerError
from playground.events import Delta, Event, Failed, Finished
from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import ModelSpec, RowRequest
from playground.workers.process import WorkerProcess
from playground.workers.tickets import Ticket

END = "<|im_end|>"
PATIENCE_S = 10.0
"""Ten times the second that a newcomer may wait: the machine may be busy."""


def turns(count: int) -> tuple[Message, ...]:
    return tuple(Message(role="user" if n % 2 == 0 else "assistant", content="x") for n in range(count | 1))


def says(*texts: str) -> tuple[Message, ...]:
    return tuple(Message(role="user" if n % 2 == 0 else "assistant", content=text) for n, text in enumerate(texts))


HOSTILE: dict[str, Callable[[], dict[str, Any]]] = {
    "60,000 turns": lambda: {"messages": turns(60_000)},
    "100,000 turns that may be shortened": lambda: {"messages": turns(100_000), "whole": False},
    "typed control tokens": lambda: {"messages": says(END * 200_000)},
    "control tokens": lambda: {"messages": says(END * 200_000), "parse_special": True},
    "control tokens in a raw text": lambda: {"text": END * 200_000},
    "control tokens and letters": lambda: {"messages": says(f"{END}a" * 180_000)},
    "control tokens in thoughts": lambda: {"messages": says("a", f"<think>{END}</think>" * 80_000, "b")},
    "one word": lambda: {"messages": says("x" * 2_000_000)},
    "white space": lambda: {"messages": says(" \n" * 1_000_000)},
    "syllables": lambda: {"messages": says("마당" * 330_000)},
}


@pytest.fixture(scope="module", params=["gguf", "transformers"])
def worker(request: Any, demo_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    gguf = next((demo_models / "smollm2-demo-gguf").glob("*.gguf"))
    spec = (
        ModelSpec(engine="llama_cpp", name="gguf", path=str(gguf), threads=2, context=8192)
        if request.param == "gguf"
        else ModelSpec(engine="transformers", name="base", path=str(demo_models / "smollm2"), threads=2)
    )
    worker = WorkerProcess(spec, tmp_path_factory.mktemp("worker") / "log")
    worker.wait_loaded()
    yield worker
    worker.stop()


class Asked:
    """A row that a worker has, and what came of it."""

    def __init__(self, worker: WorkerProcess, **fields: Any) -> None:
        self.first_token, self.ended = threading.Event(), threading.Event()
        self.last: Event | None = None
        self.ticket = Ticket("v", self._hear)
        sampling = Sampling(temperature=0.0, max_new_tokens=4)
        row = RowRequest(variant="v", sampling=sampling, **{"whole": True, **fields})
        worker.ask([(self.ticket, row.model_copy(update={"id": self.ticket.id}))])
        self.ticket.sent(worker.cancel)

    def _hear(self, event: Event) -> None:
        self.last = event
        if isinstance(event, Delta):
            self.first_token.set()
        if isinstance(event, Finished | Failed):
            self.ended.set()


def newcomer(worker: WorkerProcess, text: str) -> float:
    """Ask something new and return the seconds to its first token."""
    begun = time.monotonic()
    asked = Asked(worker, messages=says(text))
    assert asked.first_token.wait(120), asked.last
    waited = time.monotonic() - begun
    assert asked.ended.wait(120)
    return waited


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.parametrize("name", HOSTILE)
def test_a_newcomer_waits_for_nobody_who_hung_up(worker: WorkerProcess, name: str) -> None:
    alone = newcomer(worker, f"What is the opposite of {name}?")
    hostile = Asked(worker, **HOSTILE[name]())
    hostile.ended.wait(0.3)  # hung up in the middle of it
    hostile.ticket.cancel()
    assert newcomer(worker, f"Is {name} a thing?") < alone + PATIENCE_S
    assert hostile.ended.wait(60)


@pytest.mark.slow
@pytest.mark.models
def test_a_call_that_is_given_up_ends(worker: WorkerProcess) -> None:
    gone = threading.Event()
    threading.Timer(0.3, gone.set).start()
    texts = [f"{END}a" * 180_000] * 100
    with pytest.raises(WorkerError):
        worker.call("encode", gone.is_set, texts=texts, add_special=False)
    assert newcomer(worker, "Hello?") < PATIENCE_S
