"""Limits of the API: body, queue, rate. Caps in tokens are data here; the routes, which can count, apply them."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.server.guards.record import Record, Refusal, record_of, refusal
from playground.settings import Settings
from playground.values import Value

BODY_S = 60.0
"""How long a body may take to arrive."""
STALL_S = 60.0
"""How long a client may read nothing of an answer that is sent to it."""
RETRY_S = 1
"""Retry-After of a full queue, in seconds: a place may be free at any moment."""
CHARACTERS_A_TOKEN = 16
"""More than any language's text has on average: longer prompts are not worth tokenizing."""
BUCKETS = 4096


class Limits(Value):
    """The caps that one request meets."""

    body_bytes: int
    prompt_tokens: int
    answer_tokens: int
    queue: int
    rate_per_minute: int | None

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the caps that the settings give."""
        return cls(
            body_bytes=int(settings.api_max_body_mb * 1e6),
            prompt_tokens=settings.api_max_prompt_tokens,
            answer_tokens=settings.api_max_tokens,
            queue=settings.api_queue,
            rate_per_minute=settings.api_rate_per_minute,
        )

    @property
    def prompt_characters(self) -> int:
        """Prompts longer than this are refused before they are tokenized."""
        return self.prompt_tokens * CHARACTERS_A_TOKEN


class Body:
    """Reads a request's body, declared or streamed, no further than it may go; the app then gets it in one piece.

    A client that uploads slowly holds no place in the queue, and a body that is too large reaches no route.
    """

    def __init__(self, app: ASGIApp, limit: int, keep: bool = False, wait_s: float = BODY_S) -> None:
        self.app = app
        self.limit = limit
        self.keep = keep
        self.wait_s = wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read, then pass on; a client that leaves meanwhile is not answered."""
        body: bytes | Refusal | None
        try:
            async with asyncio.timeout(self.wait_s):
                body = await self._read(scope, receive)
        except TimeoutError:
            body = _late(self.wait_s)
        if isinstance(body, Refusal):
            await body.send(scope, receive, send)
        elif body is not None:
            if self.keep:
                record_of(scope).body = body
            await self.app(scope, _again(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | Refusal | None:
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self.limit:
            return _large(self.limit)
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self.limit:
                return _large(self.limit)
            more = message.get("more_body", False)
        return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body in one message, then what comes: a hang-up is still seen."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def message() -> Message:
        return waiting.pop() if waiting else await receive()

    return message


def _large(limit: int) -> Refusal:
    message = f"The request's body is larger than {limit / 1e6:g} MB. The owner of this server sets the limit."
    return refusal("body", 413, message, "request_too_large")


def _late(wait_s: float) -> Refusal:
    return refusal("slow", 408, f"The request's body did not arrive in {wait_s:g} s.", "request_timeout")


class _StalledError(Exception):
    """A client reads nothing any more. Only Queue raises and catches it."""


class Queue:
    """Places for requests that ask a model for work, held to the answer's last byte, an error or a hang-up.

    A client that stops reading counts as gone: its connection may stay open for ever.
    """

    def __init__(self, app: ASGIApp, places: int, stall_s: float = STALL_S) -> None:
        self.app = app
        self.places = places
        self.stall_s = stall_s
        self.held: set[Record] = set()

    def waiting(self) -> int:
        """Return how many requests have nothing of their answer yet."""
        return sum(record.waits for record in self.held)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with a place, or refuse it where all are taken; requests other than POST need none."""
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
        elif len(self.held) >= self.places:
            await _full(self.places).send(scope, receive, send)
        else:
            await self._hold(scope, receive, send)

    async def _hold(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        self.held.add(record)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self.held.discard(record)  # the engine is done, however slowly the client reads
            try:
                async with asyncio.timeout(self.stall_s):
                    await send(message)
            except TimeoutError:
                raise _StalledError from None

        try:
            await self.app(scope, receive, sending)
        except _StalledError:  # it went through the app, which has let go of everything by now
            record.left = True
        finally:
            self.held.discard(record)


def _full(places: int) -> Refusal:
    message = f"All {places} places of the queue are taken. Come again in {RETRY_S} s."
    return _too_many("queue", message, RETRY_S)


def _too_many(reason: str, message: str, wait_s: float) -> Refusal:
    headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
    return refusal(reason, 429, message, "rate_limit_exceeded", headers)


@dataclass
class Bucket:
    """Requests that a caller has left, when that was counted, and whether the last one passed."""

    left: float
    at: float
    passed: bool = True


class Buckets:
    """A bucket of requests for each caller, which fills with so many a minute."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.a_minute = a_minute
        self.clock = clock
        self.by_caller: dict[str, Bucket] = {}

    def take(self, caller: str) -> Bucket:
        """Take one request from the caller's bucket, if there is one; return the bucket as it is now."""
        bucket = self._filled(caller)
        bucket.passed = bucket.left >= 1
        bucket.left -= bucket.passed
        return bucket

    def _filled(self, caller: str) -> Bucket:
        """Return the caller's bucket; where there are many, those that must be full again are dropped."""
        now = self.clock()
        if len(self.by_caller) >= BUCKETS and caller not in self.by_caller:
            self.by_caller = {name: b for name, b in self.by_caller.items() if now - b.at < 60}
        bucket = self.by_caller.setdefault(caller, Bucket(self.a_minute, now))
        bucket.left = min(self.a_minute, bucket.left + (now - bucket.at) * self.a_minute / 60)
        bucket.at = now
        return bucket


class Rate:
    """Limits the requests per minute of each key, or each address where there are no keys, by a token bucket."""

    def __init__(self, app: ASGIApp, a_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.app = app
        self.buckets = Buckets(a_minute, clock) if a_minute is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse, and say in headers what is left."""
        if self.buckets is None:
            return await self.app(scope, receive, send)
        most = self.buckets.a_minute
        bucket = self.buckets.take(record_of(scope).caller)
        headers = self._headers(bucket, most)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            await send(message)

        await (self.app if bucket.passed else self._refusal(bucket, most).send)(scope, receive, sending)

    def _headers(self, bucket: Bucket, most: int) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-ratelimit-limit-requests", str(most).encode()),
            (b"x-ratelimit-remaining-requests", str(int(bucket.left)).encode()),
            (b"x-ratelimit-reset-requests", _lasting((most - bucket.left) * 60 / most).encode()),
        ]

    def _refusal(self, bucket: Bucket, most: int) -> Refusal:
        wait_s = (1 - bucket.left) * 60 / most
        return _too_many("rate", f"Rate limit reached: {most} requests a minute. Come again in {wait_s:.1f} s.", wait_s)


def _lasting(seconds: float) -> str:
    """Return a duration as OpenAI's headers write it: 20ms, 8.64s, 6m0s."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 2), 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
