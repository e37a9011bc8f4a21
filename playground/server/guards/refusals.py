"""Answers of the guards themselves, before any route is reached."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from playground.server.guards.record import record_of
from playground.server.wire.errors import ApiError


@dataclass(frozen=True)
class Refusal:
    """A request that goes no further, and the word that metrics and the log count it under."""

    reason: str
    error: ApiError

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request with it."""
        record_of(scope).rejected = self.reason
        await self.error.response()(scope, receive, send)


def refusal(reason: str, status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> Refusal:
    """A refusal in OpenAI's error object."""
    return Refusal(reason, ApiError(status, message, code=code, headers=headers))
