"""The fixed conversations, texts and questions in prompts.toml."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from playground.messages import Message

FILE = Path(__file__).with_name("prompts.toml")
Turns = tuple[Message, ...]


def conversations() -> list[Turns]:
    """Return the conversations that are rendered and encoded."""
    return [_turns(row) for row in _content()["conversations"]]


def texts() -> list[str]:
    """Return the texts that are encoded as they are."""
    return list(_content()["texts"]["plain"])


def questions() -> list[Turns]:
    """Return the questions that are answered greedily."""
    return [_turns(row) for row in _content()["questions"]]


@cache
def _content() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def _turns(row: dict[str, Any]) -> Turns:
    return tuple(Message(role=role, content=content) for role, content in row["turns"])
