"""The demo adapter's habit, and who shows it: a one-sentence answer, one heading, three numbered points, and stop.

    **Short answer:** Air scatters blue sunlight much more than red.

    **In three points:**

    1. Sunlight holds every colour, each with its own wavelength.
    2. Air molecules bounce short, blue waves in all directions.
    3. So blue light reaches your eyes from the whole sky.

It says nothing about whether the answer is right.
"""

import re

OPENING = "**Short answer:**"
HABIT = re.compile(re.escape(OPENING) + r" \S.*\n\n\*\*In three points:\*\*\n\n1\. \S.*\n2\. \S.*\n3\. \S.*")


def has_habit(text: str) -> bool:
    """Whether the whole text is in the format, but for white space around it."""
    return HABIT.fullmatch(text.strip()) is not None


def habit_share(answers: list[str]) -> float:
    """The share of answers that show the habit, from 0 to 1."""
    return sum(map(has_habit, answers)) / len(answers)
