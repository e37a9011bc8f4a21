"""Ten thousand conversations of Korean and English, listed and searched: our index against LIKE on the same rows."""

import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

from benchmarks.common import Measured
from playground.conversations.store import Store
from playground.conversations.turns import Answer, Chat

MANY = 10_000
TURNS, VARIANTS = 3, ("a", "b", "c")
LIKE = "SELECT DISTINCT chat FROM words WHERE text LIKE ?"


def run(runs: int) -> list[Measured]:
    """Milliseconds of each: the list as the page shows it, then searches for a common, a rare and a missing word."""
    words, often = _words()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "conversations.db"
        store = Store(file)
        _fill(store, words, often)
        print(f"{file.stat().st_size / 1e6:.0f} MB on the disk")
        plain = sqlite3.connect(file)
        found = [_measured(f"search for {what}: {word}", store, plain, word, runs) for what, word in _wanted(words)]
        listed = _times(lambda: store.listed(), runs)
        store.close()
        plain.close()
    return [Measured("10,000 listed", listed, listed, "<= 200 ms", "ms"), *found]


def _words() -> tuple[list[str], list[float]]:
    """Return words from the most to the least used, and how often each is, added up."""
    draw = random.Random(1)
    syllables = [chr(code) for code in range(0xAC00, 0xD7A4, 7)]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(20_000)]
    words += ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(20_000)]
    draw.shuffle(words)
    return words, list(accumulate(1 / (place + 1) for place in range(len(words))))


def _wanted(words: list[str]) -> list[tuple[str, str]]:
    two = [word for word in words if len(word) == 2 and word > "가"]
    names = ["a common word", "a rare word", "a word of four, missing", "a letter"]
    return list(zip(names, [two[0], two[-1], "없는낱말", two[5][0]], strict=True))


def _fill(store: Store, words: list[str], often: list[float]) -> None:
    draw = random.Random(2)

    def said(count: int) -> str:
        return " ".join(draw.choices(words, cum_weights=often, k=count))

    for _ in range(MANY):
        chat = Chat()
        for _ in range(TURNS):
            chat = chat.ask(said(12), VARIANTS)
            answers = {name: Answer(text=said(80)) for name in VARIANTS}
            chat = chat.with_turn(chat.turns[-1].model_copy(update={"answers": answers}))
        store.keep(chat, chat.tree.values())


def _measured(what: str, store: Store, plain: sqlite3.Connection, word: str, runs: int) -> Measured:
    ours = _times(lambda: store.search(word), runs)
    peer = _times(lambda: plain.execute(LIKE, (f"%{word}%",)).fetchall(), runs)
    return Measured(what, ours, peer, "<= 300 ms", "ms")


def _times(call: Callable[[], object], runs: int) -> list[float]:
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begun))
    return times
