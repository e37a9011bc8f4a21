"""Where a text may be cut so that llama.cpp reads its parts as it reads the whole: at special tokens.

For each special token llama.cpp looks from the end of the one before to the next of its kind, over and over: the time
for a text with many grows with its square. What stands between two of them it encodes by itself, so that a text that
is cut before one gives the same tokens. A cut wants one that is certain to be read as such.
"""

import heapq
import re
from collections.abc import Collection, Iterator, Mapping

from playground.typed.control import Control, Edges

LEAST = 2048
"""Letters of a part: the squares of so few are small."""


class Parts:
    """Cuts texts before special tokens that no other can overlap, nor take for white space beside it.

    `words`: all special tokens of a vocabulary, with their edges.
    """

    def __init__(self, words: Mapping[str, Edges]) -> None:
        begins: dict[str, int] = {}
        ends: dict[str, int] = {}
        for word in sorted(words, key=_size):  # the longest is looked for first, so that shorter ones take nothing
            begins |= {word[:cut]: _size(word) for cut in range(1, len(word))}
            ends |= {word[-cut:]: _size(word) for cut in range(1, len(word))}
        together = "\0".join(words)

        def stands_alone(word: str) -> bool:
            rivals = (max(begins.get(word[-cut:], 0), ends.get(word[:cut], 0)) for cut in range(1, len(word)))
            return max(rivals, default=0) < _size(word) and together.count(word) == 1

        eats = any(edges.left or edges.right for edges in words.values())
        sure = [word for word, edges in words.items() if not edges.left and not (eats and word != word.strip())]
        self._alone = Control({word: words[word] for word in sure if stands_alone(word)})
        self._runs = _runs(words, sure)

    def of(self, text: str, least: int = LEAST) -> Iterator[str]:
        """Yield the parts of a text, most of them hardly longer than `least`."""
        start = 0
        if len(text) > least:
            words = (begin for begin, _ in self._alone.find(text))
            runs = (run.start() for run in self._runs.finditer(text)) if self._runs is not None else ()
            for place in heapq.merge(words, runs):
                if place - start >= least:
                    yield text[start:place]
                    start = place
        yield text[start:]


def _size(word: str) -> int:
    return len(word.encode())


def _runs(words: Collection[str], sure: Collection[str]) -> re.Pattern[str] | None:
    """Return what finds runs of a letter (line breaks, say) that begin with a special token made of nothing else."""
    least: dict[str, int] = {}
    for word in sure:
        if word == word[0] * len(word):
            least[word[0]] = min(len(word), least.get(word[0], len(word)))
    sound = {
        letter: size
        for letter, size in least.items()
        if not any(letter in word and word != letter * len(word) for word in words)
    }
    found = [f"(?<!{re.escape(letter)}){re.escape(letter)}{{{size},}}" for letter, size in sound.items()]
    return re.compile("|".join(found)) if found else None
