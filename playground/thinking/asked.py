"""How a question wants its answer thought about."""

from typing import Literal

from pydantic import Field

from playground.errors import UnknownNameError
from playground.values import Value
from playground.wording import worded

Effort = Literal["minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: tuple[Effort, ...] = ("minimal", "low", "medium", "high", "xhigh", "max")


class Thinking(Value):
    """Whether to think before the answer, how hard, and for how many tokens at most. The default is the template's."""

    mode: Literal["default", "on", "off"] = "default"
    effort: Effort | None = None
    """Where the template knows any; where it only knows on and off, it is on."""
    budget: int | None = Field(default=None, ge=0)
    """Tokens after which a thought is closed for the model."""
    strict: bool = False
    """Whether a model that cannot be made to think is an error; otherwise it just answers."""

    @property
    def wanted(self) -> bool:
        """Whether thinking is asked for."""
        return self.mode == "on" or (self.mode == "default" and self.effort is not None)


CHOICES = ("default", "on", "off", *EFFORTS)
"""What a person may ask for by one word."""


def spoken(word: str, budget: int | None = None, strict: bool = False) -> Thinking:
    """Return how to think by one of CHOICES; an unknown word is an error with near matches."""
    if word not in CHOICES:
        raise UnknownNameError(worded("noun.way_to_think"), word, CHOICES)
    fields = {"mode": word} if word in CHOICES[:3] else {"effort": word}
    return Thinking.model_validate({**fields, "budget": budget, "strict": strict})
