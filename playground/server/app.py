"""The API as an app, and the program that serves it alone."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response
from starlette.routing import Match

from playground.compare import Playground
from playground.server.dispatch import Dispatcher
from playground.server.guards.keys import check_binding, is_loopback, read_keys
from playground.server.guards.stack import guard
from playground.server.routes import chat, completions, models
from playground.server.serving import serve
from playground.server.wire.errors import install
from playground.settings import Settings
from playground.system.ports import check_port

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def create(playground: Playground) -> FastAPI:
    """Return the API over a playground's catalogue and workers, guarded. A page may be mounted at "/" afterwards."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.dispatcher.close()

    app = FastAPI(title="Madang", summary="An OpenAI-compatible API", lifespan=lifespan, docs_url=None, redoc_url=None)
    guard(app, playground.settings)
    app.state.dispatcher = Dispatcher(playground, app.state.limits)
    install(app)
    for router in (models.open_router, models.router, chat.router, completions.router):
        app.include_router(router)
    app.add_api_route("/v1/{path:path}", _nothing_there, methods=METHODS, include_in_schema=False)
    return app


async def _nothing_there(path: str, request: Request) -> Response:
    """Refuse what /v1 has no route for with OpenAI's errors: the page, which is mounted behind it, has its own."""
    partial = any(route.matches(request.scope)[0] is Match.PARTIAL for route in request.app.router.routes)
    raise HTTPException(405 if partial else 404)


def is_served_beside_the_page(settings: Settings) -> bool:
    """Return whether the page's port serves the API too: with a key always, without one on a loopback address alone.

    A Space is open to everybody, so it serves none without a key.
    """
    return bool(read_keys(settings)) or (settings.mode == "local" and is_loopback(settings.host))


def run(settings: Settings, models: Sequence[str] = ()) -> None:
    """Serve the API alone until it is stopped; these models are loaded first, and /health is 503 until they are.

    Raises MadangError for a name, a port or a binding that cannot be, and where one of the models cannot be loaded.
    """
    check_binding(settings)
    check_port(settings.host, settings.port)
    playground = Playground(settings)
    app = create(playground)
    for name in models:
        playground.catalogue.get(name)
    try:
        serve(app, playground, loading(app, models) if models else None)
    finally:
        playground.close()


def loading(app: FastAPI, names: Sequence[str]) -> Callable[[], None]:
    """Return a function that loads models one after another; /health answers 503 until it is done."""
    dispatcher: Dispatcher = app.state.dispatcher
    dispatcher.loading.starting = True

    def load() -> None:
        for name in names:
            dispatcher.load(name)
        dispatcher.loading.starting = False

    return load
