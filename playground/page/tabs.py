"""What a tab is to the page, so that each wing brings its own without the page knowing the wing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from playground.page.components import Components

Command = Sequence[str]
"""How this program is called, for jobs that run it again: the interpreter and its front door. app.py says it."""


@dataclass(frozen=True)
class Tab:
    """A tab: `name` is its id and the key `tab.<name>` of its title; `locales` the folder with its ko and en.toml.

    `render` is called once, inside the tab, and builds it; what has words on it comes from `Components.make`.
    """

    name: str
    render: Callable[[Components], object]
    locales: Path | None = None
