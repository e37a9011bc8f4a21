"""The API's log: one line of JSON per request. It never has keys, headers or query strings; prompts on request."""

import json
import logging
from contextlib import suppress
from typing import Any, TextIO

from playground.server.guards.record import Record

LOGGER = logging.getLogger("madang.api")
PROMPTS = ("messages", "prompt", "suffix", "input", "content", "text", "tokens")
"""Fields of a body that hold what was asked."""


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
