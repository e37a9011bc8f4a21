"""Pieces of the plots as SVG of our own, which the style sheets dress. Coordinates are units of the view box."""

from playground.escape import escaped
from playground.page.words import Texts
from playground.wording import LANGUAGES


def drawing(width: int, height: int, label: str, parts: str) -> str:
    """Return a drawing; `label` is what a screen reader says, as HTML that can stand in an attribute."""
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{parts}</svg>'


def line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    """Return a straight line between two points; `kind` is its class."""
    (x1, y1), (x2, y2) = start, end
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def text(kind: str, x: float, y: float, words: str, anchor: str = "middle") -> str:
    """Return words that begin, end or have their middle at a point."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(words)}</text>'


def title(texts: Texts, key: str, x: float, y: float, anchor: str = "middle") -> str:
    """Return a title in both languages, of which the page shows one."""
    each = (
        (language, text(f"title say-{language}", x, y, texts.words(language)[key], anchor)) for language in LANGUAGES
    )
    return "".join(f'<g lang="{language}">{words}</g>' for language, words in each)


def circle(x: float, y: float, radius: float) -> str:
    """Return a dot."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'
