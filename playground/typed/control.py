"""Which texts open and end turns, for a tokenizer and a chat template; no message may bring one in."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from playground import traits
from playground.messages import Message
from playground.thinking.habits import habits
from playground.thinking.tags import marks

SIGN = re.compile(r"[^\w\s]")
"""What a mark of a turn has and a plain word has not."""
FIRST_MARK = 0xF0000


class Edges(NamedTuple):
    """Whether a token takes the white space on its left and on its right with it."""

    left: bool = False
    right: bool = False


@dataclass(frozen=True, eq=False)
class Reserved:
    """The texts that a tokenizer reads as one token wherever they stand: its control tokens, and other added words."""

    special: Mapping[str, Edges]
    added: Mapping[str, Edges]


@dataclass(frozen=True, eq=False)
class Control:
    """The texts that open and end turns, with their edges. `thoughts`: tags that an answer may hold as they are."""

    edges: Mapping[str, Edges]
    thoughts: tuple[str, ...] = ()

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """Return what finds each of them, the longest first; None where there are none."""
        return _alternatives(self.edges) if self.edges else None

    @cached_property
    def _in_answers(self) -> re.Pattern[str]:
        return re.compile(f"(?:{_alternatives(self.thoughts).pattern})|({_alternatives(self.edges).pattern})")

    def places(self, text: str, role: str) -> list[tuple[int, int]]:
        """Return where a text holds one: [start, end). Tags of thoughts are none in answers."""
        if self.pattern is None or self.pattern.search(text) is None:
            return []
        if role != "assistant" or not self.thoughts:
            return [found.span() for found in self.pattern.finditer(text)]
        return [found.span() for found in self._in_answers.finditer(text) if found[1]]

    def typed_in(self, messages: Sequence[Message]) -> bool:
        """Return whether some message holds one."""
        return any(self.places(text, message.role) for message in messages for text in _texts(message))

    def marked(self, text: str, role: str, begin: str, end: str) -> str:
        """Return a text with signs around each of them."""
        for start, stop in reversed(self.places(text, role)):
            text = f"{text[:start]}{begin}{text[start:stop]}{end}{text[stop:]}"
        return text


def _texts(message: Message) -> list[str]:
    return [message.content, message.reasoning_content or ""]


def _alternatives(texts: Mapping[str, Edges] | Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))


def control_of(reserved: Reserved, template: str, tokens: Mapping[str, str]) -> Control:
    """Return the control tokens of a tokenizer, and those added words that a template writes around turns."""
    return _control(reserved, template, tuple(sorted(tokens.items())))


@lru_cache(maxsize=32)
def _control(reserved: Reserved, template: str, tokens: tuple[tuple[str, str], ...]) -> Control:
    shown = traits.sample(template, dict(tokens))
    thoughts = marks(habits(template).families)
    turns = {word: edges for word, edges in reserved.added.items() if SIGN.search(word) and word in shown}
    found = {**turns, **reserved.special}
    return Control(
        {word: edges for word, edges in found.items() if word in reserved.special or word not in thoughts},
        tuple(mark for mark in thoughts if any(word in mark for word in found)),
    )


def signs(messages: Sequence[Message]) -> tuple[str, str]:
    """Return two characters for private use that stand in none of the messages."""
    said = "".join(text for message in messages for text in _texts(message))
    free = (chr(number) for number in range(FIRST_MARK, FIRST_MARK + 0xFFFF) if chr(number) not in said)
    return next(free), next(free)


def marked(control: Control, messages: Sequence[Message], begin: str, end: str) -> list[Message]:
    """Return messages with signs around each control token that stands in them."""

    def with_signs(message: Message) -> Message:
        said = {"content": control.marked(message.content, message.role, begin, end)}
        if message.reasoning_content is not None:
            said["reasoning_content"] = control.marked(message.reasoning_content, message.role, begin, end)
        return message.model_copy(update=said)

    return [with_signs(message) for message in messages]
