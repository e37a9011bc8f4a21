"""What stands around the API's routes: log, metrics, keys, rate, body and queue, in this order. The page passes by."""

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from playground.server.guards.keys import Keyring, Keys, read_keys
from playground.server.guards.limits import Body, Limits, Queue, Rate
from playground.server.guards.metrics import Meters
from playground.server.guards.paths import METRICS, is_guarded, route_path
from playground.server.guards.recording import Watch
from playground.server.guards.request_log import RequestLog
from playground.settings import Settings


def guard(app: FastAPI, settings: Settings) -> None:
    """Guard /v1/*, /tokenize, /detokenize and /metrics, which it adds; call it before a page is mounted at "/".

    Leaves `app.state.limits` and `app.state.meters`; routes report through `record_of(request.scope)`.
    """
    app.state.limits = Limits.of(settings)
    app.state.meters = Meters()
    app.add_api_route(METRICS, app.state.meters.page, include_in_schema=False)
    app.add_middleware(
        Guard, keys=read_keys(settings), settings=settings, limits=app.state.limits, meters=app.state.meters
    )


class Guard:
    """Leads the API's requests through the guards and all others past them."""

    def __init__(
        self, app: ASGIApp, keys: tuple[SecretStr, ...], settings: Settings, limits: Limits, meters: Meters
    ) -> None:
        self.app = app
        keyring = Keyring(keys)
        queue = Queue(app, limits.queue)
        meters.watch_queue(lambda: len(queue.held), queue.waiting)
        body = Body(queue, limits.body_bytes, keep=settings.api_log_prompts)
        keyed = Keys(Rate(body, limits.rate_per_minute), keyring, settings.host)
        self.guarded = Watch(keyed, (meters.observe, RequestLog(settings.api_log_prompts).write))
        self.metrics = Watch(Keys(app, keyring, settings.host), ())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Choose the way by the path."""
        path = route_path(scope) if scope["type"] == "http" else ""
        if not is_guarded(path):
            await self.app(scope, receive, send)
        elif path.rstrip("/") == METRICS:
            await self.metrics(scope, receive, send)
        else:
            await self.guarded(scope, receive, send)
