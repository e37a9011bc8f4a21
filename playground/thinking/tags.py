"""The tags around a thought, by family: data alone. tags.toml lists them."""

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from playground.values import Value

TAGS_FILE = Path(__file__).with_name("tags.toml")


class Tags(Value):
    """The marks of one family of models."""

    thought: tuple[str, ...]
    """What begins a thought; the first is what a prompt writes."""
    answer: tuple[str, ...]
    """What ends one, so that the answer begins; the first is what a prompt writes."""
    before: str = "\n"
    """What stands between an opening mark and the thought."""
    close: str = ""
    """What closes a thought; where it is not given, the mark with line breaks around it."""
    empty: str = ""
    """What stands for a thought left out; where it is not given, an opening and a closing mark."""
    anywhere: bool = False
    common: bool = False

    @property
    def opening(self) -> str:
        """What opens a thought."""
        return self.thought[0] + self.before

    @property
    def closing(self) -> str:
        """What closes a thought, with the white space around it."""
        return self.close or f"\n{self.answer[0]}\n\n"

    @property
    def nothing(self) -> str:
        """What stands where no thought is wanted."""
        return self.empty or self.opening + self.closing

    def around(self, thought: str, answer: str) -> str:
        """Return a thought and its answer as the model writes them."""
        return self.opening + thought.strip() + self.closing + answer

    def stand_in(self, text: str) -> int:
        """Return how often the marks stand in a text, or in a template, where a line's end may be spelled."""
        return sum(text.count(mark.strip()) for mark in (*self.thought, *self.answer))

    def opened_by(self, text: str) -> bool:
        """Return whether a text ends with what opens a thought."""
        return text.rstrip().endswith(tuple(map(str.rstrip, self.thought)))

    def open_at_end(self, text: str) -> bool:
        """Return whether a thought is open where a text ends."""
        return max(map(text.rfind, self.thought)) > max(map(text.rfind, self.answer))


@cache
def known() -> tuple[Tags, ...]:
    """Return the tags of every family."""
    rows = tomllib.loads(TAGS_FILE.read_text(encoding="utf-8"))["tags"]
    return tuple(Tags(**row) for row in rows)


@cache
def common() -> tuple[Tags, ...]:
    """Return the tags that an answer may begin with whatever its template says."""
    return tuple(tags for tags in known() if tags.common)


def named_in(text: str) -> tuple[Tags, ...]:
    """Return the tags whose marks stand in a template's text, the most frequent first."""
    counted = [(tags.stand_in(text), tags) for tags in known()]
    return tuple(tags for count, tags in sorted(counted, key=lambda pair: -pair[0]) if count)


def marks(families: Sequence[Tags]) -> tuple[str, ...]:
    """Return every mark of some families."""
    return tuple(mark for tags in families for mark in (*tags.thought, *tags.answer))
