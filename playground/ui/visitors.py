"""How often a visitor of a Space may call and ask, and how much at once, so that the others get their share.

A visitor is an address: of a proxy's list the last one that is no proxy's own, which uvicorn reads, since what stands
before it anybody can write; never a session, whose name a client makes up.
"""

import time
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from gradio.queueing import Queue
from starlette.types import ASGIApp, Receive, Scope, Send

from playground.server.guards.limits import Buckets
from playground.server.guards.record import Refusal, refusal
from playground.server.guards.stack import route_path
from playground.settings import Settings

PREFIX = "/gradio_api/"
LONGEST_QUESTION = 200_000
"""In characters, where the owner asks."""
CALLS_A_MINUTE = 600
"""More than a person makes who draws a slider to and fro."""
UNANSWERED = 12
"""Calls of one visitor that may wait or run at once."""


class Visitors:
    """How often and how much each visitor of a Space may ask; elsewhere everybody asks as they like."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.limited = settings.mode == "space"
        self.letters = settings.space_letters if self.limited else LONGEST_QUESTION
        self.places = settings.space_places
        self.a_minute = settings.space_rate_per_minute
        self._asked = Buckets(self.a_minute, clock)

    @property
    def each(self) -> int:
        """How many places one visitor may hold: no more than a quarter."""
        return max(self.places // 4, 1)

    def refused(self, visitor: str, held: Counter[str]) -> tuple[str, int] | None:
        """Return which limit a question meets, and how much it allows; None where it may be asked, which it counts.

        `held`: questions under way, by visitor. One call at a time.
        """
        if not self.limited:
            return None
        if held[visitor] >= self.each:
            return "own_places", self.each
        if held.total() >= self.places:
            return "all_places", self.places
        return None if self._asked.take(visitor).passed else ("too_fast", self.a_minute)


def visitor(host: str) -> str:
    """Return whose calls are counted together: an address, or of IPv6 the network that one home or server has."""
    try:
        address = ip_address(host.split("%")[0])
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or (address if address.version == 4 else ip_network((address, 64), strict=False)))


class Gate:
    """Stands before the page of a Space: passes calls on no more often than people make them."""

    def __init__(self, app: ASGIApp, queue: Queue, clock: Callable[[], float] = time.monotonic) -> None:
        self.app = app
        self._queue = queue
        self._calls = Buckets(CALLS_A_MINUTE, clock)
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse."""
        is_call = scope["type"] == "http" and scope["method"] == "POST" and route_path(scope).startswith(PREFIX)
        await (self._call if is_call else self.app)(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = visitor(scope["client"][0] if scope.get("client") else "")
        refused = self._refused(who)
        if refused:
            return await refused.send(scope, receive, send)
        self._running[who] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._running -= Counter([who])

    def _refused(self, who: str) -> Refusal | None:
        queued = [event.request.client for event in self._queue.event_ids_to_events.values()]
        waiting = sum(client is not None and visitor(client.host) == who for client in queued)
        if waiting + self._running[who] >= UNANSWERED:
            return refusal("queue", 429, f"{UNANSWERED} calls of yours are not answered yet.", "rate_limit_exceeded")
        if not self._calls.take(who).passed:
            return refusal("rate", 429, f"{CALLS_A_MINUTE} calls a minute are the most.", "rate_limit_exceeded")
        return None
