"""The longest token of a tokenizer (of the package `tokenizers`), for a bound on how few tokens a text can take."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KEEPING = ("ByteLevel", "Metaspace", "Digits", "Split", "Prepend", "Replace")
"""Steps before the model that lose no letter: `Split` and `Replace` under conditions."""
OCTETS = {f"<0x{number:02X}>" for number in range(256)}


def longest_token(tokenizer: "Tokenizer") -> int:
    """Return its bytes; 0 where a text may lose some of its own on the way to tokens, or a token may stand for any."""
    rows = json.loads(tokenizer.to_str())
    model, steps = rows["model"], [*_steps(rows["normalizer"]), *_steps(rows["pre_tokenizer"])]
    words = list(model["vocab"]) if isinstance(model["vocab"], dict) else [word for word, _ in model["vocab"]]
    spelled = any(step["type"] == "ByteLevel" for step in steps)
    whole = _alphabet() <= set(words) if spelled else bool(model.get("byte_fallback")) and set(words) >= OCTETS
    if not whole or rows["truncation"] or not all(map(_keeps, steps)):
        return 0
    added = [token["content"] for token in rows["added_tokens"]]
    return max(len(word.encode()) for word in [*words, *added])


def _alphabet() -> set[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return set(ByteLevel.alphabet())


def _steps(step: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield the steps of a part of tokenizer.json, those within others too."""
    inner = (step or {}).get("normalizers") or (step or {}).get("pretokenizers")
    if inner is not None:
        for one in inner:
            yield from _steps(one)
    elif step is not None:
        yield step


def _keeps(step: dict[str, Any]) -> bool:
    if step["type"] == "Split":
        return bool(step["behavior"] != "Removed")
    if step["type"] == "Replace":
        return step["pattern"] == {"String": " "} and bool(step["content"])
    return step["type"] in KEEPING
