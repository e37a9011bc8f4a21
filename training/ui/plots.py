"""Curves of a run and the lengths of its rows, as SVG of our own. Knows numbers, not where they come from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from playground.escape import escaped
from playground.page import svg
from training.words import both, tooltip

LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 24
LOW = 160
"""How high the histogram is."""
POINTS = 400
"""More points than this are thinned out: a screen shows no more."""
SMOOTHED_FROM = 25
Points = Sequence[tuple[float, float]]
Written = Callable[[float], str]


@dataclass(frozen=True)
class Series:
    """One curve: its name's key, its points by step, and whether a calmer line is drawn over it."""

    name: str
    points: Points
    calm: bool = False


def chart(name: str, series: Sequence[Series], steps: int, written: Written, wide: bool = False) -> str:
    """Draw a figure with its title, its newest values, and the curves over the steps of the run."""
    drawn = [one for one in series if one.points]
    if not drawn:
        return ""
    width, height = (600, 220) if wide else (300, 150)
    values = [value for one in drawn for _, value in one.points if math.isfinite(value)]
    last_step = max([step for one in drawn for step, _ in one.points] + [steps, 1])
    low, high, ticks = scale(values, 5 if wide else 4)
    space = _Space(width, height, last_step, low, high)
    grid = "".join(_tick(space, value, written) for value in ticks)
    lines = "".join(_curve(space, one) for one in drawn)
    newest = "".join(
        f'<span class="{escaped(one.name)}">{_named(one, drawn)}{written(one.points[-1][1])}</span>' for one in drawn
    )
    drawing = svg.drawing(width, height, tooltip(f"plot.{name}"), f"{grid}{_steps(space, wide)}{lines}")
    caption = f"<figcaption><b>{both(f'plot.{name}')}</b>{newest}</figcaption>"
    return f'<figure class="{"wide" if wide else "small"}">{caption}{drawing}</figure>'


@dataclass(frozen=True)
class _Space:
    """Where a step and a value lie on the sheet."""

    width: int
    height: int
    last: float
    low: float
    high: float

    def x(self, step: float) -> float:
        return LEFT + (self.width - LEFT - RIGHT) * step / self.last

    def y(self, value: float) -> float:
        return self.height - BOTTOM - (self.height - TOP - BOTTOM) * (value - self.low) / (self.high - self.low)


def _named(one: Series, drawn: Sequence[Series]) -> str:
    return f"<i></i>{both(f'plot.{one.name}')} " if len(drawn) > 1 else ""


def _tick(space: _Space, value: float, written: Written) -> str:
    y = space.y(value)
    grid = svg.line("grid", (LEFT, y), (space.width - RIGHT, y))
    return grid + svg.text("tick", LEFT - 6, y + 4, written(value), "end")


def _steps(space: _Space, wide: bool) -> str:
    """Return the step numbers under the curves."""
    ticks = scale([0, space.last], 6 if wide else 3)[2]
    whole = [step for step in ticks if step == int(step) and 0 <= step <= space.last]
    return "".join(svg.text("tick", space.x(step), space.height - 6, f"{step:,.0f}") for step in whole)


def _curve(space: _Space, one: Series) -> str:
    points = thinned([(step, value) for step, value in one.points if math.isfinite(value)])
    if not points:
        return ""
    dotted = points if len(points) == 1 or one.name == "eval" else []
    dots = "".join(svg.circle(space.x(x), space.y(y), 3) for x, y in dotted)
    calm = one.calm and len(points) >= SMOOTHED_FROM
    raw = f'<polyline class="raw" points="{_path(space, points)}"/>' if calm else ""
    line = f'<polyline points="{_path(space, smoothed(points) if calm else points)}"/>'
    return f'<g class="{escaped(one.name)}">{raw}{line}{dots}</g>'


def _path(space: _Space, points: Points) -> str:
    return " ".join(f"{space.x(step):.1f},{space.y(value):.1f}" for step, value in points)


def thinned(points: Points, most: int = POINTS) -> list[tuple[float, float]]:
    """Return at most so many of the points, evenly taken, the last one always."""
    stride = max(1, math.ceil(len(points) / most))
    return list(points[::-1][::stride][::-1])


def smoothed(points: Points, weight: float = 0.88) -> list[tuple[float, float]]:
    """Return the exponential mean of the values so far, begun without bias."""
    made, mean, seen = [], 0.0, 0.0
    for step, value in points:
        mean = weight * mean + (1 - weight) * value
        seen = weight * seen + (1 - weight)
        made.append((step, mean / seen))
    return made


def scale(values: Sequence[float], about: int) -> tuple[float, float, list[float]]:
    """Return both ends of an axis, a little beyond the values, and about so many round ticks between them."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-12 * max(1.0, abs(high)) or high == low:
        if not low:
            return -1.0, 1.0, [0.0]
        low, high = low - 0.1 * abs(low), high + 0.1 * abs(high)
    power = 10.0 ** math.floor(math.log10((high - low) / about))
    step = next(mark * power for mark in (1, 2, 2.5, 5, 10) if (high - low) / (mark * power) <= about)
    first = math.ceil(low / step - 1e-9)
    ticks = [step * number for number in range(first, math.floor(high / step + 1e-9) + 1)]
    room = 0.05 * (high - low)
    return low - room, high + room, ticks


def histogram(edges: Sequence[int], counts: Sequence[int], recommended: int) -> str:
    """Draw rows by length, and the recommended maximum as a line; the last bar holds all that are longer."""
    width, most = 600, max(counts, default=1)
    bar = (width - LEFT - RIGHT) / max(1, len(counts))
    end = edges[-2] + (edges[1] - edges[0]) if len(edges) > 2 else edges[-1]
    bars = "".join(
        _bar(LEFT + place * bar, bar, _top(count, most), f"{first:,}-{last:,}: {count:,}")
        for place, (count, (first, last)) in enumerate(zip(counts, pairwise(edges), strict=False))
    )
    at = LEFT + (width - LEFT - RIGHT) * min(recommended, end) / max(1, end)
    side, gap = ("end", -6) if at > width / 2 else ("start", 6)
    mark = svg.line("mark", (at, TOP - 6), (at, LOW - BOTTOM))
    mark += svg.text("marked", at + gap, TOP + 6, f"{recommended:,}", side)
    ticks = "".join(
        svg.text("tick", LEFT + place * bar, LOW - 6, f"{edges[place]:,}") for place in range(0, len(counts), 4)
    )
    highest = svg.text("tick", LEFT - 6, TOP + 8, f"{most:,}", "end")
    axis = svg.line("axis", (LEFT, LOW - BOTTOM), (width - RIGHT, LOW - BOTTOM))
    drawing = svg.drawing(width, LOW, tooltip("look.length"), f"{axis}{highest}{ticks}{bars}{mark}")
    return f'<figure class="wide lengths">{drawing}</figure>'


def _bar(x: float, width: float, top: float, label: str) -> str:
    sides = f'x="{x + 1:.1f}" width="{width - 2:.1f}" y="{top:.1f}" height="{LOW - BOTTOM - top:.1f}"'
    return f"<rect {sides}><title>{label}</title></rect>"


def _top(count: int, most: int) -> float:
    room = LOW - TOP - BOTTOM - 8
    return LOW - BOTTOM - (max(2.0, room * count / most) if count else 0.0)
