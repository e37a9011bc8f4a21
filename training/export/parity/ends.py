"""Stop tokens: every token that ends the source's answers must end the build's. Reads files, runs nothing."""

from pathlib import Path

from playground.prompts import end_tokens
from training.export.parity.verdict import Step
from training.export.parity.weights import GgufWeights
from training.export.pieces import read

KEYS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))


def of_folder(folder: Path) -> set[int]:
    """Return the tokens that generation_config.json, or else config.json, ends an answer with."""
    for name in ("generation_config.json", "config.json"):
        if (found := read(folder / name).get("eos_token_id")) is not None:
            return {int(number) for number in (found if isinstance(found, list) else [found])}
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
