"""Stop tokens: every token that ends the source's answers must end the build's. Reads files, runs nothing."""

import json
from pathlib import Path
from typing import Any

from training.export.parity.verdict import Step
from training.export.parity.weights import GgufWeights

KEYS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
ENDS_BY_NAME = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "</s>", "<eos>", "<EOT>",
    "<|end_of_text|>", "<turn|>", "<|return|>", "<|call|>", "<｜end▁of▁sentence｜>", "<end_of_utterance>", "<|eom|>",
)  # fmt: skip
"""Tokens that llama.cpp ends an answer at wherever a vocabulary has them."""


def of_folder(folder: Path) -> set[int]:
    """What generation_config.json, or else config.json, ends an answer at."""
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        if found is not None:
            return _ids(found)
    return set()


def of_gguf(built: GgufWeights) -> set[int]:
    """What the file names as ends, and what llama.cpp takes for one by its spelling."""
    named = {int(number) for key in KEYS if (number := built.meta(key)) is not None}
    return named | {number for number, token in enumerate(built.tokens) if token in ENDS_BY_NAME}


def compare(source: set[int], built: set[int], step: Step) -> None:
    """Ends that got lost."""
    if lost := sorted(source - built):
        step.fail("bos-eos", f"Tokens {lost} end an answer of the source and not one of this build.")
    elif source:
        step.note(f"Every token that ends the source's answers ends this build's: {sorted(source)}.")


def _ids(value: Any) -> set[int]:
    return {int(number) for number in (value if isinstance(value, list) else [value])}
