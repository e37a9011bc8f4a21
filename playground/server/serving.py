"""Runs an app until it is told to end: prints its address, loads the first models, lets answers under way finish."""

import asyncio
import logging
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from playground.compare import Playground
from playground.errors import MadangError
from playground.server.guards.record import log_to
from playground.settings import Settings

GRACE_S = 3.0
"""How long answers under way may go on when the server is told to end."""
LAST_S = 1
"""How long connections that are still open then have to end."""


def serve(
    app: FastAPI, playground: Playground, first: Callable[[], None] | None = None, inbrowser: bool = False
) -> None:
    """Run an app until Ctrl-C; close its playground. `first` runs beside it: its MadangError ends it, and is raised.

    What stands in the list `app.state.endings` is called on the event loop when the end begins.
    """
    server = Server(app, playground)
    server.inbrowser = inbrowser
    log_to(sys.stderr)
    faults: list[MadangError] = []

    def begin() -> None:
        try:
            if first is not None:
                first()
        except MadangError as error:
            faults.append(error)
            server.should_exit = True

    threading.Thread(target=begin, name="first models", daemon=True).start()
    with suppress(KeyboardInterrupt):  # uvicorn ends in good order first, and then raises it once more
        server.run()
    playground.close()
    if faults:
        raise faults[0]


def address(settings: Settings) -> str:
    """Return the URL at which a browser on this machine finds the server."""
    host = settings.host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


class Server(uvicorn.Server):
    """Prints its address once it listens, and stops the workers before its connections."""

    inbrowser = False

    def __init__(self, app: FastAPI, playground: Playground) -> None:
        self.app, self.playground = app, playground
        settings = playground.settings
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host.strip("[]"),
                port=settings.port,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=LAST_S,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then print the address and open a browser if asked."""
        await super().startup(sockets)
        if self.started:
            there = address(self.playground.settings)
            sys.stderr.write(f"Madang: {there}\n")
            if self.inbrowser:
                threading.Thread(target=webbrowser.open, args=(there,), daemon=True).start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for answers under way, then stop the workers, whose rows fail, and close what is still open."""
        for listening in self.servers:
            listening.close()
        for end in getattr(self.app.state, "endings", ()):
            end()
        deadline = time.monotonic() + GRACE_S
        while self.server_state.tasks and time.monotonic() < deadline and not self.force_exit:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self.playground.close)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # no traceback for each who is cut off
        await super().shutdown(sockets)
