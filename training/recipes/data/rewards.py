"""Rewards of the recipe grpo: a score for each answer; a column of the data is an argument of its name."""

ENOUGH = 40
"""Words from which on an answer is not short at all."""


def holds_answer(completions: list[str], answer: list[str], **columns: object) -> list[float]:
    """Return 1 where an answer holds what the column `answer` says, else 0."""
    return [float(str(wanted) in said) for said, wanted in zip(completions, answer, strict=True)]


def is_short(completions: list[str], **columns: object) -> list[float]:
    """Return from 1 for nothing said down to 0 for forty words or more."""
    return [max(0.0, 1 - len(said.split()) / ENOUGH) for said in completions]
