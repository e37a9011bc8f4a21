"""What makes conversations findable: their text in pairs of letters, which SQLite's full-text index holds.

Its own ways of taking text apart find no Korean: by spaces, 하늘 is not in 하늘은 or 밤하늘; by threes, a word of two
syllables is never found. LIKE finds all, and reads every conversation for it (benchmarks/conversations.py).
"""

import unicodedata
from collections.abc import Sequence

END = "\ue000"
"""Stands behind a word's last letter, so that every letter begins a pair."""
SIGNS = "".join(sign for sign in map(chr, range(33, 127)) if not sign.isalnum())
UNSEEN = dict.fromkeys((*range(32), 127), " ")
INDEX = (
    "CREATE VIRTUAL TABLE pairs USING fts5 (text, content='', detail=none,"
    f""" tokenize="ascii tokenchars '{SIGNS.replace("'", "''").replace('"', '""')}'")"""
)
"""Signs are part of words: C++ and 3.5 are looked for. What is no ASCII is so anyway. No text is kept here again."""


def folded(text: str) -> str:
    """Return text as it is compared: Hangul composed, capitals small, between its words one space each."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().translate(UNSEEN).split())


def pairs(text: str) -> str:
    """Return the pairs of letters of each word of a folded text."""
    ended = [word + END for word in text.split()]
    return " ".join(word[at : at + 2] for word in ended for at in range(len(word) - 1))


def query(wanted: Sequence[str]) -> str:
    """Return the index's question for folded words: which texts have all their pairs. They may hold them apart."""
    return " ".join(sorted({part for word in wanted for part in _parts(word)}))


def _parts(word: str) -> list[str]:
    found = [word[at : at + 2] for at in range(len(word) - 1)] or [word]
    more = "*" if len(word) == 1 else ""
    return [f'"{part.replace(chr(34), chr(34) * 2)}"{more}' for part in found]
