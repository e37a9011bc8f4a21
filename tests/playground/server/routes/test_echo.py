"""Prompts that come back with their log-probabilities: read in portions, so that nobody waits for all of them."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from playground.presets import Sampling
from playground.server.routes.echo import MAX_LOGPROBS, PORTION, Echo, _check_count, portions, read
from playground.server.wire.errors import ApiError
from playground.server.wire.requests import CompletionRequest

GREEDY = Sampling(temperature=0.0, repetition_penalty=1.0, max_new_tokens=1)


def sizes(*prompts: list[int]) -> list[int]:
    return [len(part) for part in portions([Echo(ids, "") for ids in prompts])]


def test_portions_are_small_and_keep_together_what_begins_alike() -> None:
    assert sizes([1] * 10, [2] * 10) == [2]
    assert sizes([1] * PORTION, [2] * PORTION, [3] * 5) == [1, 1, 1]
    assert sizes([1] * PORTION, [*[1] * PORTION, 5], [*[1] * PORTION, 6, 7], [2] * PORTION) == [3, 1]
    assert sizes([1] * 5000) == [1]


def test_what_begins_alike_is_read_in_bounded_portions() -> None:
    beginning = [1] * 1000
    assert sizes(*([*beginning, *[number] * 100] for number in range(2, 32))) == [10, 10, 10]
    assert sizes(*([1] * 300 + [number] * 200 for number in range(2, 8))) == [2, 2, 2]
    assert sizes(*[[1] * 5000] * 50) == [50]
    assert sizes(*([number] for number in range(PORTION + 1))) == [PORTION, 1]


def test_more_than_an_answer_can_tell_is_refused() -> None:
    _check_count(MAX_LOGPROBS // 4, 2, 1)
    with pytest.raises(ApiError) as caught:
        _check_count(MAX_LOGPROBS // 4 + 1, 2, 1)
    problem = caught.value.problem
    assert (caught.value.status, problem.param, problem.code) == (400, "n", "invalid_value")
    for word in (f"{MAX_LOGPROBS // 4 + 1}", "1000000", "'n'", "'logprobs'"):
        assert word in problem.message


def test_a_client_that_has_gone_is_heard_between_two_portions() -> None:
    asked: list[str] = []
    target = SimpleNamespace(loadable=SimpleNamespace(adapter=None))

    class Line:
        info = SimpleNamespace(context=10**6)

        def call(self, name: str, **arguments: Any) -> Any:
            asked.append(name)
            return [[97]] * len(arguments.get("ids", ())) or [[{"id": 1, "raw": [97], "logprob": -1.0}] * PORTION]

    class Asking:
        limits = SimpleNamespace(prompt_tokens=10**6)

        async def with_worker(self, model: str, work: Callable[..., Any]) -> Any:
            done = work(target, Line())
            if "prompt_logprobs" in asked:
                reading.cancel()
            await asyncio.sleep(0)
            return done

    reading: asyncio.Future[Any]

    async def run() -> None:
        nonlocal reading
        prompts = [[number] * PORTION for number in range(1, 9)]
        body = CompletionRequest(model="m", prompt=prompts, echo=True, logprobs=1, max_tokens=3)
        asker: Any = Asking()
        reading = asyncio.ensure_future(read(body, GREEDY, asker))
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(run())
    assert asked.count("prompt_logprobs") == 1
