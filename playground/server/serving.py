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
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from playground.compare import Playground
from playground.errors import MadangError
from playground.server.connections import Connection
from playground.server.ending import Ending
from playground.server.guards.record import log_to
from playground.settings import Settings
from playground.system.hardware import usable_files

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
    """Prints its address once it listens; at its end lets answers finish, then stops workers and connections."""

    inbrowser = False

    def __init__(self, app: FastAPI, playground: Playground) -> None:
        self.app, self.playground = app, playground
        self.ending = Ending(app)
        settings = playground.settings
        most = min(settings.connections, usable_files() // 2)
        share = most if settings.mode == "space" else most // 2  # a Space's visitors all come by one proxy
        super().__init__(
            uvicorn.Config(
                self.ending,
                host=settings.host.strip("[]"),
                port=settings.port,
                log_level="warning",
                access_log=False,
                http=partial(Connection, share=share),  # type: ignore[arg-type]  # it is called as the class would be
                ws="none",
                limit_concurrency=most,
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
        self.ending.begun = True
        grace_s = self.playground.settings.grace_s
        if self.ending.running and grace_s:
            sys.stderr.write(
                f"Madang: ends when its answers do, after {grace_s:g} s at the latest, or by Ctrl-C at once\n"
            )
        deadline = time.monotonic() + grace_s
        while self.ending.running and time.monotonic() < deadline and not self.force_exit:
            await asyncio.sleep(0.05)
        for listening in self.servers:
            listening.close()
        await asyncio.to_thread(self.playground.close)
        for end in getattr(self.app.state, "endings", ()):
            end()
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # no traceback for each who is cut off
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in good order; the second time, whichever signal it is, at once."""
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)
