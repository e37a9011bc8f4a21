"""Rows: as they stand in a file, and as the Example that every format becomes and every check reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from training.data.findings import Finding
from training.methods import Kind

Row = dict[str, Any]
"""Before anyone asks what it means."""
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Table:
    """Rows, and their `numbers`: the line in JSONL, CSV and text files, counted from 1 elsewhere and in folders.

    `faults` are about rows that could not be read, and about files that are not UTF-8.
    """

    rows: list[Row]
    numbers: list[int]
    name: str
    faults: list[Finding] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Return every column of any row, in the order in which they first appear."""
        return list(dict.fromkeys(name for row in self.rows for name in row))


class Turn(NamedTuple):
    """What one side said. `role` is as the data has it: the checks say where it is none of ROLES.

    `thought`: what a field of its own says was thought before it; `mark`: whether the data itself says that it is
    learnt, None where it does not; `input`: the end of a question that is the input of an instruction; `extra`: more
    fields for the template, such as the tool calls of an answer.
    """

    role: str
    content: str
    thought: str = ""
    mark: bool | None = None
    input: str = ""
    extra: dict[str, Any] = {}  # noqa: RUF012 - never changed

    @property
    def learnt(self) -> bool:
        """Return whether it carries loss: as its mark says, else where it is an answer."""
        return self.role == "assistant" if self.mark is None else self.mark


@dataclass(frozen=True, slots=True)
class Example:
    """A row of the data; `row` counts from 1 as an editor counts the file's lines, or the rows of a table.

    conversation: `turns`, the last of them an answer. text: `text`. preference: `turns` is the prompt, and `chosen`
    and `rejected` are the two answers to it. rated: a conversation whose last answer is `good` or not.
    prompt: `turns` ends with a question, `text` is the prompt where it is a text, `columns` are all others, as JSON.
    `tools`: schemas of the tools that may be called.
    """

    row: int
    kind: Kind
    turns: tuple[Turn, ...] = ()
    text: str = ""
    chosen: str = ""
    rejected: str = ""
    good: bool | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    columns: str = ""

    @property
    def called(self) -> tuple[str, ...]:
        """Return its tools, and what each turn calls or answers for, as JSON; nothing of those without."""
        given = (self.tools, *(turn.extra for turn in self.turns))
        return tuple(json.dumps(one, ensure_ascii=False, sort_keys=True) for one in given if one)

    @property
    def written(self) -> tuple[str, ...]:
        """Return every text in it, in order."""
        if self.kind == "text":
            return (self.text,)
        said = tuple(text for turn in self.turns for text in (turn.content, *([turn.thought] if turn.thought else [])))
        said = (*said, *self.called)
        return (*said, self.chosen, self.rejected) if self.kind == "preference" else said
