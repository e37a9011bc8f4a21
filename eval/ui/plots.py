"""Accuracy against size and against speed, as SVG of our own: one point per row, with its interval and name."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.ui.board import label
from eval.words import both, texts, tooltip
from playground.escape import escaped
from playground.page import svg
from playground.page.number import disk_size

if TYPE_CHECKING:
    from eval.leaderboard import Leaderboard, Row

WIDTH, HEIGHT = 560, 330
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 16, 46
LETTER, LINE = 5.8, 14
"""How wide a letter of a name is, about, and how high a line."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Point:
    """One row of the plot: x in its own unit, the rest in points of 100."""

    name: str
    kind: str
    x: float
    y: float
    low: float
    high: float


def html(board: "Leaderboard") -> str:
    """Return both plots side by side; one without any number says how to get them."""
    size_of: Callable[[Row], float | None] = lambda row: row.disk  # noqa: E731
    speed_of: Callable[[Row], float | None] = lambda row: row.facts.decode_tokens_per_s if row.facts else None  # noqa: E731
    plots = (
        ("size", points(board, size_of), disk_size),
        ("speed", points(board, speed_of), lambda value: f"{value:g}"),
    )
    drawn = "".join(f'<figure tabindex="0">{plot(name, found, written)}</figure>' for name, found, written in plots)
    return f'<h3>{both("plot.heading")}</h3><div class="plots">{drawn}</div>'


def points(board: "Leaderboard", x: "Callable[[Row], float | None]") -> list[Point]:
    """Return the rows that have both numbers; shots are in the name only where they differ."""
    several = len({row.setting for row in board.rows}) > 1
    found = []
    for row in board.rows:
        cell, value = row.main, x(row)
        if cell is None or cell.score is None or not value:
            continue
        interval = cell.score.interval
        numbers = [100 * one for one in (cell.value, interval.low, interval.high)]
        found.append(Point(label(row) if several else row.name, row.kind, float(value), *numbers))
    return found


def plot(name: str, found: Sequence[Point], written: Callable[[float], str]) -> str:
    """Return one plot; x is on a log scale, y as wide as the intervals need."""
    if not found:
        return f'<p class="soft">{both(f"plot.none_{name}")}</p>'
    across, ticks_x = _log_scale([point.x for point in found])
    up, ticks_y = _scale([point.low for point in found], [point.high for point in found])
    left, right, foot = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM
    grid = "".join(
        svg.line("grid", (left, up(y)), (right, up(y))) + svg.text("tick", left - 8, up(y) + 4, f"{y:g}", "end")
        for y in ticks_y
    ) + "".join(svg.text("tick", across(x), foot + 20, written(x)) for x in ticks_x)
    marks = "".join(_mark(point, across(point.x), up) for point in found)
    title = svg.title(texts, f"plot.{name}", (left + right) / 2, HEIGHT - 6)
    upright = svg.title(texts, "plot.accuracy", left, 10, "start")
    axis = svg.line("axis", (left, foot), (right, foot))
    parts = f"{grid}{axis}{marks}{_names(found, across, up)}{title}{upright}"
    return svg.drawing(WIDTH, HEIGHT, tooltip(f"plot.{name}"), parts)


def _mark(point: Point, x: float, up: Callable[[float], float]) -> str:
    title = f"{point.name}: {point.y:.1f} [{point.low:.1f}, {point.high:.1f}]"
    interval = svg.line("interval", (x, up(point.low)), (x, up(point.high)))
    shape = f"<title>{escaped(title)}</title>{interval}{svg.circle(x, up(point.y), 5.5)}"
    return f'<g class="point {escaped(point.kind)}">{shape}</g>'


def _names(found: Sequence[Point], across: Callable[[float], float], up: Callable[[float], float]) -> str:
    """Put a name beside each point where it covers neither point nor name; a line leads to one further off."""
    taken = [_around(across(point.x), up(point.y)) for point in found]
    drawn = []
    for point in sorted(found, key=lambda one: -one.y):
        x, y = across(point.x), up(point.y)
        places = _places(x, y, LETTER * len(point.name))
        box = next((one for one in places if not any(_overlap(one, other) for other in taken)), places[0])
        taken.append(box)
        middle = (box[1] + box[3]) / 2
        right = box[0] > x
        near = box[0] if right else box[2]
        if abs(middle - y) > LINE:
            drawn.append(svg.line("lead", (x, y), (near, middle)))
        drawn.append(svg.text("name", near, middle + 4, point.name, "start" if right else "end"))
    return "".join(drawn)


def _around(x: float, y: float) -> Box:
    return x - 6, y - 6, x + 6, y + 6


def _places(x: float, y: float, wide: float) -> list[Box]:
    """Return where a name may stand, best first: right and left of its point, then ever further up and down."""
    steps = [0, *(sign * LINE * step for step in range(1, 12) for sign in (-1, 1))]
    sides = [(begin, y + step) for step in steps for begin in (x + 10, x - 10 - wide)]
    boxes = [(begin, middle - LINE / 2, begin + wide, middle + LINE / 2) for begin, middle in sides]
    inside = [one for one in boxes if _holds((LEFT, TOP, WIDTH, HEIGHT - BOTTOM), one)]
    return inside or boxes


def _holds(room: Box, one: Box) -> bool:
    return room[0] <= one[0] and room[1] <= one[1] and one[2] <= room[2] and one[3] <= room[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _log_scale(values: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    """Return places by value, and ticks at 1, 2 and 5 of each power of ten, or at more where those are too few."""
    low, high = min(values) / 1.5, max(values) * 1.5
    span = math.log(high / low)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for marks in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [step for power in powers for mark in marks if low <= (step := mark * 10.0**power) <= high]
        if len(ticks) > 3:
            break
    return lambda value: LEFT + (WIDTH - LEFT - RIGHT) * math.log(value / low) / span, ticks


def _scale(lows: Sequence[float], highs: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    low, high = max(0.0, min(lows) - 1), min(100.0, max(highs) + 1)
    span = max(high - low, 1.0)
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50) if span / step <= 6)
    first = math.ceil(low / step)
    ticks = [step * number for number in range(first, math.floor(high / step) + 1)]
    return lambda value: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / span, ticks
