"""A build's vocabulary and end tokens against those in its source's files. What texts become is the next step."""

import json
from pathlib import Path
from typing import Any

from playground.prompts import end_tokens, token_text
from training.export import pieces
from training.export.parity.verdict import Step
from training.export.parity.weights import GgufWeights

STRAY = 0.001
"""Tokens that may be spelled otherwise: converters write added ones as they would be normalized."""
BYTE_LEVEL = "gpt2"
ENDS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))


def compare_gguf(folder: Path, built: GgufWeights, step: Step) -> None:
    """Compare every token by id, and the kind of tokenizer that reads them."""
    if not (tokenizer := _read(folder)):
        return
    kind = built.meta("tokenizer.ggml.model")
    if _is_byte_level(tokenizer) and kind != BYTE_LEVEL:
        step.fail("vocabulary", f"The tokenizer is a byte-level BPE, and the file says {kind}: it was rebuilt wrongly.")
        return
    if pieces.is_lost(folder) and kind == BYTE_LEVEL:
        said = f"The tokenizer is a SentencePiece model, and the file says {kind}"
        step.fail("vocabulary", f"{said}: {pieces.PIECES} was missing. {pieces.HINT}")
        return
    _compare(_tokens(tokenizer), dict(enumerate(built.tokens)), step)


def compare_folders(source: Path, built: Path, step: Step) -> None:
    """Compare every token by id, and the merges."""
    ours, theirs = _read(source), _read(built)
    if not ours or not theirs:
        return
    _compare(_tokens(ours), _tokens(theirs), step)
    if _merges(ours) != _merges(theirs):
        step.fail("vocabulary", "The merges of the two tokenizers differ.")


def ends_of_folder(folder: Path) -> set[int]:
    """Return the tokens that generation_config.json, or else config.json, ends an answer with."""
    for name in ("generation_config.json", "config.json"):
        if (found := pieces.read(folder / name).get("eos_token_id")) is not None:
            return {int(number) for number in (found if isinstance(found, list) else [found])}
    return set()


def ends_of_source(base: Path, tokenizer: Path) -> set[int]:
    """Return the tokens that end an answer of a base and, where the adapter brings a tokenizer, that one's own."""
    ids = {token: number for token, number in pieces.tokens(_read(tokenizer))} if tokenizer != base else {}
    own = token_text(pieces.read(tokenizer / pieces.CONFIG).get("eos_token"))
    return ends_of_folder(base) | ({ids[own]} if own in ids else set())


def ends_of_gguf(built: GgufWeights) -> set[int]:
    """Return the tokens that the file names as ends, and those that llama.cpp takes for one by their spelling."""
    named = {int(number) for key in ENDS if (number := built.meta(key)) is not None}
    ends = end_tokens(set(built.tokens))
    return named | {number for number, token in enumerate(built.tokens) if token in ends}


def compare_ends(source: set[int], built: set[int], step: Step) -> None:
    """Complain of ends that got lost."""
    if lost := sorted(source - built):
        step.fail("bos-eos", f"Tokens {lost} end an answer of the source and not one of this build.")
    elif source:
        step.note(f"Every token that ends the source's answers ends this build's: {sorted(source)}.")


def _compare(want: dict[int, str], got: dict[int, str], step: Step) -> None:
    wrong = [number for number, token in want.items() if _plain(got.get(number)) != _plain(token)]
    step.numbers["vocabulary"] = len(want)
    if not wrong:
        step.note(f"{len(want)} tokens of the vocabulary agree.")
        return
    first = min(wrong)
    sentence = (
        f"{len(wrong)} of {len(want)} tokens differ: {first} is {got.get(first)!r} and should be {want[first]!r}."
    )
    if len(wrong) > STRAY * len(want):
        step.fail("vocabulary", sentence)
    else:
        step.warn("vocabulary", sentence)


def _read(folder: Path) -> dict[str, Any]:
    """Return tokenizer.json; empty for a SentencePiece model alone, whose ids are compared and whose pieces are not."""
    return pieces.read(folder / pieces.TOKENIZER)


def _tokens(tokenizer: dict[str, Any]) -> dict[int, str]:
    return {number: token for token, number in pieces.tokens(tokenizer)}


def _merges(tokenizer: dict[str, Any]) -> list[str]:
    merges = tokenizer["model"].get("merges") or []
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def _plain(token: str | None) -> str | None:
    return token.replace("\u2581", " ") if token is not None else None


def _is_byte_level(tokenizer: dict[str, Any]) -> bool:
    return tokenizer["model"].get("type") == "BPE" and "ByteLevel" in json.dumps(tokenizer.get("pre_tokenizer"))
