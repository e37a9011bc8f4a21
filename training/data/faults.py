"""Why one row cannot be trained on, and which rows say the same. Each looks at a single row, nothing else."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import pairwise

from training.data.cells import EMPTY
from training.data.encodings import SURROGATES
from training.data.examples import ROLES, Example, Turn
from training.data.thoughts import thought_alone

SAID = re.compile(r"[^\W_]")
FOLLOWS = {"user": ("assistant",), "assistant": ("user", "tool"), "tool": ("tool", "assistant")}
"""Which roles may follow one."""
OUT_OF_PLACE = {"tool": "with a tool's result that follows no answer", "user": "with a tool's result without an answer"}

PLACEHOLDER = 20
PLACEHOLDERS = EMPTY | {"inf", "infinity", "undefined", "<noinput>", "noinput", "no input", "#n/a", "n/a"}
"""What other programs write where there is nothing, in lower case; none is as long as PLACEHOLDER."""


def usable(example: Example) -> bool:
    """Return whether no fatal check of content names this row, so that it can be rendered and encoded."""
    return not any(fault(example) for fault in FAULTS)


def empty(example: Example) -> bool:
    """Return whether nothing is said at all, or a question is empty."""
    if not any(text.strip() for text in example.written):
        return True
    return any(not turn.content.strip() for turn in example.turns if turn.role == "user")


def meaningless(example: Example) -> bool:
    """Return whether there is no letter or digit in all of it."""
    return not any(SAID.search(text) for text in example.written)


def is_placeholder(text: str) -> bool:
    """Return whether a text is nothing but another program's word for an empty cell, or for a number without end."""
    return len(text) < PLACEHOLDER and text.strip().lower().lstrip("+-") in PLACEHOLDERS


def unanswered(example: Example) -> bool:
    """Return whether an answer is empty or nothing but a thought; of a pair, either one."""
    return any(not said.strip() or thought_alone(said) for said in answers(example))


def disorder(example: Example) -> str:
    """Return what is wrong with the order of the roles; empty where they alternate and end as they should."""
    turns = example.turns[1:] if example.turns and example.turns[0].role == "system" else example.turns
    if example.kind == "text":
        return ""
    unknown = next((turn.role for turn in turns if turn.role not in ROLES), None)
    if unknown is not None:
        return f"with the unknown role {unknown!r}"
    if any(turn.role == "system" for turn in turns):
        return "with a system message that is not the first"
    if turns and turns[0].role != "user":
        return "that begin with an answer" if turns[0].role == "assistant" else "that begin with a tool's result"
    for before, turn in pairwise(turns):
        if turn.role not in FOLLOWS[before.role]:
            return "in which a side speaks twice in a row" if turn.role == before.role else OUT_OF_PLACE[turn.role]
    if example.kind not in ("preference", "prompt"):
        return "" if turns and turns[-1].role == "assistant" else "that end without an answer"
    return "" if turns and turns[-1].role != "assistant" else "whose prompt does not end with a question"


def same(example: Example) -> bool:
    """Return whether both answers of a pair are equal."""
    return example.kind == "preference" and plain(example.chosen) == plain(example.rejected)


def halved(example: Example) -> bool:
    """Return whether there are halves of characters (lone surrogates), which no tokenizer takes."""
    return any(SURROGATES.search(text) for text in example.written)


def unlearnt(example: Example) -> bool:
    """Return whether nothing of a row's turns is to be learnt; of a rated one, its last answer."""
    turns = example.turns[-1:] if example.kind == "rated" else example.turns
    return example.kind in ("conversation", "rated") and bool(turns) and not any(turn.learnt for turn in turns)


FAULTS: tuple[Callable[[Example], object], ...] = (
    empty,
    meaningless,
    unanswered,
    disorder,
    same,
    halved,
    unlearnt,
)
"""Why a row cannot be trained on."""


def answers(example: Example) -> list[str]:
    """Return the answers in it; none of plain text."""
    if example.kind == "preference":
        return [example.chosen, example.rejected]
    return [turn.content or "".join(_called(turn)) for turn in example.turns if turn.role == "assistant"]


def answered(example: Example) -> list[Turn]:
    """Return the answers in it as turns; none of plain text."""
    if example.kind == "preference":
        return [Turn("assistant", example.chosen), Turn("assistant", example.rejected)]
    return [turn for turn in example.turns if turn.role == "assistant"]


def whole_key(example: Example) -> bytes:
    """Return a key that is equal for rows that say the same, spaces and Unicode composition aside."""
    learnt = str([turn.learnt for turn in example.turns])
    return _digest(
        [
            *_parts(example.turns),
            *_tools(example),
            learnt,
            example.text,
            example.chosen,
            example.rejected,
            str(example.good),
            example.columns,
        ]
    )


def prompt_key(example: Example) -> bytes:
    """Return a key that is equal for rows that ask the same: all turns before the last answer, or the plain text."""
    asked: tuple[Turn, ...] = example.turns[: None if example.kind in ("preference", "prompt") else -1]
    return _digest([*_parts(asked), *_tools(example), example.text])


def _tools(example: Example) -> list[str]:
    return [json.dumps(example.tools, ensure_ascii=False, sort_keys=True)] if example.tools else []


def _parts(turns: Iterable[Turn]) -> list[str]:
    return [part for turn in turns for part in (turn.role, turn.content, turn.thought, *_called(turn))]


def _called(turn: Turn) -> list[str]:
    return [json.dumps(turn.extra, ensure_ascii=False, sort_keys=True)] if turn.extra else []


def _digest(parts: Iterable[str]) -> bytes:
    said = "\0".join(map(plain, parts)).encode("utf-8", "surrogatepass")
    return blake2b(said, digest_size=16).digest()


def plain(text: str) -> str:
    """Return the text composed, with single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())
