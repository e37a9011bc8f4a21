"""What every object of one answer tells alike: its id, its time, its model, and in the end its usage."""

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from playground.events import Finished
from playground.server.model_list import Target
from playground.server.wire.errors import ErrorBody
from playground.server.wire.responses import Reason, Usage

_FAULTS = {
    400: "The request is wrong",
    401: "No key, or a wrong one",
    403: "No key is set, and the request comes from elsewhere",
    404: "No such model",
    408: "The body did not arrive in time",
    413: "The body is too large",
    429: "Too many requests: come again after Retry-After seconds",
    500: "The model cannot be loaded, or its engine failed",
    503: "No memory for the model, or the Hub is out of reach",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "model": ErrorBody} for status, words in _FAULTS.items()
}
"""The errors that a route's description names, all with OpenAI's error object."""
EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, whole or as events", "content": {"text/event-stream": {"itemSchema": EVENT}}}
}
"""What a route's description says of an answer that may be a stream."""


@dataclass(frozen=True)
class Head:
    """What a completion and all of its chunks begin with."""

    prefix: str
    target: Target
    number: str = field(default_factory=lambda: uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def fields(self) -> dict[str, Any]:
        """The common fields of an object."""
        return {
            "id": f"{self.prefix}-{self.number}",
            "created": self.created,
            "model": self.target.id,
            "system_fingerprint": self.target.fingerprint,
        }


def usage(prompt: int, answer: int) -> Usage:
    """Tokens read and written."""
    return Usage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=prompt + answer)


def reason(finished: Finished) -> Reason:
    """Why an answer ended. Nobody reads one that was cancelled."""
    return "length" if finished.reason == "length" else "stop"
