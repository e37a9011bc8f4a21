"""What a chat template does with the turns it gets, found out by rendering a few of ours: once a template.

Some leave the system prompt out, or raise on it; some write nothing but parts of content, or only the last question.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from playground import template
from playground.allowance import allowed
from playground.messages import Message
from playground.values import Value

SYSTEM, FIRST, ANSWER, LAST = (
    Message(role=role, content=f"madang{place}courtyard")  # type: ignore[arg-type]
    for place, role in enumerate(("system", "user", "assistant", "user"))
)
"""Turns whose texts no template writes by itself."""
IN_CODE = re.compile(r"""[{,]\s*["']type["']\s*:""")
"""A list of parts that was written as Python or JSON spells it: such a template wants a text."""
Notice = Literal["system_in_question", "turns_left_out"]
"""What became of turns that a template has no place for."""


class Traits(Value):
    """What a template makes of turns.

    parts: content must come as a list of parts; asks: it writes the question; system: it has a place for a system
    prompt; history: it writes the turns before the last; answers: it writes an answer that ends a conversation;
    takes: it does not refuse a question alone; users: content must come as parts in questions, and as text elsewhere.
    """

    parts: bool
    asks: bool
    system: bool
    history: bool
    answers: bool
    takes: bool = True
    users: bool = False

    def arranged(self, messages: Sequence[Message]) -> list[Message]:
        """Return the turns as the template can write them all.

        A system prompt without a place goes in front of the first question, or of the only one that is written.
        """
        if self.system or len(messages) < 2 or messages[0].role != "system":
            return list(messages)
        system, *others = messages
        users = [place for place, message in enumerate(others) if message.role == "user"] or [0]
        place = users[0 if self.history else -1]
        asked = others[place]
        others[place] = asked.model_copy(update={"content": f"{system.content}\n\n{asked.content}"})
        return others

    def given(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a turn as the template wants it: its content as a text, or as a list with one part of text."""
        return _given(row, self.parts and (not self.users or row["role"] == "user"))

    def notices(self, messages: Sequence[Message]) -> tuple[Notice, ...]:
        """Return what is to be said of these turns."""
        moved = not self.system and len(messages) > 1 and messages[0].role == "system"
        spoken = [message for message in messages if message.role != "system"]
        said: dict[Notice, bool] = {"system_in_question": moved, "turns_left_out": len(spoken) > 1 and not self.history}
        return tuple(notice for notice, holds in said.items() if holds)


def traits_of(source: str, tokens: Mapping[str, str]) -> Traits:
    """Return the traits of a template, given the special tokens by name. A broken one has those of a good one."""
    return _traits(source, tuple(sorted(tokens.items())))


@lru_cache(maxsize=64)
@allowed(seconds=template.PROBE_S)
def _traits(source: str, tokens: tuple[tuple[str, str], ...]) -> Traits:
    variables = dict(tokens)

    def shows(turns: Sequence[Message], parts: bool, opened: bool = True) -> list[bool] | None:
        """Return which of the turns are written; None where the template refuses them."""
        try:
            rows = [
                _given(turn.model_dump(exclude_none=True), parts and (turn.role == "user" or not users))
                for turn in turns
            ]
            text = template.rendered(source, rows, opened, variables)
        except template.FAULTS:
            return None
        if parts and IN_CODE.search(text):
            return [False] * len(turns)
        return [turn.content in text for turn in turns]

    users = False
    plain = shows([LAST], parts=False)
    parts = plain != [True] and shows([LAST], parts=True) == [True]
    users = parts and shows([FIRST, ANSWER, LAST], parts) == [False] * 3
    return Traits(
        parts=parts,
        asks=plain != [False] or parts,
        system=shows([SYSTEM, LAST], parts) == [True, True],
        history=all(shows([FIRST, ANSWER, LAST], parts) or [True]),
        answers=(shows([LAST, ANSWER], parts, opened=False) or [True])[-1],
        takes=plain is not None or parts,
        users=users,
    )


@allowed(seconds=template.PROBE_S)
def sample(source: str, tokens: Mapping[str, str]) -> str:
    """Return what a template makes of a conversation, opened for an answer and not; empty where it refuses it."""
    traits = traits_of(source, tokens)
    rows = [traits.given(turn.model_dump(exclude_none=True)) for turn in traits.arranged((SYSTEM, FIRST, ANSWER, LAST))]
    try:
        return "".join(template.rendered(source, rows, opened, tokens) for opened in (False, True))
    except template.FAULTS:
        return ""


def _given(row: dict[str, Any], parts: bool) -> dict[str, Any]:
    if not parts or not isinstance(row["content"], str):
        return row
    return row | {"content": [{"type": "text", "text": row["content"]}]}
