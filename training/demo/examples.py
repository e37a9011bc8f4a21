"""The demo's examples: what the adapter is trained on and the prompts it is judged by. Reads files, nothing more."""

import json
from pathlib import Path

Message = dict[str, str]

DATA = Path(__file__).with_name("data")


def train_conversations() -> list[list[Message]]:
    """Conversations whose every answer shows the habit."""
    return _read("train.jsonl")


def held_out_prompts() -> list[str]:
    """The 50 prompts that no example asks."""
    return [messages[0]["content"] for messages in _read("heldout.jsonl")]


def _read(name: str) -> list[list[Message]]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]
