"""Connections that keep the server waiting: for a request's head, for its body, or open in numbers.

uvicorn's own settings close what is idle after an answer and bound a head's size; a connection that never asks, or asks
byte by byte, it keeps for ever.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 20.0
"""How long the head of a request may take, from the moment at which one may come."""
PACE_S = 30.0
PACE_BYTES = 30_000
"""So much of a body must come in each such time: a kilobyte a second."""


class Connection(H11Protocol):
    """One connection. Beyond `limit_concurrency` of them, or `share` of one client, those that ask nothing go first."""

    def __init__(self, *args: Any, share: int, **more: Any) -> None:
        super().__init__(*args, **more)
        self.share = share
        self.awaited: tuple[str, object] = ("", None)
        """`head`, `body` or nothing, and after which request."""
        self.since = 0.0
        self._came = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, and make room for it."""
        super().connection_made(transport)
        self._settle()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """Hand on what came, and see what is awaited now."""
        self._came += len(data)
        super().data_received(data)
        self._settle()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that nobody reads."""
        super().on_response_complete()
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        super().connection_lost(exc)
        self._stop_clock()

    def _settle(self) -> None:
        """Set the clock by what is awaited; more bytes of the same do not set it anew."""
        cycle = self.cycle
        kind = "head" if cycle is None or cycle.response_complete else "body" if cycle.more_body else ""
        if self.awaited == (kind, cycle) or self.transport.is_closing():
            return
        self.awaited, self.since, self._came = (kind, cycle), self.loop.time(), 0
        self._stop_clock()
        if kind == "head":
            self._timer = self.loop.call_later(HEAD_S, self.transport.abort)
        elif kind == "body":
            self._timer = self.loop.call_later(PACE_S, self._look)

    def _look(self) -> None:
        """Close where too little of a body came, unless it is us who do not read."""
        if self._came < PACE_BYTES and not self.flow.read_paused:
            self.transport.abort()
            return
        self._came = 0
        self._timer = self.loop.call_later(PACE_S, self._look)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _make_room(self) -> None:
        """Where there are too many, close the one that has asked nothing for longest, or else the newcomer."""
        held = [one for one in self.connections if isinstance(one, Connection) and not one.transport.is_closing()]
        own = [one for one in held if (one.client or [""])[0] == (self.client or [""])[0]]
        crowd = own if len(own) > self.share else held if len(held) > (self.limit_concurrency or len(held)) else []
        if crowd:
            idle = [one for one in crowd if one.awaited[0] == "head" and one is not self]
            min(idle, key=lambda one: one.since, default=self).transport.abort()
