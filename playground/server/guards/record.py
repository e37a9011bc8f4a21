"""The record of one request while it is served, its line in the log, and how a guard refuses one.

Routes add the model and its tokens. The log is one line of JSON per request; it never has keys, headers or query
strings; prompts on request.
"""

import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO
from uuid import uuid4

from starlette.types import Receive, Scope, Send

from playground.server.wire.errors import ApiError

LOGGER = logging.getLogger("madang.api")
PROMPTS = ("messages", "prompt", "suffix", "input", "content", "text", "tokens")
"""Fields of a body that hold what was asked."""
LEFT = 499
"""The status of a request whose client has hung up before there was one, as nginx logs it."""


@dataclass(eq=False)
class Record:
    """One request; times in seconds from its beginning, None or 0 until they are known."""

    method: str = ""
    client: str = ""
    """Address of the other end, empty where there is none."""
    id: str = field(default_factory=lambda: f"req_{uuid4().hex}")
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)
    caller: str = ""
    """Whose requests are counted together: a key's number, or an address."""
    route: str = ""
    """The route's pattern, never the path that was asked for; empty where no route answers."""
    model: str = ""
    """A known model's name; empty until one is found, and where the name is nobody's."""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    first_token_s: float | None = None
    first_byte_s: float | None = None
    seconds: float = 0.0
    status: int = 0
    rejected: str = ""
    """Which guard turned it away."""
    left: bool = False
    """Whether the client went before the answer's end."""
    body: bytes = b""
    """Kept only where prompts are logged."""

    def first_token(self) -> None:
        """Note the time of the first token; later calls change nothing."""
        if self.first_token_s is None:
            self.first_token_s = time.monotonic() - self.began

    def tokens(self, model: str, prompt: int, answer: int) -> None:
        """Add the tokens that a known model read and wrote for this request."""
        self.model = model
        self.prompt_tokens += prompt
        self.answer_tokens += answer

    @property
    def waits(self) -> bool:
        """Whether the answer has not begun."""
        return self.first_token_s is None and self.first_byte_s is None


def record_of(scope: Scope) -> Record:
    """Return the request's record, a fresh one where no guard began it. In a route: `record_of(request.scope)`."""
    record = scope.setdefault("state", {}).setdefault("record", Record())
    assert isinstance(record, Record)
    return record


@dataclass(frozen=True)
class Refusal:
    """The answer to a request that a guard refuses, and the reason that metrics and the log count it under."""

    reason: str
    error: ApiError

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it as the answer to a request."""
        record_of(scope).rejected = self.reason
        await self.error.response()(scope, receive, send)


def refusal(reason: str, status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> Refusal:
    """Return a refusal with OpenAI's error object."""
    return Refusal(reason, ApiError(status, message, code=code, headers=headers))


class RequestLog:
    """Writes a record as one line."""

    def __init__(self, prompts: bool) -> None:
        self.prompts = prompts

    def write(self, record: Record) -> None:
        """Log a request that ended. ASCII alone, so that nobody's text breaks a line or moves a terminal's cursor."""
        if not LOGGER.isEnabledFor(logging.INFO):
            return
        line = _line(record)
        if self.prompts and (asked := _asked(record.body)):
            line["asked"] = asked
        LOGGER.info("%s", json.dumps(line))


def _line(record: Record) -> dict[str, Any]:
    """Return the fields of every line, but for empty ones."""
    line = {
        "time": record.at.isoformat(timespec="milliseconds"),
        "id": record.id,
        "method": record.method,
        "route": record.route or "other",
        "model": record.model,
        "status": record.status,
        "seconds": round(record.seconds, 4),
        "first_token_s": None if record.first_token_s is None else round(record.first_token_s, 4),
        "prompt_tokens": record.prompt_tokens,
        "answer_tokens": record.answer_tokens,
        "client": record.client,
        "rejected": record.rejected,
        "left": record.left,
    }
    return {name: value for name, value in line.items() if value is not None and value != "" and value is not False}


def _asked(body: bytes) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        fields = json.loads(body)
        if isinstance(fields, dict):
            return {name: fields[name] for name in PROMPTS if name in fields}
    return {}


def log_to(stream: TextIO) -> None:
    """Write the log's lines, bare, to a stream. A program that serves calls it once, its own access log off."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
