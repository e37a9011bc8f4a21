"""What a tab is to the page, so that each wing brings its own without the page knowing the wing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from playground.page.words import Words


class Render(Protocol):
    """Builds a tab's components where it is called; Gradio components with words on them come from `words.make`."""

    def __call__(self, words: Words, /) -> None:
        """Called once, inside the tab."""
        ...


@dataclass(frozen=True)
class Tab:
    """A tab: `name` is its id and the key `tab.<name>` of its title; `locales` the folder with its ko and en.toml."""

    name: str
    render: Render
    locales: Path | None = None
