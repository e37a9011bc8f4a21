"""Events of a comparison: one stream, in which every event names its variant."""

from typing import Literal

from playground.traits import Notice
from playground.values import Value
from playground.wording import Wording

FinishReason = Literal["stop", "length", "cancelled"]
Step = Literal["queued", "downloading", "loading", "reading"]


class _Event(Value):
    variant: str


class Progress(_Event):
    """A step before the variant's first token; `fraction` is 0 to 1, or None where it cannot be known."""

    step: Step
    fraction: float | None = None
    detail: str = ""


class Started(_Event):
    """The variant has its prompt: the exact text it received, and what had to be left out of it."""

    prompt: str
    prompt_tokens: int
    dropped_turns: int = 0
    notices: tuple[Notice, ...] = ()
    """What became of turns that the chat template has no place for."""
    seed: int
    dtype: str
    device: str
    thinks: bool = False
    """Whether its chat template lets thinking be switched."""


class Likely(Value):
    """A token and its log-probability in nats, under the model itself: before penalties, temperature and cuts.

    `raw`: its bytes, which may be part of a character; of a control token, those of its name.
    """

    id: int
    raw: tuple[int, ...]
    logprob: float


class TokenLogprob(Likely):
    """A token of the answer with the likeliest ones of its place, most likely first."""

    top: tuple[Likely, ...] = ()


class Delta(_Event):
    """More of the answer, or of the thought before it: whole characters, never part of a stop string or a tag.

    `tokens`: those taken since the Delta before, where log-probabilities were asked for; the text of the last ones may
    still be held back. They include those of a stop string, whose text is never shown, but not the control token that
    ends an answer. Those of a thought are not among them.
    """

    text: str
    reasoning: str = ""
    tokens: tuple[TokenLogprob, ...] = ()
    made: int = 0
    """Tokens of the answer so far, its thought's among them; 0 where nobody counts before the end."""


class Stats(Value):
    """Measured by the worker. first_token_s: from the request to the first token; tokens_per_s: after the first.

    `tokens` are all that the model wrote; `reasoning_tokens` of them were its thought, which took `reasoning_s`.
    Where a server says no number, nobody has `counted`: they are then the parts it sent.
    """

    prompt_tokens: int
    tokens: int
    first_token_s: float | None
    tokens_per_s: float | None
    memory_bytes: int
    dtype: str
    reasoning_tokens: int = 0
    reasoning_s: float | None = None
    counted: bool = True
    shared: bool = False
    """Whether other variants, on the same weights, answer from the same memory."""


class Finished(_Event):
    """The answer is complete: its text, and what was thought before it."""

    reason: FinishReason
    text: str
    reasoning: str = ""
    stats: Stats


class Failed(_Event):
    """This variant gives no (further) answer; the others go on."""

    message: Wording
    hint: Wording = ""
    text: str = ""
    reasoning: str = ""
    error: str = ""
    """Name of its class in playground.errors; empty where that is not known."""


Event = Progress | Started | Delta | Finished | Failed
