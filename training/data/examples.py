"""One training row, whatever its file looked like. Every format becomes one of these; every check reads them."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["conversation", "text", "preference"]
ROLES = ("system", "user", "assistant")


class Turn(NamedTuple):
    """What one side said. `role` is as the data has it: the checks say where it is none of ROLES."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """A row of the data; `row` counts from 1 as an editor counts the file's lines, or the rows of a table.

    conversation: `turns`, the last of them an answer. text: `text`. preference: `turns` is the prompt, and `chosen`
    and `rejected` are the two answers to it.
    """

    row: int
    kind: Kind
    turns: tuple[Turn, ...] = ()
    text: str = ""
    chosen: str = ""
    rejected: str = ""

    @property
    def written(self) -> tuple[str, ...]:
        """Every text in it, in order."""
        if self.kind == "text":
            return (self.text,)
        said = tuple(turn.content for turn in self.turns)
        return (*said, self.chosen, self.rejected) if self.kind == "preference" else said
