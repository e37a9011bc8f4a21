"""What stands around the API's routes: log, metrics, keys, rate, body and queue, in this order. The page passes by."""

import re
import time
from collections.abc import Callable, Sequence

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.errors import ConfigError, refused
from playground.server.guards.keys import Keyring, Keys, read_keys
from playground.server.guards.limits import Body, Limits, Queue, Rate
from playground.server.guards.metrics import Meters
from playground.server.guards.record import LEFT, Record, RequestLog
from playground.server.wire.errors import ApiError, from_madang
from playground.settings import Settings, split_list
from playground.wording import worded

METRICS = "/metrics"
SINGLE = ("/tokenize", "/detokenize", METRICS)
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""Open to nobody unasked: `$` in the router's patterns looks past a newline at a path's end."""


def guard(app: FastAPI, settings: Settings) -> None:
    """Guard /v1/*, /tokenize, /detokenize and /metrics, which it adds; call it before a page is mounted at "/".

    Leaves `app.state.limits` and `app.state.meters`; routes report through `record_of(request.scope)`.
    """
    keys = read_keys(settings)
    if settings.api_origins and not keys:
        raise ConfigError(
            worded("stack.madang_api_origins"),
        )
    app.state.limits = Limits.of(settings)
    app.state.meters = Meters()
    app.add_api_route(METRICS, app.state.meters.page, include_in_schema=False)
    app.add_middleware(Guard, keys=keys, settings=settings, limits=app.state.limits, meters=app.state.meters)


def _for_browsers(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let pages of these origins ask: preflights, which never bring a key, are answered before the keys.

    No cookie is heeded there or here: a page has to know a key.
    """
    if not origins:
        return app
    return CORSMiddleware(app, origins, ("GET", "POST"), ("*",), allow_credentials=False, expose_headers=("*",))


class Guard:
    """Leads the API's requests through the guards, and all others past them."""

    def __init__(
        self, app: ASGIApp, keys: tuple[SecretStr, ...], settings: Settings, limits: Limits, meters: Meters
    ) -> None:
        self.app = app
        keyring = Keyring(keys)
        queue = Queue(app, limits.queue)
        meters.watch_queue(lambda: len(queue.held), queue.waiting)
        body = Body(queue, limits.body_bytes, keep=settings.api_log_prompts)
        keyed = Keys(Rate(body, limits.rate_per_minute), keyring, settings.host)
        recorded = Recorder(keyed, (meters.observe, RequestLog(settings.api_log_prompts).write))
        self.guarded = _for_browsers(recorded, split_list(settings.api_origins))
        self.metrics = Recorder(Keys(app, keyring, settings.host), ())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, by its path, to the guards or to the page."""
        path = route_path(scope) if scope["type"] == "http" else ""
        if not is_guarded(path):
            await self.app(scope, receive, send)
        elif path.rstrip("/") == METRICS:
            await self.metrics(scope, receive, send)
        else:
            await self.guarded(scope, receive, send)


class Recorder:
    """The outermost guard: begins a request's record, and hands it to the listeners when the request has ended.

    Every message passes as it is, but for the header x-request-id that the answer gets.
    """

    def __init__(self, app: ASGIApp, listeners: Sequence[Callable[[Record], None]]) -> None:
        self.app = app
        self.listeners = listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; what fails otherwise is answered with OpenAI's error object, and a bug is logged, too."""
        client = scope.get("client")
        record = Record(method=scope["method"], client=client[0] if client else "")
        scope.setdefault("state", {})["record"] = record
        messages = _Messages(record, receive, send)
        try:
            await self.app(scope, messages.receive, messages.send)
        except Exception as error:
            told = refused(error)
            if not record.status and not record.left:
                answer = from_madang(told) if told else _bug(record)
                await answer.response()(scope, messages.receive, messages.send)
            if told is None:
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


class _Messages:
    """Passes the messages of one request on, and notes in its record what they say."""

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


def route_path(scope: Scope) -> str:
    """Return the path as the router compares it, without the prefix of a proxy or a mount (`root_path`)."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    rest = path.removeprefix(root)
    return rest if path.startswith(root) and rest[:1] in ("", "/") else path


def is_guarded(path: str) -> bool:
    """Return whether the API answers there, or may; a slash at the end changes nothing, as the router redirects it."""
    known = path == "/v1" or path.startswith("/v1/") or path.rstrip("/") in SINGLE
    return known or CONTROL.search(path) is not None


def route_of(scope: Scope) -> str:
    """Return the pattern of the route that answered, `/v1/models/{model}`; empty where none of the API's did."""
    pattern = getattr(scope.get("route"), "path", "")
    return pattern if is_guarded(pattern) else ""
