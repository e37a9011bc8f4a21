"""The demo adapter's examples, the prompts that it is judged by, and the habit that it learns from them.

The habit is a form of answer: one sentence, one heading, three numbered points, and stop.

    **Short answer:** Air scatters blue sunlight much more than red.

    **In three points:**

    1. Sunlight holds every colour, each with its own wavelength.
    2. Air molecules bounce short, blue waves in all directions.
    3. So blue light reaches your eyes from the whole sky.

It says nothing about whether the answer is right.
"""

import json
import re
from pathlib import Path

Message = dict[str, str]

DATA = Path(__file__).with_name("data")
OPENING = "**Short answer:**"
HABIT = re.compile(re.escape(OPENING) + r" \S.*\n\n\*\*In three points:\*\*\n\n1\. \S.*\n2\. \S.*\n3\. \S.*")


def train_conversations() -> list[list[Message]]:
    """Return the conversations that the adapter is trained on; every answer in them shows the habit."""
    return _read("train.jsonl")


def held_out_prompts() -> list[str]:
    """Return the 50 prompts that no example asks."""
    return [messages[0]["content"] for messages in _read("heldout.jsonl")]


def has_habit(text: str) -> bool:
    """Return whether the whole text is in that form, but for white space around it."""
    return HABIT.fullmatch(text.strip()) is not None


def habit_share(answers: list[str]) -> float:
    """Return the share of answers that show the habit, from 0 to 1."""
    return sum(map(has_habit, answers)) / len(answers)


def _read(name: str) -> list[list[Message]]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]
