"""Write a leaderboard as a terminal table, CSV, Markdown or JSON. Computes nothing but how numbers are written."""

import csv
import io
import math
from typing import Any

from pydantic import TypeAdapter
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

from eval.cells import MEAN, Cell
from eval.leaderboard import Leaderboard, Row
from eval.paired import Difference, Loss, Score
from eval.sentences import points, reason, sentence
from eval.words import words
from playground.escape import HALVES, in_markdown, in_sheet
from playground.wording import Language

FACTS = ("dtype", "size_bytes", "prefill_tokens_per_s", "decode_tokens_per_s", "first_token_s", "peak_memory_bytes")
JSON: TypeAdapter[object] = TypeAdapter(object)
"""Writes dataclasses and models as JSON objects, and not-a-number as null."""
BETWEEN = 3
"""Blanks that rich puts around a column."""
DRIFT = ("against", "mean_kl", "p99_kl", "same_top", "perplexity_ratio", "positions")


def terminal(board: Leaderboard, language: Language = "en", width: int | None = None) -> RichTable:
    """Return the board as a rich table; partial runs carry a mark, and the caption says what it means.

    What has no room in `width` is left out: first the tasks' intervals, then facts, then the verdict, which the
    sentences say in full, and at last tasks from the right.
    """
    said = words(language)
    columns = _fitting(board, said, math.inf if width is None else width)
    missing = [name for task in board.tasks if (name := headed(board, task)) not in columns]
    notes = caption(board, language) + (f" {said['board.narrow'].format(names=', '.join(missing))}" if missing else "")
    table = RichTable(box=SIMPLE_HEAD, caption=Text(notes), caption_justify="left")
    for index, name in enumerate(columns):
        table.add_column(Text(name), justify="left" if index < 2 else "right", no_wrap=index == 0)
    for line in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, line))  # as text: rich would read `m:a:Q8_0` as an emoji
    return table


def room(table: RichTable) -> int:
    """Return the columns of a terminal that a table takes with all of its cells in one line each."""
    cells = [[column.header, *column.cells] for column in table.columns]
    return BETWEEN + sum(max(cell_len(str(cell)) for cell in column) + BETWEEN for column in cells)


def in_brief(board: Leaderboard, width: int, language: Language = "en") -> list[str]:
    """Return two lines below a table of that width: what the comparisons came to, and where the rest is told."""
    said = words(language)
    mains = [main for row in board.rows if (main := row.main)]
    found = [one.verdict for main in mains for one in (main.difference, main.loss) if one]
    kinds = {"good": ("better", "shown"), "bad": ("worse", "refuted"), "open": ("undecided",)}
    counts = {kind: sum(one in names for one in found) for kind, names in kinds.items()}
    first = said["board.brief" if found else "board.brief_none"].format(all=len(found), **counts)
    left_out = len(_columns(board, said, intervals=True)) - len(_fitting(board, said, width))
    mark = said["board.brief_partial"] if any(row.partial for row in board.rows) else ""
    return [first, mark + said["board.brief_columns" if left_out else "board.brief_words"].format(count=left_out)]


def _fitting(board: Leaderboard, said: dict[str, str], room: float) -> dict[str, list[str]]:
    """Return the columns that fit into `room`; shots stay where they tell rows apart."""

    def narrow() -> bool:
        return sum(max(map(cell_len, (name, *cells))) + BETWEEN for name, cells in columns.items()) >= room

    columns = _columns(board, said, intervals=True)
    if narrow():
        columns = _columns(board, said, intervals=False)
    same = ("shot_count",) if len({row.shots for row in board.rows}) < 2 else ()
    for fact in (*same, "drift", "size", "kind", "speed", "verdict", "difference"):
        if narrow():
            columns.pop(said[f"board.{fact}"], None)
    mean = _task(board, MEAN, said)
    if narrow() and mean in columns:
        columns[mean] = [_score(row.mean, interval=False) for row in board.rows]
    for name in (said["board.n"], *(headed(board, task) for task in reversed(board.tasks))):
        if narrow():
            columns.pop(name, None)
    return columns


def markdown(board: Leaderboard, language: Language = "en") -> str:
    """Return the board as a Markdown table, with its caption and sentences below."""
    columns = _columns(board, words(language), intervals=True)
    lines = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    table = "\n".join("| " + " | ".join(map(in_markdown, line)) + " |" for line in lines)
    told = "\n".join(f"- {in_markdown(line)}" for line in sentences(board, language))
    return "\n\n".join(part for part in (table, caption(board, language), told) if part) + "\n"


def caption(board: Leaderboard, language: Language = "en") -> str:
    """Return what the marks mean, for those that occur."""
    said = words(language)
    notes = [said["board.interval"]]
    if any(row.partial for row in board.rows):
        notes.append(said["board.partial"])
    if any(row.chat for row in board.rows):
        notes.append(said["board.chat"])
    cells = [cell for row in board.rows for cell in row.cells.values()]
    if any(cell.score is None for cell in cells):
        notes.append(said["board.raw"])
    if any(cell.higher is not True for cell in cells):
        notes.append(said["board.direction"])
    if any(cell.f1 for cell in cells):
        notes.append(said["board.f1_note"])
    return " ".join(notes)


def sentences(board: Leaderboard, language: Language = "en") -> list[str]:
    """Return one line per comparison, with variant, task and what was found, then one per row with macro-F1."""
    said, lines = words(language), []
    for row in board.rows:
        for task in (MEAN, *board.tasks):
            cell = row.cells.get(task)
            if cell is None:
                continue
            where = f"{row.name}, {_task(board, task, said)}, {said['board.shots'].format(shots=row.shots)}"
            lines += [f"{where}: {line}" for line in _statements(row, cell, said, language)]
    lines += [line for row in board.rows if (line := _f1(board, row, said))]
    return lines + [
        f"{row.name}, {said['board.shots'].format(shots=row.shots)}: {line}"
        for row in board.rows
        for line in (*thoughts(row, language), *behind(row, language))
    ]


def behind(row: Row, language: Language = "en") -> list[str]:
    """Return how many runs of the same arguments a row stands for, where there are several."""
    return [words(language)["board.behind"].format(count=row.behind)] if row.behind else []


def thoughts(row: Row, language: Language = "en") -> list[str]:
    """Return what became of thoughts where a row was scored: closed in front of choices, or never left."""
    said, facts, told = words(language), row.facts, []
    if facts and facts.thoughts_closed:
        told.append(said["board.thoughts_closed"].format(count=f"{facts.thoughts_closed:,}"))
    if facts and facts.thoughts_unfinished:
        counts = {"count": f"{facts.thoughts_unfinished:,}", "total": f"{facts.thoughts_answers:,}"}
        told.append(said["board.thoughts_unfinished"].format(**counts))
    return told


def _f1(board: Leaderboard, row: Row, said: dict[str, str]) -> str:
    """Return a row's macro-F1 task by task, each with its bootstrap interval; nothing where no task has it."""
    found = [
        f"{_task(board, task, said)} {_interval(cell.f1)}"
        for task in board.tasks
        if (cell := row.cells.get(task)) and cell.f1
    ]
    where = f"{row.name}, {said['board.shots'].format(shots=row.shots)}"
    return f"{where}: {said['board.f1']} {', '.join(found)}" if found else ""


def _statements(row: Row, cell: Cell, said: dict[str, str], language: Language) -> list[str]:
    told = []
    if cell.difference:
        told.append(f"{said['board.against'].format(name=row.base)} {sentence(cell.difference, language)}")
    if cell.loss:
        told.append(f"{said['board.against'].format(name=row.parent)} {sentence(cell.loss, language)}")
    if told or not (row.base and cell.why_not) or (cell is not row.main and row.main and row.main.why_not):
        return told  # nothing to compare it to, or the mean has said why
    return [reason(row.base, cell.unasked, language, cell.reason) if cell.unasked else cell.why_not]


def _columns(board: Leaderboard, said: dict[str, str], intervals: bool) -> dict[str, list[str]]:
    """Return the cells of each column, by its heading; a column with nothing in it is left out."""
    rows = board.rows
    mains = [row.main for row in rows]
    facts = [row.facts for row in rows]
    columns = {
        said["board.variant"]: ["  " * row.depth + row.name + (" *" if row.partial else "") for row in rows],
        said["board.kind"]: [row.kind + (" + chat" if row.chat else "") for row in rows],
        _task(board, MEAN, said): [_score(row.mean) for row in rows],
    }
    columns |= {headed(board, task): [_score(row.cells.get(task), intervals) for row in rows] for task in board.tasks}
    columns |= {
        said["board.difference"]: [_signed(main.difference) if main and main.difference else "" for main in mains],
        said["board.verdict"]: [_verdict(main, said) for main in mains],
        said["board.size"]: [_size(row) for row in rows],
        said["board.speed"]: [f"{s:.0f}" if (s := fact and fact.decode_tokens_per_s) else "" for fact in facts],
        said["board.drift"]: [f"{fact.drift.mean_kl:.4f}" if fact and fact.drift else "" for fact in facts],
        said["board.n"]: [f"{row.n:,}" + (f"/{row.total:,}" if row.partial else "") for row in rows],
        said["board.shot_count"]: [str(row.shots) for row in rows],
    }
    return {name: column for name, column in columns.items() if any(column)}


def headed(board: Leaderboard, column: str) -> str:
    """Return a column's heading; an arrow says which way is better where that is not up, a question mark who knows."""
    return board.short(column) + {True: "", False: " ↓", None: " ?"}[board.higher(column)]


def _task(board: Leaderboard, task: str, said: dict[str, str]) -> str:
    return said["board.mean"] if task == MEAN else board.short(task)


def _score(cell: Cell | None, interval: bool = True) -> str:
    if cell is None or math.isnan(cell.value):
        return ""
    if cell.score is None:
        return raw(cell, interval)
    return _interval(cell.score) if interval else points(cell.value)


def raw(cell: Cell, error: bool = True) -> str:
    """Return a number as lm-eval wrote it, with its standard error where there is one: scaled by nothing."""
    return f"{cell.value:.4g}" + (f" ± {cell.error:.2g}" if error and cell.error is not None else "")


def _interval(score: Score) -> str:
    return f"{points(score.value)} [{points(score.interval.low)}, {points(score.interval.high)}]"


def _signed(one: Difference) -> str:
    value, low, high = (f"{100 * share:+.1f}" for share in (one.value, one.interval.low, one.interval.high))
    return f"{value} [{low}, {high}]"


def _verdict(cell: Cell | None, said: dict[str, str]) -> str:
    """Return one word for each question that was asked; the sentences say it in full."""
    if cell is None:
        return ""
    found: list[Difference | Loss] = [one for one in (cell.difference, cell.loss) if one is not None]
    kinds = ["loss" if isinstance(one, Loss) else "change" for one in found]
    return ", ".join(said[f"board.{kind}_{one.verdict}"] for kind, one in zip(kinds, found, strict=True))


def _size(row: Row) -> str:
    """Return the bytes on disk in words; a plus says that an adapter's come on top of its base's."""
    size = row.facts.size_bytes if row.facts else None
    if size is None:
        return ""
    plus = "+" if row.kind == "adapter" else ""
    return plus + (f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB")


def records(board: Leaderboard) -> list[dict[str, Any]]:
    """Return one flat record per variant and setting, under stable English names; gaps are None, shares are of 1."""
    found = []
    for row in board.rows:
        record: dict[str, Any] = {name: getattr(row, name) for name in ("variant", "kind", "base", "parent", "shots")}
        record |= {"differs": ", ".join(map("=".join, row.differs))}
        record |= {"chat_template": row.chat, "n": row.n, "partial": row.partial}
        for task in (MEAN, *board.tasks):
            record |= _flat(task, row.cells.get(task))
        record |= {name: getattr(row.facts, name, None) for name in FACTS}
        drift = row.facts.drift if row.facts else None
        found.append(record | {f"drift_{name}": getattr(drift, name, None) for name in DRIFT})
    return found


def _flat(task: str, cell: Cell | None) -> dict[str, Any]:
    """Return a cell's numbers under names that begin with its task; the same names whether or not it is there."""
    score, f1, change, kept = (cell.score, cell.f1, cell.difference, cell.loss) if cell else (None,) * 4
    values = {
        "": _number(cell.value) if cell else None,
        "stderr": cell.error if cell else None,
        "low": score.interval.low if score else None,
        "high": score.interval.high if score else None,
        "f1": f1.value if f1 else None,
        "f1_low": f1.interval.low if f1 else None,
        "f1_high": f1.interval.high if f1 else None,
        "n": cell.n if cell else None,
        "total": cell.total if cell else None,
        "difference": change.value if change else None,
        "difference_low": change.interval.low if change else None,
        "difference_high": change.interval.high if change else None,
        "p": change.p if change else None,
        "p_holm": change.p_adjusted if change else None,
        "verdict": change.verdict if change else None,
        "loss_bound": kept.bound if kept else None,
        "loss_verdict": kept.verdict if kept else None,
    }
    return {f"{task}_{name}".rstrip("_"): value for name, value in values.items()}


def csv_text(board: Leaderboard) -> str:
    """Return the flat records as CSV."""
    rows = records(board)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["variant"], lineterminator="\n")
    writer.writerow({name: in_sheet(name) for name in writer.fieldnames})
    writer.writerows({name: in_sheet(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def json_text(board: Leaderboard, language: Language = "en") -> str:
    """Return everything that the board knows as JSON, with the sentences; not-a-number becomes null."""
    content = {
        "tasks": board.tasks,
        "margin": board.margin,
        "alpha": board.alpha,
        "rows": [_row(board, row, language) for row in board.rows],
        "faults": [fault.message.translate(HALVES) for fault in board.faults],
    }
    return JSON.dump_json(content, indent=2).decode() + "\n"


def _row(board: Leaderboard, row: Row, language: Language) -> dict[str, Any]:
    names = ("variant", "kind", "base", "parent", "shots", "chat", "system", "n", "partial", "facts", "differs")
    cells = {task: _cell(row.cells[task], language) for task in (MEAN, *board.tasks) if task in row.cells}
    return {name: getattr(row, name) for name in names} | {"cells": cells}


def _cell(cell: Cell, language: Language) -> dict[str, Any]:
    names = ("value", "error", "higher", "n", "total", "partial", "score", "f1", "difference", "loss")
    results = [result for result in (cell.difference, cell.loss) if result]
    why = cell.why_not and cell.why_not.translate(HALVES)
    return {name: getattr(cell, name) for name in names} | {
        "why_not": why,
        "sentences": [sentence(one, language) for one in results],
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
