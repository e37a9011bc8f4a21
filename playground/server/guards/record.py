"""The record of one request while it is served, and how a guard refuses one. Routes add the model and its tokens."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from starlette.types import Receive, Scope, Send

from playground.server.wire.errors import ApiError

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
