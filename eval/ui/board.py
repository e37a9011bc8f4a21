"""What Leaderboard does: load a folder, filter, sort and write it out. Handlers call it; it knows no component."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from eval.words import both, card, fault, texts
from playground.catalogue.variants import Catalogue
from playground.errors import MadangError
from playground.escape import escaped
from playground.page.cards import nothing
from playground.page.markup import tab_button
from playground.page.words import bilingual
from playground.settings import Settings
from playground.wording import Language

if TYPE_CHECKING:  # statistics take a second to import: the page starts without them
    from eval.cells import Cell
    from eval.leaderboard import Leaderboard, Row

GROUPED = ("", True)
FEW_FAULTS = 3
LONGEST_PATTERN = 1000
FORMS = {"csv": "text/csv", "md": "text/markdown", "json": "application/json"}


@dataclass(frozen=True)
class Asked:
    """What of which folder to show; `sort` is a column and whether the highest comes first."""

    folder: Path
    pattern: str = ""
    shots: tuple[int, ...] = ()
    whole: bool = False
    margin: float = 1.0
    sort: tuple[str, bool] = GROUPED


@dataclass(frozen=True)
class Shown:
    """A board as asked for, or the HTML that stands in its place."""

    board: "Leaderboard | None" = None
    shots: tuple[int, ...] = ()
    instead: str = ""


def asked(settings: Settings, values: Mapping[str, Any]) -> Asked:
    """Return the form's values; an empty folder is the program's own, a margin out of range the usual one.

    Visitors of a Space name no folder, whatever they send.
    """
    margin = float(values.get("margin") or 1.0)
    named = str(values.get("folder") or "").strip() if settings.mode == "local" else ""
    return Asked(
        folder=Path(named or settings.data / "results").expanduser(),
        pattern=str(values.get("pattern") or "").strip()[:LONGEST_PATTERN],
        shots=tuple(int(one) for one in values.get("shots") or ()),
        whole=bool(values.get("whole")),
        margin=margin if 0 < margin <= 50 else 1.0,
        sort=values.get("sort") or GROUPED,
    )


def show(settings: Settings, wanted: Asked) -> Shown:
    """Return the rows asked for; what stands in the way becomes a card, no results an invitation."""
    own = wanted.folder == settings.data / "results"
    if own and not any(wanted.folder.rglob("*.json")):
        return Shown(instead=_empty(settings))
    try:
        board = _load(str(settings.data), wanted.folder, wanted.margin, _stamp(settings, wanted.folder))
    except MadangError as error:
        return Shown(instead=fault("leaderboard.problem", error))
    shots = tuple(sorted({row.shots for row in board.rows}))
    if not board.rows:
        return Shown(instead=_empty(settings))
    fewer = _filtered(board, wanted)
    if not fewer.rows:
        return Shown(fewer, shots, card("leaderboard.none_left", both("leaderboard.none_left_hint")))
    return Shown(board=_sorted(fewer, wanted.sort), shots=shots)


def _empty(settings: Settings) -> str:
    """Return what stands where there is no result yet: visitors of a Space can score nothing."""
    if settings.mode == "space":
        return nothing(texts, "leaderboard.unscored")
    return nothing(texts, "leaderboard.empty", tab_button("evaluate", both("leaderboard.to_evaluate")))


@lru_cache(maxsize=8)
def _load(data: str, folder: Path, margin: float, stamp: object) -> "Leaderboard":
    """Read and compare, which takes seconds for whole runs, only where the files have changed."""
    from eval import leaderboard

    return leaderboard.load(folder, Catalogue.load(Settings(data=Path(data))), margin / 100)


def _stamp(settings: Settings, folder: Path) -> tuple[object, ...]:
    """Return what changes with any results file and with the catalogue, which says what descends from what."""
    files = [*sorted(folder.rglob("*.json")), *sorted(folder.rglob("samples_*.jsonl")), settings.catalogue]
    return tuple((str(file), file.stat().st_mtime_ns) for file in files if file.exists())


def _filtered(board: "Leaderboard", wanted: Asked) -> "Leaderboard":
    patterns = [part.strip() for part in wanted.pattern.split(",") if part.strip()]
    patterns = [part if any(sign in part for sign in "*?[") else f"*{part}*" for part in patterns]
    fewer = board.only(variants=patterns, whole=wanted.whole)
    return replace(fewer, rows=[row for row in fewer.rows if not wanted.shots or row.shots in wanted.shots])


def _sorted(board: "Leaderboard", sort: tuple[str, bool]) -> "Leaderboard":
    column, descending = sort
    if not column:
        return board
    try:
        return board.sorted(column, descending)
    except MadangError:
        return board  # a column of the folder shown before


def turned(sort: tuple[str, bool], column: str) -> tuple[str, bool]:
    """Return what a press on a heading makes of the order: highest first, lowest first, then back under the bases."""
    if sort[0] != column:
        return column, True
    return (column, False) if sort[1] else GROUPED


def base_row(board: "Leaderboard", row: "Row") -> "Row | None":
    """Return the row of a row's base at the same setting."""
    found = [one for one in board.rows if one.name == row.base and one.setting == row.setting]
    return found[0] if found else None


def sentences(board: "Leaderboard") -> str:
    """Return what the documents say of each row, the mean first, task by task folded away."""
    blocks = [block for row in board.rows if (block := _said(board, row))]
    heading = f"<h3>{both('leaderboard.said')}</h3>"
    return heading + ("".join(blocks) or f'<p class="soft">{both("leaderboard.nothing_compared")}</p>')


def _said(board: "Leaderboard", row: "Row") -> str:
    from eval.cells import MEAN

    lines = {task: text for task in (MEAN, *board.tasks) if (text := _lines(row, row.cells.get(task)))}
    if not lines:
        return ""
    first = row.main
    top = lines.pop(first.task, "") if first else ""
    rest = "".join(f"<li><b>{escaped(board.short(task))}</b> {text}</li>" for task, text in lines.items())
    folded = (
        f"<details{'' if top else ' open'}><summary>{both('leaderboard.tasks')}</summary><ul>{rest}</ul></details>"
        if rest
        else ""
    )
    who = f"<b>{escaped(row.name)}</b> <small>{both('board.shots', shots=row.shots)}</small>"
    return f'<div class="told"><p>{who}</p><div>{top}{folded}</div></div>'


def _lines(row: "Row", cell: "Cell | None") -> str:
    from eval.sentences import reason, sentence

    if cell is None:
        return ""
    pairs = [(one, name) for one, name in ((cell.difference, row.base), (cell.loss, row.parent)) if one]
    compared = "".join(
        f'<p class="is-{one.verdict}">{both("board.against", name=name)} '
        + bilingual(lambda language, one=one: sentence(one, language))  # type: ignore[misc]
        + "</p>"
        for one, name in pairs
    )
    if compared or not (cell.why_not and row.base):
        return compared
    base, task, said = row.base, cell.unasked, cell.reason
    why = bilingual(lambda language: reason(base, task, language, said)) if task else escaped(cell.why_not)
    return f'<p class="soft">{why}</p>'


def faults(board: "Leaderboard") -> str:
    """Return the files that could not be read, each with its reason; folded away where they are many."""
    cards = "".join(fault("leaderboard.left_out", error) for error in board.faults)
    if len(board.faults) <= FEW_FAULTS:
        return cards
    summary = f"{both('leaderboard.left_out')}: {len(board.faults):,}"
    return f'<details class="left-out"><summary>{summary}</summary>{cards}</details>'


def written(board: "Leaderboard", form: str, language: Language = "en") -> str:
    """Return the board as CSV, Markdown or JSON."""
    from eval import tables

    if form == "csv":
        return tables.csv_text(board)
    return tables.markdown(board, language) if form == "md" else tables.json_text(board, language)


def download(board: "Leaderboard", form: str, language: Language = "en") -> str:
    """Return a link that holds the file, for the script beside it to press."""
    text = written(board, form, language)
    if form == "csv":
        text = "\ufeff" + text  # spreadsheets read Korean names wrongly without it
    return f'<a download="leaderboard.{form}" href="data:{escaped(FORMS[form])};charset=utf-8,{quote(text)}">{form}</a>'


def choices(board: "Leaderboard") -> Sequence[tuple[str, str]]:
    """Return the rows whose flipped documents can be read: name on screen and key."""
    return [(label(row), key(row)) for row in board.rows if base_row(board, row)]


def label(row: "Row") -> str:
    """Return a row's name where no table stands around it."""
    return f"{row.name} · {row.shots}-shot" + (" · chat" if row.chat else "")


def key(row: "Row") -> str:
    """Return what tells a row from all others."""
    return "\x1f".join([row.name, str(row.shots), str(row.chat), row.system or ""])
