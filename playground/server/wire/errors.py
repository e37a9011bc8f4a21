"""OpenAI's error object and status codes, for a MadangError, a refused request or a failed row.

400 the request is wrong · 401 no or a wrong key · 404 no such model or path · 413 the body is too large · 429 too many
requests · 500 the model cannot be loaded, or its worker died · 503 no memory for it now, the Hub is out of reach, or
the server is being ended.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from playground.errors import (
    ContextError,
    EndingError,
    HubError,
    MadangError,
    MemoryBudgetError,
    ThinkingError,
    UnknownNameError,
    WorkerError,
)
from playground.escape import for_strangers
from playground.events import Failed

TOO_LONG = "context_length_exceeded"
AGAIN = "10"
"""Retry-After of a server that is being ended, in seconds."""
LASTING = {"x-should-retry": "false"}
"""Tells OpenAI's clients that the same request fails again."""
BRANCH = re.compile(r".*[\[(-].*|str|int|float|bool|[A-Z]\w*")
"""What pydantic calls the branches of a union inside a fault's place; fields are written small, with underscores."""


class Problem(BaseModel):
    """What went wrong, in OpenAI's fields."""

    model_config = ConfigDict(extra="forbid")

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    model_config = ConfigDict(extra="forbid")

    error: Problem


class ApiError(Exception):
    """An answer that is an error. OpenAI's `type` follows from the status."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(message=message, type=_type(status), param=param, code=code)
        self.headers = dict(headers or {})

    @property
    def body(self) -> ErrorBody:
        """OpenAI's error object."""
        return ErrorBody(error=self.problem)

    def response(self) -> Response:
        """Return the response with this error, in ASCII as its message quotes what clients send."""
        body = json.dumps(self.body.model_dump())
        return Response(body, self.status, self.headers, "application/json")


_FAULTS = {
    400: "The request is wrong",
    401: "No key, or a wrong one",
    403: "No key is set, and the request comes from elsewhere",
    404: "No such model",
    408: "The body did not arrive in time",
    413: "The body is too large",
    429: "Too many requests: come again after Retry-After seconds",
    500: "The model cannot be loaded, or its engine failed",
    503: "No memory for the model, the Hub is out of reach, or the server is being ended",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "model": ErrorBody} for status, words in _FAULTS.items()
}
"""The errors that a route's description names, all with OpenAI's error object."""


def _type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return {401: "authentication_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")


def sentence(error: MadangError | Failed) -> str:
    """Return an error's message with its hint appended, without paths of this machine."""
    return for_strangers(f"{error.message} {error.hint}".strip())


def from_madang(error: MadangError) -> ApiError:
    """Return the answer to an error that came up before a row was asked: most are the machine's, not the client's."""
    text = sentence(error)
    if isinstance(error, UnknownNameError):
        return ApiError(404, text, "model", "model_not_found")
    if isinstance(error, ContextError):
        return ApiError(400, text, "prompt", TOO_LONG)
    if isinstance(error, MemoryBudgetError):
        return ApiError(503, text, code="model_too_large", headers=LASTING)
    if isinstance(error, HubError):
        return ApiError(503, text, code="model_unavailable")
    if isinstance(error, EndingError):
        return ending()
    if isinstance(error, WorkerError):
        return ApiError(500, text, code="engine_failed")
    return ApiError(500, text, code="model_unavailable", headers=LASTING)


def from_row(event: Failed, param: str | None) -> ApiError:
    """Return the answer to a row that failed.

    `param` names the field that holds its prompt, where the row failed before it began and the prompt may be the
    reason; None where it had begun, so that the engine is at fault.
    """
    text = sentence(event)
    if event.error == EndingError.__name__:
        return ending()
    if param is None or event.error in ("", WorkerError.__name__):
        return ApiError(500, text, code="engine_failed")
    if event.error == ThinkingError.__name__:
        return ApiError(400, text, "reasoning_effort", "unsupported_parameter")
    return ApiError(400, text, param, TOO_LONG if event.error == ContextError.__name__ else "invalid_prompt")


def ending() -> ApiError:
    """Return the answer of a server that is told to end."""
    return ApiError(503, sentence(EndingError()), code="server_ending", headers={"Retry-After": AGAIN})


def install(app: FastAPI) -> None:
    """Have an app answer every error with OpenAI's object. A bug is raised again, so that the log has it."""
    for kind in (ApiError, MadangError, RequestValidationError, 400, 404, 405, Exception):
        app.add_exception_handler(kind, _respond)


async def _respond(request: Request, error: Exception) -> Response:
    return _api_error(request, error).response()


def _api_error(request: Request, error: Exception) -> ApiError:
    """Return the answer to whatever a route raised; HTTPExceptions are Starlette's own, for bodies and paths."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MadangError):
        return from_madang(error)
    if isinstance(error, RequestValidationError):
        return from_pydantic(error.errors())
    if not isinstance(error, HTTPException):
        return fault()
    if error.status_code == 400:
        return ApiError(400, "The body of the request cannot be read as JSON. Send it as UTF-8.")
    if error.status_code == 404:
        return ApiError(404, f"Invalid URL ({_request_line(request)})", code="unknown_url")
    text = f"Not allowed: {_request_line(request)}."
    return ApiError(405, text, code="method_not_supported", headers=error.headers)


def fault() -> ApiError:
    """Return the answer to a bug of ours."""
    return ApiError(500, "A fault inside Madang; the log of the server tells more.")


def _request_line(request: Request) -> str:
    """Return method and path of a request, cut where they are longer than any of ours."""
    return f"{request.method[:20]} {request.url.path[:200]}"


def from_pydantic(faults: Sequence[Any]) -> ApiError:
    """Return pydantic's faults of a body in OpenAI's words: all of them in the message, the first as `param`."""
    found: dict[str, tuple[str, str]] = {}
    for fault in faults:
        param, of_a_branch = _param(fault["loc"], fault["type"])
        if of_a_branch and fault["type"].endswith(("_type", "missing")):
            text = f"Invalid value for '{param}': it has none of the forms that are taken."
            found.setdefault(param, (text, "invalid_type"))
        elif of_a_branch:
            found[param] = _problem(fault, param)
        else:
            found.setdefault(param, _problem(fault, param))
    first, (_, code) = next(iter(found.items()))
    return ApiError(400, " ".join(text for text, _ in found.values()), first or None, code)


def _problem(fault: Any, param: str) -> tuple[str, str]:
    """Return the message and OpenAI's code of one fault."""
    kind = fault["type"]
    if kind == "json_invalid" or not param:
        return (
            "We could not parse the JSON body of your request: send a JSON object as application/json.",
            "invalid_json",
        )
    if kind == "extra_forbidden":
        return f"Unknown parameter: '{param}'.", "unknown_parameter"
    if kind == "missing":
        return f"Missing required parameter: '{param}'.", "missing_required_parameter"
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return f"Invalid value for '{param}': {fault['msg'].removeprefix('Value error, ')}.", code


def _param(place: Sequence[str | int], kind: str) -> tuple[str, bool]:
    """Return a fault's place as OpenAI writes it, `messages[0].content`, and whether it is of one branch of a union.

    The place is empty where it is the whole body.
    """
    name, parts = "", place[1:]
    for number, part in enumerate(parts):
        is_field = number == 0 or (kind == "extra_forbidden" and number == len(parts) - 1)
        if isinstance(part, int):
            name += f"[{part}]" if name else ""
        elif not is_field and BRANCH.fullmatch(part):
            return name, True
        else:
            name += f".{part}" if name else part
    return name[:200], False
