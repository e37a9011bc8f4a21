"""The documents that one variant answers right and another wrong, as HTML to read."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from eval.ui.board import base_row, key
from eval.words import both, fault
from playground.errors import MadangError
from playground.escape import escaped

if TYPE_CHECKING:
    from eval.joining import Flip
    from eval.leaderboard import Leaderboard, Row
    from eval.samples import Sample

SHOWN = 20
PROMPT_END = 600


def tasks(board: "Leaderboard", row_key: str | None) -> list[str]:
    """Return the tasks that a row and its base were both asked, and that have right answers."""
    pair = _pair(board, row_key)
    asked = [task for task in board.tasks if all(task in row.cells for row in pair)] if pair else []
    return [task for task in asked if pair and pair[0].cells[task].reason != "untested"]


def first(board: "Leaderboard", row_keys: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the first row, and the first of its tasks, with documents that flipped; else the first of both."""
    from eval.joining import flips

    for row_key in row_keys:
        pair = _pair(board, row_key)
        for task in tasks(board, row_key):
            assert pair is not None
            one, other = pair[1].cells[task].result, pair[0].cells[task].result
            with suppress(MadangError):
                if one is not None and other is not None and flips(one, other):
                    return row_key, task
    top = next(iter(row_keys), None)
    return top, next(iter(tasks(board, top)), None)


def _pair(board: "Leaderboard", row_key: str | None) -> "tuple[Row, Row] | None":
    """Return the row of a key and that of its base; None where there are not both."""
    row = next((row for row in board.rows if key(row) == row_key), None)
    base = base_row(board, row) if row else None
    return (row, base) if row and base else None


def html(board: "Leaderboard", row_key: str | None, task: str | None) -> str:
    """Return all that flipped between a row and its base on a task."""
    from eval.joining import flips

    pair = _pair(board, row_key)
    if pair is None or task not in tasks(board, row_key):
        return f'<p class="soft">{both("flips.pick")}</p>'
    row, base = pair
    one, other = base.cells[task].result, row.cells[task].result
    assert one is not None
    assert other is not None
    try:
        found = flips(one, other)
    except MadangError as error:
        return fault("leaderboard.problem", error)
    if not found:
        return f'<p class="soft">{both("flips.none", base=base.name, variant=row.name)}</p>'
    gained = sum(flip.gained for flip in found)
    count = both("flips.count", gained=gained, lost=len(found) - gained, base=base.name, n=f"{other.n:,}")
    more = both("flips.more", shown=SHOWN, all=len(found)) if len(found) > SHOWN else ""
    metric = other.metric.partition(",")[0]
    shown = "".join(_flip(flip, base.name, row.name, metric) for flip in found[:SHOWN])
    return f'<p class="soft">{count} {more}</p><div class="flips">{shown}</div>'


def _flip(flip: "Flip", base: str, variant: str, metric: str) -> str:
    name = "gained" if flip.gained else "lost"
    chip = f'<em class="{"better" if flip.gained else "worse"}">{both(f"flips.{name}")}</em>'
    head = f"<header>{chip}<small>{both('flips.document', number=flip.variant.doc_id)}</small></header>"
    return f"<article>{head}{_prompt(flip.variant.prompt)}{_answers(flip, base, variant, metric)}</article>"


def _prompt(text: str) -> str:
    """Return the end of the prompt, where the question is; all of it folded away where examples stand before."""
    if len(text) <= PROMPT_END:
        return f"<pre>{escaped(text)}</pre>"
    folded = f"<details><summary>{both('flips.whole_prompt')}</summary><pre>{escaped(text)}</pre></details>"
    return f"<pre>…{escaped(text[-PROMPT_END:])}</pre>{folded}"


def _answers(flip: "Flip", base: str, variant: str, metric: str) -> str:
    choices = flip.variant.choices
    if not choices:
        rows = ((base, flip.base), (variant, flip.variant))
        return "".join(
            f"<p><small>{both('flips.generated', name=name)}</small> {escaped(_generated(sample))}</p>"
            for name, sample in rows
        )
    right = gold(flip.variant)
    given = ((base, flip.base.answer(metric)), (variant, flip.variant.answer(metric)))
    lines = []
    for index, choice in enumerate(choices):
        who = "".join(f'<span class="who">{escaped(name)}</span>' for name, answer in given if answer == index)
        mark = f'<span class="right">✓ {both("flips.right")}</span>' if index == right else ""
        lines.append(
            f'<li class="{"gold" if index == right else ""}"><span>{escaped(choice.strip())}</span>{mark}{who}</li>'
        )
    return f"<ol>{''.join(lines)}</ol>"


def _generated(sample: "Sample") -> str:
    found = sample.filtered_resps
    return str(found[0] if isinstance(found, list) and found else found)


def gold(sample: "Sample") -> int | None:
    """Return the right choice by place: lm-eval writes it as a number or as the choice's own text."""
    texts = [choice.strip() for choice in sample.choices]
    if sample.target.strip() in texts:
        return texts.index(sample.target.strip())
    number = sample.target.strip()
    return int(number) if number.isdigit() and int(number) < len(texts) else None
