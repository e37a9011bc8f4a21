"""What columns are called elsewhere: the field that a name means, and the --column that has it read. Knows no rows."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from shlex import quote

NAMES: dict[str, tuple[str, ...]] = {
    "instruction": ("질문", "지시", "지시문", "명령", "query", "question", "user_input", "inputs", "user"),
    "output": ("답변", "답", "응답", "출력", "answer", "response", "reply", "target", "targets", "assistant"),
    "input": ("입력", "맥락", "문맥", "지문", "context", "passage", "document", "documents", "contexts"),
    "system": ("시스템", "시스템_프롬프트", "system_message", "system_instruction", "sys_prompt", "persona"),
    "history": ("대화_기록", "이전_대화", "chat_history", "previous_turns", "past"),
    "messages": ("대화", "dialog", "dialogue", "dialogs", "turns", "chat", "message"),
    "prompt": ("프롬프트", "질문", "question", "instruction", "query", "input"),
    "completion": ("응답", "답변", "response", "answer", "output"),
    "chosen": ("선택", "좋은_답", "preferred", "preferred_output", "chosen_response", "response_chosen", "accepted"),
    "rejected": ("거절", "나쁜_답", "dispreferred", "non_preferred_output", "rejected_response", "response_rejected"),
    "text": ("글", "본문", "내용", "문서", "content", "document", "body"),
    "reasoning_content": (
        "생각",
        "cot",
        "complex_cot",
        "thoughts",
        "chain_of_thought",
        "rationale",
        "reasoning_steps",
        "explanation",
    ),
}
"""A field -> what its column, or a turn's key, is called elsewhere."""
BARE = re.compile(r"[\w=.:/@%+…-]+")
"""What a shell takes as it stands."""


def field_of(name: str) -> str | None:
    """Return the field that a column of that name usually holds, if it is known under another name."""
    return next((field for field, names in NAMES.items() if _squeezed(name) in map(_squeezed, names)), None)


def columns_of(field: str, columns: Iterable[str]) -> list[str]:
    """Return the columns that may hold a field by what they are called elsewhere, or in other letters."""
    names = list(map(_squeezed, (field, *NAMES.get(field, ()))))
    return sorted((column for column in columns if _squeezed(column) in names), key=lambda c: names.index(_squeezed(c)))


def option(field: str, column: str) -> str:
    """Write the option that has a field read out of a column, as a shell takes it."""
    said = f"{field}={column}"
    return f"--column {said if BARE.fullmatch(said) else quote(said)}"


def _squeezed(name: str) -> str:
    return plain(name).replace("_", "")


def plain(name: str) -> str:
    """Return a name in lower case, with underscores for spaces and hyphens."""
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


LIKELY = (
    ("instruction", "output"),
    ("prompt", "completion"),
    ("prompt", "chosen", "rejected"),
    ("messages",),
    ("text",),
)
"""Columns that are looked for under other names, where a file is in no format."""
BESIDE = ("system", "history", "input")


def suggested(columns: Sequence[str]) -> str:
    """Return which columns to name: those of the first format that is there under other names, else what is near."""
    near = [{name: meant(name, columns) for name in wanted} for wanted in LIKELY]
    whole = next((found for found in near if all(found.values())), None)
    some = whole or next((found for found in near if any(found.values())), None)
    if some is None:
        return "Say which column is which: --column instruction=… --column output=…"
    more = {name: meant(name, columns) for name in BESIDE if whole and (name != "input" or "instruction" in some)}
    some |= {name: column for name, column in more.items() if column and column not in some.values()}
    said = " ".join(option(name, column or "…") for name, column in some.items() if name != column)
    return f"Did you mean {said}?" if said else "A --format says what is wrong with each row."


CERTAIN = (("prompt", "chosen", "rejected"), ("instruction", "output"), ("prompt", "completion"), ("messages",))
"""Columns that are read under their other names without being told, the most particular first."""


def other_names(columns: Sequence[str]) -> dict[str, str]:
    """Return field -> column where a table has a format's columns under names that mean nothing else; else nothing.

    A name that is only near is never taken, nor one of two columns that may both be meant.
    """
    for wanted in CERTAIN:
        found = {name: _own_or_other(name, columns) for name in wanted}
        if any(len(names) > 1 for names in found.values()):
            return {}
        if all(found.values()):
            beside = {name: _own_or_other(name, columns) for name in BESIDE if name != "input" or wanted[0] != "prompt"}
            taken = [names[0] for names in found.values()]
            found |= {name: names for name, names in beside.items() if len(names) == 1 and names[0] not in taken}
            return {name: names[0] for name, names in found.items() if names[0] != name}
    single = _own_or_other("text", columns) if len(columns) == 1 else []
    return {"text": single[0]} if single and single != ["text"] else {}


def _own_or_other(name: str, columns: Sequence[str]) -> list[str]:
    """Return the column of a field's own name, else those that it may stand in under another."""
    return [name] if name in columns else columns_of(name, columns)


def meant(name: str, columns: Sequence[str]) -> str:
    """Return the column that a field may stand in; empty where there is none."""
    if name in columns:
        return name
    known = next(iter(columns_of(name, columns)), "")
    match = get_close_matches(name, [column.strip().lower() for column in columns], n=1, cutoff=0.75)
    return known or next((column for column in columns if match and column.strip().lower() == match[0]), "")
