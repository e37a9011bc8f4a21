"""The leaderboard as an HTML table: variants under their base, numbers with intervals, verdicts in words."""

import math
from typing import TYPE_CHECKING

from eval.words import both, tooltip
from playground.escape import Markup, escaped
from playground.page.cards import badge
from playground.page.number import disk_size

if TYPE_CHECKING:
    from eval.cells import Cell
    from eval.leaderboard import Leaderboard, Row
    from eval.paired import Score

MINUS = "\u2212"
GAP = '<span class="gap">–</span>'


def html(board: "Leaderboard", sort: tuple[str, bool]) -> str:
    """Return the whole table; empty columns are left out. Macro-F1 is folded away below it."""
    columns = _columns(board)
    heads = "".join(_head(board, name, sort) for name in columns)
    before = [None, *board.rows]
    lines = "".join(
        _line(board, row, columns, grouped=not sort[0], again=bool(last and last.variant == row.variant))
        for last, row in zip(before, board.rows, strict=False)
    )
    return f'{_table(heads, lines)}<p class="notes">{_notes(board)}</p>{_f1(board, grouped=not sort[0])}'


def _table(heads: str, lines: str) -> str:
    return f'<div class="board"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'


def _f1(board: "Leaderboard", grouped: bool) -> str:
    """Return macro-F1 with its interval, of tasks that have it: published KoBEST scores are often macro-F1."""
    tasks = [task for task in board.tasks if any((cell := row.cells.get(task)) and cell.f1 for row in board.rows)]
    if not tasks:
        return ""
    heads = "".join(f'<th scope="col">{escaped(board.short(task))}</th>' for task in tasks)
    lines = ""
    for row in board.rows:
        scores = [cell.f1 if (cell := row.cells.get(task)) else None for task in tasks]
        depth = row.depth if grouped else 0
        name = f'<th scope="row" style="--depth: {depth}">{_name(row, grouped)}</th>'
        lines += f"<tr>{name}{''.join(f'<td>{_interval(score)}</td>' for score in scores)}</tr>"
    first = f'<th scope="col" class="first">{both("board.variant")}</th>'
    summary = f'<summary>{both("leaderboard.f1")}</summary><p class="notes">{both("leaderboard.f1_info")}</p>'
    return f'<details class="f1">{summary}{_table(first + heads, lines)}</details>'


def _interval(score: "Score | None") -> str:
    if score is None:
        return GAP
    low, high = score.interval.low, score.interval.high
    return f"{100 * score.value:.1f}<small>{100 * low:.1f}–{100 * high:.1f}</small>"


def _columns(board: "Leaderboard") -> list[str]:
    rows = board.rows
    there = {
        "mean": any(row.mean for row in rows),
        "difference": any((cell := row.main) and (cell.difference or cell.loss) for row in rows),
        **dict.fromkeys(board.tasks, True),
        "size": any(row.facts and row.facts.size_bytes for row in rows),
        "speed": any(row.facts and row.facts.decode_tokens_per_s for row in rows),
        "drift": any(row.facts and row.facts.drift for row in rows),
        "n": True,
    }
    return ["variant", *(name for name, is_there in there.items() if is_there)]


def _head(board: "Leaderboard", name: str, sort: tuple[str, bool]) -> str:
    there = name in board.tasks
    text = escaped(board.short(name)) if there else both(f"board.{name}")
    higher = board.higher(name) if there else True
    text = Markup(f"{text} ↓") if higher is False else text
    if name == "variant":
        back = (
            f'<button type="button" class="back" data-action="sort" data-name="">{both("leaderboard.grouped")}</button>'
        )
        return f'<th scope="col" class="first">{text}{back if sort[0] else ""}</th>'
    if higher is None:
        return f'<th scope="col" title="{tooltip("board.direction")}">{text} ?</th>'
    chosen = sort[0] == name
    order = ("descending" if sort[1] is higher else "ascending") if chosen else "none"
    return (
        f'<th scope="col" aria-sort="{order}"><button type="button" data-action="sort" '
        f'data-name="{escaped(name)}" title="{tooltip("leaderboard.sort")}">{text}</button></th>'
    )


def _line(board: "Leaderboard", row: "Row", columns: list[str], grouped: bool, again: bool) -> str:
    depth = row.depth if grouped else 0
    cells = "".join(f"<td>{_cell(board, row, name)}</td>" for name in columns[1:])
    kind = ' class="root"' if grouped and not depth and not again else ""
    return f'<tr{kind}><th scope="row" style="--depth: {depth}">{_name(row, grouped)}</th>{cells}</tr>'


def _name(row: "Row", grouped: bool) -> str:
    notes = [both("board.shots", shots=row.shots)]
    if row.chat:
        notes.append(both("leaderboard.chat"))
    if row.facts and row.facts.thoughts_closed:
        notes.append(both("leaderboard.thoughts_closed"))
    if row.facts and row.facts.thoughts_unfinished:
        counts = {"count": f"{row.facts.thoughts_unfinished:,}", "total": f"{row.facts.thoughts_answers:,}"}
        notes.append(both("leaderboard.thoughts_unfinished", **counts))
    if row.base and not grouped:
        notes.append(both("leaderboard.against", name=row.base))
    if row.partial:
        notes.append(both("leaderboard.partial", n=f"{row.n:,}", total=f"{row.total:,}"))
    if row.behind:
        notes.append(both("board.behind", count=row.behind))
    shown_notes = "".join(f'<span class="{"part" if "partial" in n else ""}">{n}</span>' for n in notes)
    star = '<sup title="' + tooltip("board.partial") + '">*</sup>' if row.partial else ""
    return f"<b>{escaped(row.name)}</b>{star} {badge(row.kind)}<small>{shown_notes}</small>"


def _cell(board: "Leaderboard", row: "Row", name: str) -> str:
    if name == "difference":
        return _difference(row.main)
    if name == "mean" or name in board.tasks:
        return _score(row.cells.get(name), marks=name != "mean")
    return _fact(row, name)


def _fact(row: "Row", name: str) -> str:
    facts = row.facts
    if name == "n":
        return f"{row.n:,}"
    if name == "size":
        return _size(row)
    if name == "speed":
        return f"{facts.decode_tokens_per_s:.0f}" if facts and facts.decode_tokens_per_s else ""
    drift = facts.drift if facts else None
    if drift is None:
        return ""
    numbers = {
        "p99": f"{drift.p99_kl:.3f}",
        "same": f"{100 * drift.same_top:.1f} %",
        "ratio": f"{drift.perplexity_ratio:.3f}",
    }
    title = tooltip("leaderboard.drift_title", name=drift.against, **numbers)
    return f'<span title="{title}">{drift.mean_kl:.4f}</span>'


def _size(row: "Row") -> str:
    """Return the bytes on disk; an adapter's come on top of its base's."""
    if not row.facts or not row.facts.size_bytes:
        return ""
    written = disk_size(row.facts.size_bytes)
    return f'<span title="{tooltip("leaderboard.on_top")}">+{written}</span>' if row.kind == "adapter" else written


def _score(cell: "Cell | None", marks: bool) -> str:
    if cell is None or math.isnan(cell.value):
        return GAP
    if cell.score is None:
        error = "" if cell.error is None else f"<small>± {cell.error:.2g}</small>"
        return f"{cell.value:.4g}{error}"
    change = cell.difference.verdict if marks and cell.difference else ""
    arrow = {"better": "▲", "worse": "▼"}.get(change, "")
    shown = f'<i class="{change}" title="{tooltip("board.confirmed")}">{arrow}</i>' if arrow else ""
    return shown + _interval(cell.score)


def _difference(cell: "Cell | None") -> str:
    """Return the difference with its interval, then a word for each question asked."""
    if cell is None:
        return ""
    parts = []
    if change := cell.difference:
        low, high = signed(change.interval.low), signed(change.interval.high)
        parts.append(f"{signed(change.value)}<small>{low} … {high}</small>")
        parts.append(f'<em class="{change.verdict}">{both(f"board.change_{change.verdict}")}</em>')
    if cell.loss:
        parts.append(f'<em class="{cell.loss.verdict}">{both(f"board.loss_{cell.loss.verdict}")}</em>')
    return "".join(parts)


def signed(share: float) -> str:
    """Return a share of 1 as points with a sign; what rounds to nothing has none."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def _notes(board: "Leaderboard") -> str:
    cells = [cell for row in board.rows for cell in row.cells.values()]
    there = {
        "partial": any(row.partial for row in board.rows),
        "raw": any(cell.score is None for cell in cells),
        "direction": any(cell.higher is not True for cell in cells),
    }
    return " ".join([both("leaderboard.interval"), *(both(f"board.{name}") for name, is_so in there.items() if is_so)])
