"""The end of a server: answers under way may go on for a while, and whoever asks meanwhile is told to come again."""

import asyncio

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.server.guards.stack import is_guarded, route_path
from playground.server.wire.errors import AGAIN, ending

OPEN = ("/gradio_api/heartbeat/",)
"""What a page holds open for as long as it is there: no answer."""


class Ending:
    """The outermost layer of an app: counts what is under way, and refuses what comes once the end has begun."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.begun = False
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; one that is cut off before its answer has begun hears why."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.begun:
            await _refusal(scope)(scope, receive, send)
            return
        counts = not route_path(scope).startswith(OPEN)
        self.running += counts
        try:
            await self._serve(scope, receive, send)
        finally:
            self.running -= counts

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:
            if started or not self.begun:
                raise
            await _refusal(scope)(scope, receive, send)


def _refusal(scope: Scope) -> Response:
    path, error = route_path(scope), ending()
    if is_guarded(path) or path == "/health":
        return error.response()
    return PlainTextResponse(error.problem.message, 503, {"Retry-After": AGAIN})
