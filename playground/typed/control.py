"""Which texts open and end turns, for a tokenizer and a chat template; no message may bring one in."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from playground import traits
from playground.allowance import current
from playground.messages import Message
from playground.thinking.habits import habits
from playground.thinking.tags import marks

SIGN = re.compile(r"[^\w\s]")
"""What a mark of a turn has and a plain word has not."""
FIRST_MARK = 0xF0000
MANY = 1000
"""Words that are found in a text between two looks whether anybody still waits."""


class Edges(NamedTuple):
    """Whether a token takes the white space on its left and on its right with it."""

    left: bool = False
    right: bool = False


@dataclass(frozen=True, eq=False)
class Reserved:
    """The texts that a tokenizer reads as one token wherever they stand: its control tokens, and other added words."""

    special: Mapping[str, Edges]
    added: Mapping[str, Edges]

    def kept(self, text: str) -> int:
        """Return how many bytes of a text tokens spell for certain: all but white space that some take with them."""
        takes_space = any(edges.left or edges.right for words in (self.special, self.added) for edges in words.values())
        return len(("".join(text.split()) if takes_space else text).encode())


@dataclass(frozen=True, eq=False)
class Control:
    """The texts that open and end turns, with their edges. `thoughts`: tags that an answer may hold as they are."""

    edges: Mapping[str, Edges]
    thoughts: tuple[str, ...] = ()

    @cached_property
    def _sizes(self) -> dict[str, list[int]]:
        """Return how long they are by their first letter, the longest first: there may be thousands of them."""
        found: dict[str, set[int]] = {}
        for word in self.edges:
            found.setdefault(word[0], set()).add(len(word))
        return {letter: sorted(sizes, reverse=True) for letter, sizes in found.items()}

    @cached_property
    def _first(self) -> re.Pattern[str]:
        return re.compile("[" + "".join(map(re.escape, self._sizes)) + "]")

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where each of them stands in a text: [start, end), the longest of those that begin at a place."""
        at = tried = 0
        while self.edges and (found := self._first.search(text, at)):
            start, tried = found.start(), tried + 1
            if tried % MANY == 0:
                current().look()
            words = (text[start : start + size] for size in self._sizes[found[0]])
            size = next((len(word) for word in words if word in self.edges), 0)
            if size:
                yield start, start + size
            at = start + max(size, 1)

    def places(self, text: str, role: str) -> list[tuple[int, int]]:
        """Return where a text holds one: [start, end). Tags of thoughts are none in answers."""
        current().look()
        found = list(self.find(text))
        if not found or role != "assistant" or not self.thoughts:
            return found
        tags = [tag.span() for tag in re.finditer("|".join(map(re.escape, self.thoughts)), text)]
        begins = [begin for begin, _ in tags]  # none of them overlap: the last that begins before a place may hold it
        return [(start, end) for start, end in found if not _holds(tags, bisect_right(begins, start) - 1, end)]

    def typed_in(self, messages: Sequence[Message]) -> bool:
        """Return whether some message holds one."""
        return any(self.places(text, message.role) for message in messages for text in _texts(message))

    def marked(self, text: str, role: str, begin: str, end: str) -> str:
        """Return a text with signs around each of them."""
        parts, at = [], 0
        for start, stop in self.places(text, role):
            parts += [text[at:start], begin, text[start:stop], end]
            at = stop
        return "".join([*parts, text[at:]])


def _holds(tags: Sequence[tuple[int, int]], place: int, end: int) -> bool:
    return place >= 0 and end <= tags[place][1]


def _texts(message: Message) -> list[str]:
    return [message.content, message.reasoning_content or ""]


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
        tuple(sorted((mark for mark in thoughts if any(word in mark for word in found)), key=len, reverse=True)),
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
