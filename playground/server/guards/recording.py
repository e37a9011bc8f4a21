"""The outermost guard: begins a request's record, names it in the answer, and tells the listeners how it ended."""

import time
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.server.guards.paths import route_of
from playground.server.guards.record import Record
from playground.server.wire.errors import ApiError

LEFT = 499
"""The status of a request whose client went before there was one, as nginx logs it."""


class Watch:
    """Passes every message on as it is, but for the header x-request-id."""

    def __init__(self, app: ASGIApp, listeners: Sequence[Callable[[Record], None]]) -> None:
        self.app = app
        self.listeners = listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; a bug is answered with OpenAI's error object and goes on to the server's log."""
        client = scope.get("client")
        record = Record(method=scope["method"], client=client[0] if client else "")
        scope.setdefault("state", {})["record"] = record
        ears = _Ears(record, receive, send)
        try:
            await self.app(scope, ears.receive, ears.send)
        except Exception:
            if not record.status and not record.left:
                await _bug(record).response()(scope, ears.receive, ears.send)
            raise
        finally:
            self._end(record, scope)

    def _end(self, record: Record, scope: Scope) -> None:
        record.seconds = time.monotonic() - record.began
        record.route = route_of(scope)
        record.status = record.status or (LEFT if record.left else 500)
        for listener in self.listeners:
            listener(record)


def _bug(record: Record) -> ApiError:
    return ApiError(500, f"A fault inside Madang; the log of the server tells more about {record.id}.")


class _Ears:
    """Hears the messages of one request."""

    def __init__(self, record: Record, receive: Receive, send: Send) -> None:
        self.record = record
        self._receive = receive
        self._send = send
        self._complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._complete:
            self.record.left = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.record.status = message["status"]
            named = (b"x-request-id", self.record.id.encode())
            message = {**message, "headers": [*message.get("headers", ()), named]}
        elif message["type"] == "http.response.body":
            if message.get("body") and self.record.first_byte_s is None:
                self.record.first_byte_s = time.monotonic() - self.record.began
            self._complete = not message.get("more_body", False)
        await self._send(message)
