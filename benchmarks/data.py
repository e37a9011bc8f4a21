"""Checks and lengths of 21,000 instruction rows of KoAlpaca-like length: speed beside row-by-row encoding, memory.

The rows are made here, the same each time: Korean stems and endings by Zipf's law, so that words repeat about as they
do in prose. With a file's name it is the child process whose time and memory are measured.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

from benchmarks.common import ROOT, Measured, scratch, source
from training.data.encoder import Encoder
from training.data.faults import usable
from training.data.formats import Data, convert
from training.data.lengths import measure, render
from training.data.report import inspect
from training.data.sources import read

ROWS, QUESTIONS = 21_000, 4_561
STEMS, WORD, SEED = 60_000, 4.8, 3407
LIMIT_S, LIMIT_MB = 12.0, 1000.0
ENDINGS = (
    *("은", "는", "이", "가", "을", "를", "에", "에서", "으로", "의", "도", "만", "와", "과", "까지", "부터", "보다"),
    *("처럼", "했다.", "합니다.", "하는", "하고", "하면", "이다.", ",", "입니다."),
)
SYLLABLES = (
    "가나다라마바사아자차카하거너더러머버서어저고노도로모보소오조구누두루무부수우주기니디리미비시이지"
    "인한전대공국정선생학방식문화경제"
)


def run(runs: int) -> list[Measured]:
    """Rows/s of the lengths over a loop of `Tokenizer.encode`, both with rendering; then the whole check."""
    base, file = Path(source("smollm2")), scratch() / "rows.jsonl"
    texts = _texts()
    rows = [{"instruction": next(texts), "output": next(texts)} for _ in range(ROWS)]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    data = convert(read(str(file)))
    ours, peer, seconds, peaks = [], [], [], []
    for _ in range(runs):
        ours.append(ROWS / _timed(lambda: measure(data, Encoder(base)).tokens.tolist()))
        peer.append(ROWS / _timed(lambda: _row_by_row(data, Encoder(base))))
        took, peak = _child(base, file)
        seconds.append(took)
        peaks.append(peak)
    return [
        Measured("data: lengths / encoding row by row", ours, peer, ">= 2", "rows/s"),
        Measured("data: reading, lengths and all checks / 12 s", seconds, [LIMIT_S], "<= 1", "s"),
        Measured("data: peak memory of that process / 1 GB", peaks, [LIMIT_MB], "<= 1", "MB"),
    ]


def _texts() -> Iterator[str]:
    """Questions and answers in turn: 60 to 100 characters, then log-normal with a mean near 400."""
    chance = random.Random(SEED)
    stems = ["".join(chance.choices(SYLLABLES, k=chance.choice((2, 2, 3)))) for _ in range(STEMS)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(STEMS)))
    while True:
        for size in (chance.uniform(60, 100), chance.lognormvariate(5.75, 0.7)):
            count = max(2, round(size / WORD))
            words = zip(
                chance.choices(stems, cum_weights=weights, k=count), chance.choices(ENDINGS, k=count), strict=True
            )
            yield " ".join(stem + ending for stem, ending in words)


def _timed(work: Callable[[], list[int]]) -> float:
    start = time.perf_counter()
    assert len(work()) == ROWS
    return time.perf_counter() - start


def _row_by_row(data: Data, encoder: Encoder) -> list[int]:
    counts = []
    for example in data.examples:
        if usable(example):
            counts += [len(encoder.tokenizer.encode(text.text).ids) for text in render(encoder, example)]
    return counts


def _child(base: Path, file: Path) -> tuple[float, float]:
    """Seconds and peak MB of a whole check, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.data", str(base), str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    took, peak = json.loads(done.stdout)
    return took, peak


def _whole_check(base: Path, file: Path) -> None:
    import resource

    texts = _texts()
    questions = [("kobest_made_up", next(texts)) for _ in range(QUESTIONS)]
    start = time.perf_counter()
    report = inspect(convert(read(str(file))), Encoder(base), None, questions)
    took = time.perf_counter() - start
    assert any(finding.check == "benchmark" for finding in report.findings)
    scale = 1 if sys.platform == "darwin" else 1024
    sys.stdout.write(json.dumps([took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6]))


if __name__ == "__main__":
    _whole_check(*map(Path, sys.argv[1:]))
