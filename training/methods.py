"""What sets the ways of training apart, in one table: the rows that each learns from. Loads no engine."""

from dataclasses import dataclass

from training.data.examples import Kind


@dataclass(frozen=True)
class Way:
    """One way of training. `wants` says in words what `kinds` of rows it learns from."""

    kinds: tuple[Kind, ...]
    wants: str


METHODS: dict[str, Way] = {
    "sft": Way(("conversation", "text"), "conversations or text"),
    "dpo": Way(("preference",), "preference pairs (chosen, rejected)"),
    "kto": Way(("rated", "preference"), "rated answers (label) or preference pairs"),
    "cpt": Way(("text",), "plain text"),
}
"""The order decides which one is named for data that another cannot use."""
