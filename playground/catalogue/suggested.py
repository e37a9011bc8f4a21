"""Models to begin with: suggested.toml, read and checked."""

from functools import cache
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from playground.system import documents
from playground.values import Value

TABLE = Path(__file__).with_suffix(".toml")
Group = Literal["korean", "multilingual", "small", "code"]
GROUPS: tuple[Group, ...] = get_args(Group)
HALF = 2
"""Bytes of a weight as these models are kept on the Hub: bf16."""


class Suggestion(Value):
    """A model of the Hub to begin with, and what is known of it without asking there."""

    source: str
    groups: tuple[Group, ...] = Field(min_length=1)
    parameters: float = Field(gt=0, description="billions, all of them")
    licence: str
    gated: bool = False
    seen: str = Field(description="where these facts stand")

    @property
    def weights(self) -> int:
        """How many weights it has."""
        return int(self.parameters * 1e9)

    @property
    def download(self) -> int:
        """Bytes that come from the Hub, about."""
        return self.weights * HALF


@cache
def suggestions() -> tuple[Suggestion, ...]:
    """Return the models to begin with, in the order of the file."""
    return tuple(Suggestion.model_validate(row) for row in documents.read(TABLE, "TOML")["model"])
