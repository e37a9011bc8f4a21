"""Finds benchmark texts in training rows, and training texts in benchmarks, without comparing each with each.

Texts are compared by their letters and digits alone: spaces, punctuation, case and composition do not matter. A text of
LONG characters or more counts where it stands whole inside another; one of SHORT or more where it is the whole of a
turn; shorter ones say too little. A question that was reworded is not found.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from training.data.examples import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONG, SHORT = 12, 8
NOISE = re.compile(r"[\W_]+")
GAP = "\0"
"""Between texts that are read as one: no letter, so no n-gram holds it."""
BITS, FACTOR = 24, 0x9E3779B97F4A7C15
BATCH = 500_000
"""Characters hashed at once."""


def letters(text: str) -> str:
    """Return the text's letters and digits, composed and in lower case."""
    return NOISE.sub("", unicodedata.normalize("NFC", text)).lower()


def overlaps(examples: Iterable[Example], benchmark: Iterable[tuple[str, str]]) -> dict[str, tuple[int, ...]]:
    """Return, for each task, the rows that hold one of its texts or have a turn that stands in one."""
    questions: dict[str, set[str]] = defaultdict(set)
    for task, text in benchmark:
        questions[letters(text)].add(task)
    if not questions:
        return {}
    parts: dict[str, set[int]] = defaultdict(set)
    for example in examples:
        for text in example.written:
            parts[letters(text)].add(example.row)
    hits: dict[str, set[int]] = defaultdict(set)
    for question, part in _pairs(questions, parts):
        for task in questions[question]:
            hits[task] |= parts[part]
    return {task: tuple(sorted(rows)) for task, rows in sorted(hits.items())}


def _pairs(questions: Iterable[str], parts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a question and a part of which one holds the other, or which are equal."""
    questions, parts = set(questions), set(parts)
    yield from ((same, same) for same in questions & parts if len(same) >= SHORT)
    yield from _contained(questions, parts)
    yield from ((question, part) for part, question in _contained(parts, questions))


def _contained(needles: Iterable[str], places: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (needle, place) for each needle of LONG characters or more that a place holds."""
    waiting = by_gram(needles)
    for place, found in _standing(waiting, places):
        yield from ((needle, place) for gram in found for needle in waiting[gram] if needle in place)


def by_gram(needles: Iterable[str]) -> dict[str, list[str]]:
    """Return a table from n-gram to needles; each needle of LONG characters or more stands in it once.

    Of its first, middle and last n-gram it takes the one that fewest others have taken: where thousands of needles
    begin with the same phrase, a place that holds the phrase is then compared with hardly any of them.
    """
    waiting: dict[str, list[str]] = defaultdict(list)
    for needle in sorted(needle for needle in needles if len(needle) >= LONG):
        middle = (len(needle) - LONG) // 2
        grams = (needle[:LONG], needle[middle : middle + LONG], needle[-LONG:])
        waiting[min(grams, key=lambda gram: len(waiting.get(gram, ())))].append(needle)
    return waiting


def _standing(grams: Collection[str], places: Iterable[str]) -> Iterator[tuple[str, set[str]]]:
    """Yield the places that hold some of the n-grams, with those that they hold.

    Many places are hashed at once; a table of hashes leaves out nearly all n-grams before any is looked up.
    """
    import numpy as np

    if not grams:
        return
    table = np.zeros(1 << BITS, bool)
    table[_hashes("".join(grams))[::LONG]] = True
    for text in _batches(places):
        found: dict[int, set[str]] = defaultdict(set)
        parts = text.split(GAP)
        ends = np.cumsum([len(part) + 1 for part in parts])
        for start in np.flatnonzero(table[_hashes(text)]).tolist():
            if (gram := text[start : start + LONG]) in grams:
                found[int(np.searchsorted(ends, start, "right"))].add(gram)
        yield from ((parts[place], here) for place, here in found.items())


def _batches(places: Iterable[str]) -> Iterator[str]:
    """Yield many places at a time as one text, with GAP between them."""
    waiting, size = [], 0
    for place in places:
        waiting.append(place)
        size += len(place)
        if size > BATCH:
            yield GAP.join(waiting)
            waiting, size = [], 0
    yield GAP.join(waiting)


def _hashes(text: str) -> "NDArray[np.uint64]":
    """Return a hash of BITS bits for each n-gram, in the order in which they begin."""
    import numpy as np

    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    count = max(0, len(codes) - LONG + 1)
    hashes = np.zeros(count, np.uint64)
    for place in range(LONG):
        hashes = hashes * np.uint64(FACTOR) + codes[place : place + count]
    return hashes * np.uint64(FACTOR) >> np.uint64(64 - BITS)
