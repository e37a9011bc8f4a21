"""Calls of tools and their results in training data, and how a chat template is given them."""

from collections.abc import Mapping, Sequence
from typing import Any

from playground.messages import Message
from training.data.examples import Turn


class Spoken(Message):
    """A turn of training data as a template gets it: beside the chat's own, a tool's result or an answer that calls."""

    role: str  # type: ignore[assignment]
    tool_calls: tuple[Mapping[str, Any], ...] | None = None
    name: str | None = None
    tool_call_id: str | None = None


def with_input(turn: Turn, section: str) -> Turn:
    """Return a question with its input behind what a prompt format has between the two."""
    ending = f"\n\n{turn.input}"
    if not turn.input or not turn.content.endswith(ending):
        return turn
    return turn._replace(content=turn.content.removesuffix(ending) + section + turn.input, input="")


def spoken(turns: Sequence[Turn]) -> list[Message]:
    """Return turns as messages for a template."""
    return [
        Spoken(role=turn.role, content=turn.content, reasoning_content=turn.thought or None, **turn.extra)
        for turn in turns
    ]
