"""Responses: server-sent events or one object; where the client hangs up, its rows are cancelled at once."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from playground.errors import MadangError
from playground.server.answers import Answers
from playground.server.guards.record import LEFT
from playground.server.wire.errors import ApiError, fault, from_madang

LOGGER = logging.getLogger("uvicorn.error")
DONE = "data: [DONE]\n\n"
BREAKS = {letter: f"\\u{ord(letter):04x}" for letter in "\x85\u2028\u2029"}
"""Letters that JSON leaves as they are, and that many readers, Python's `splitlines` too, take for a line's end."""
EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, whole or as events", "content": {"text/event-stream": {"itemSchema": EVENT}}}
}
"""What a route's description says of an answer that may be a stream."""


class EventStream(StreamingResponse):
    """Objects as events, then [DONE]. However the stream ends, its rows are closed with it."""

    def __init__(self, objects: AsyncIterator[BaseModel], answers: Answers | None = None) -> None:
        super().__init__(_events(objects), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._answers = answers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the stream; Starlette stops where the client hangs up."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._answers is not None:
                self._answers.close()


async def _events(objects: AsyncIterator[BaseModel]) -> AsyncIterator[str]:
    """Write objects as events; an error is an event too, as the status has been sent by then. [DONE] ends them all."""
    try:
        async for item in objects:
            yield _event(item.model_dump_json(exclude_unset=True))
    except ApiError as error:
        yield _event(error.body.model_dump_json())
    except MadangError as error:
        yield _event(from_madang(error).body.model_dump_json())
    except Exception:
        LOGGER.exception("A fault in the middle of a stream")
        yield _event(fault().body.model_dump_json())
    yield DONE


def _event(data: str) -> str:
    """Return JSON as one event, on one line for every reader: in JSON the letters of BREAKS stand in strings alone."""
    if not data.isascii():
        for letter, escaped in BREAKS.items():
            data = data.replace(letter, escaped)
    return f"data: {data}\n\n"


def json_response(answer: BaseModel) -> Response:
    """Return an answer in one piece, written by pydantic: only the fields that were set."""
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


async def while_connected(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """Return what the work gives; where the client hangs up first, the work is cancelled."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        working.cancel()
        await asyncio.wait({working})  # it writes what was read into the request's record
        return Response(status_code=LEFT)
    finally:
        leaving.cancel()
        working.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
