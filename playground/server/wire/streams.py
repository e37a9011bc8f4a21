"""Answers as server-sent events, and what happens when a client hangs up: its rows are cancelled at once."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from playground.errors import MadangError
from playground.server.answers import Answers
from playground.server.wire.errors import ApiError, of

DONE = "data: [DONE]\n\n"
BREAKS = {letter: f"\\u{ord(letter):04x}" for letter in "\x85\u2028\u2029"}
"""What JSON leaves as it is and many readers, Python's `splitlines` among them, take for the end of a line."""
LEFT = 499
"""The status of an answer that nobody waited for, as nginx logs it."""


class EventStream(StreamingResponse):
    """A stream of objects, then [DONE]. However it ends, no row goes on after it."""

    def __init__(self, objects: AsyncIterator[BaseModel], answers: Answers | None = None) -> None:
        super().__init__(_lines(objects), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._answers = answers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it; Starlette stops at a hang-up."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._answers is not None:
                self._answers.close()


async def _lines(objects: AsyncIterator[BaseModel]) -> AsyncIterator[str]:
    """Events; an error after the first is an event itself, as the status has been told."""
    try:
        async for item in objects:
            yield _event(item.model_dump_json(exclude_unset=True))
        yield DONE
    except ApiError as error:
        yield _event(error.body.model_dump_json())
    except MadangError as error:
        yield _event(of(error).body.model_dump_json())


def _event(data: str) -> str:
    """JSON as one event, on one line for every reader: in JSON such letters stand in strings alone."""
    if not data.isascii():
        for letter, escaped in BREAKS.items():
            data = data.replace(letter, escaped)
    return f"data: {data}\n\n"


def whole(answer: BaseModel) -> Response:
    """An answer in one piece."""
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


async def unless_gone(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """What the work gives; where the client hangs up first, the work is cancelled."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        working.cancel()
        await asyncio.wait({working})  # its end tells the request's record what was read
        return Response(status_code=LEFT)
    finally:
        leaving.cancel()
        working.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
