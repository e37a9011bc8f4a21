"""Counts tokens of many texts, word by word where that gives the very same number.

Byte-level BPE tokenizers cut text into words before they merge, and never join what stands before a space with it:
`한국 음식` is `한국` and ` 음식`, each encoded on its own. A language repeats its words, so each is encoded once and
remembered. Other tokenizers read whole texts, on every core.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from training.data.encoder import Encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BORDER = re.compile(r"(?<=\S)(?= )")
"""Between a character that is no space and a space: no pattern below joins the two."""
UNTIDY = re.compile(r"\s |^ ")
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
SPACE = "Ġ"
"""How byte-level vocabularies write a space."""
TOGETHER = 64
REMEMBERED = 1_000_000
"""Words kept at most: some 150 MB."""


class WordCounter:
    """Counts tokens; its numbers equal those of `Encoder.count`."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._by_word = divides(json.loads(encoder.tokenizer.to_str()))
        self._known: dict[str, int] = {}

    def count(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, BOS included where the tokenizer adds it."""
        if not self._by_word:
            return self._encoder.count(texts)
        if len(self._known) > REMEMBERED:
            self._known.clear()
        divided = [words(text) for text in texts]
        new = set[str]().union(*divided).difference(self._known)
        self._known.update(self._encoded(list(new)))
        known = self._known.__getitem__
        return [sum(map(known, own)) + self._encoder.added(text) for text, own in zip(texts, divided, strict=True)]

    def _encoded(self, new: list[str]) -> Iterator[tuple[str, int]]:
        """Yield words with their numbers of tokens; many are encoded as one text, which saves most of the time."""
        joined = [word for word in new if word[:1] == " " and word.count(" ") == 1 and not word[-1].isspace()]
        groups = [joined[start : start + TOGETHER] for start in range(0, len(joined), TOGETHER)]
        alone = list(set(new).difference(joined))
        for group, encoding in zip(groups, self._encode(["".join(group) for group in groups]), strict=True):
            counts = self._parted(encoding.ids)
            if len(counts) == len(group):
                yield from zip(group, counts, strict=True)
            else:  # a token that does not begin with the space it stands for
                alone += group
        yield from zip(alone, (len(encoding.ids) for encoding in self._encode(alone)), strict=True)

    def _encode(self, texts: list[str]) -> Sequence[Any]:
        encoded: Sequence[Any] = self._encoder.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return encoded

    def _parted(self, ids: list[int]) -> list[int]:
        """Return the tokens of each word, where a word begins with each token that begins with a space."""
        import numpy as np

        begins = np.flatnonzero(self._spaces[np.asarray(ids)])
        counts: list[int] = np.diff(begins, append=len(ids)).tolist()
        return counts

    @cached_property
    def _spaces(self) -> "NDArray[np.bool_]":
        """Return whether the token of each id begins with a space. [ids]"""
        import numpy as np

        vocabulary = self._encoder.tokenizer.get_vocab()
        begins = np.zeros(max(vocabulary.values()) + 1, bool)
        begins[[number for token, number in vocabulary.items() if token.startswith(SPACE)]] = True
        return begins


def words(text: str) -> list[str]:
    """Cut the text into pieces, each but the first beginning with a space; runs of spaces stay with what follows."""
    if UNTIDY.search(text):
        return BORDER.split(text)
    first, *others = text.split(" ")
    return [first, *(" " + word for word in others)]


def divides(tokenizer: dict[str, Any]) -> bool:
    """Return whether a tokenizer.json is of the kind whose words can be counted one by one."""
    model, normalizer = tokenizer["model"], tokenizer.get("normalizer")
    if model.get("type") != "BPE" or model.get("dropout") or (normalizer or {"type": "NFC"})["type"] != "NFC":
        return False
    spaced = any(
        token["lstrip"] or token["rstrip"] or token["single_word"] or " " in token["content"]
        for token in tokenizer["added_tokens"]
    )
    steps = _steps(tokenizer.get("pre_tokenizer"))
    return not spaced and any(map(_cuts_at_spaces, steps)) and all(map(_harmless, steps))


def _steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    if step is None:
        return []
    return list(step["pretokenizers"]) if step["type"] == "Sequence" else [step]


def _cuts_at_spaces(step: dict[str, Any]) -> bool:
    if step["type"] == "ByteLevel":
        return bool(step.get("use_regex", True))
    pattern = step.get("pattern", {}).get("Regex")
    return step["type"] == "Split" and pattern in (LLAMA3, QWEN2) and step["behavior"] == "Isolated"


def _harmless(step: dict[str, Any]) -> bool:
    return step["type"] in ("ByteLevel", "Digits") or _cuts_at_spaces(step)
