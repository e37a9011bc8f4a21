"""Stop tokens: every token that ends the source's answers must end the build's. Reads files, runs nothing."""

import json
from pathlib import Path
from typing import Any

from playground.prompts import end_tokens
from training.export.parity.verdict import Step
from training.export.parity.weights import GgufWeights

KEYS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))


def of_folder(folder: Path) -> set[int]:
    """Return the tokens that generation_config.json, or else config.json, ends an answer with."""
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        if found is not None:
            return _ids(found)
    return set()


def of_gguf(built: GgufWeights) -> set[int]:
    """Return the tokens that the file names as ends, and those that llama.cpp takes for one by their spelling."""
    named = {int(number) for key in KEYS if (number := built.meta(key)) is not None}
    ends = end_tokens(set(built.tokens))
    return named | {number for number, token in enumerate(built.tokens) if token in ends}


def compare(source: set[int], built: set[int], step: Step) -> None:
    """Complain of ends that got lost."""
    if lost := sorted(source - built):
        step.fail("bos-eos", f"Tokens {lost} end an answer of the source and not one of this build.")
    elif source:
        step.note(f"Every token that ends the source's answers ends this build's: {sorted(source)}.")


def _ids(value: Any) -> set[int]:
    return {int(number) for number in (value if isinstance(value, list) else [value])}
