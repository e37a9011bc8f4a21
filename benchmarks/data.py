"""Checks and lengths of instruction rows of KoAlpaca's length: speed beside row-by-row encoding and `datasets`, memory.

Lengths are those of 21,000 rows, the whole check that of 100,000. `datasets` reads the same file and encodes both
columns with the same tokenizer, in batches; it renders no template and checks nothing.

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

WHOLE, ROWS, QUESTIONS = 100_000, 21_000, 4_561
STEMS, WORD, SEED = 60_000, 4.8, 3407
LIMIT_S, LIMIT_MB = 60.0, 1000.0
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
    base, folder = Path(source("smollm2")), scratch()
    fewer, whole = _file(folder / "fewer.jsonl", ROWS), _file(folder / "whole.jsonl", WHOLE)
    data = convert(read(str(fewer)))
    ours, peer, seconds, peaks, theirs = [], [], [], [], []
    for _ in range(runs):
        ours.append(ROWS / _timed(lambda: measure(data, Encoder(base)).tokens.tolist()))
        peer.append(ROWS / _timed(lambda: _row_by_row(data, Encoder(base))))
        took, peak = _child("check", base, whole)
        seconds.append(took)
        peaks.append(peak)
        theirs.append(_child("datasets", base, whole)[0])
    return [
        Measured("data: lengths / encoding row by row", ours, peer, ">= 2", "rows/s"),
        Measured("data: whole check of 100,000 rows / datasets reads, encodes", seconds, theirs, "<= 2", "s"),
        Measured("data: the same / 60 s", seconds, [LIMIT_S], "<= 1", "s"),
        Measured("data: peak memory of that process / 1 GB", peaks, [LIMIT_MB], "<= 1", "MB"),
    ]


def _file(path: Path, count: int) -> Path:
    texts = _texts()
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            row = {"instruction": next(texts), "output": next(texts)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


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


def _child(work: str, base: Path, file: Path) -> tuple[float, float]:
    """Seconds and peak MB of some work, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.data", work, str(base), str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    took, peak = json.loads(done.stdout.splitlines()[-1])
    return took, peak


def _check(base: Path, file: Path) -> None:
    texts = _texts()
    questions = [("kobest_made_up", next(texts)) for _ in range(QUESTIONS)]
    report = inspect(convert(read(str(file))), Encoder(base), None, questions)
    assert len(report.data) == WHOLE
    assert report.lengths is not None
    assert any(finding.check == "benchmark" for finding in report.findings)


def _datasets(base: Path, file: Path) -> None:
    from datasets import load_dataset

    tokenizer = Encoder(base).tokenizer

    def encode(batch: dict[str, list[str]]) -> dict[str, list[int]]:
        counts = [[len(one.ids) for one in tokenizer.encode_batch(column)] for column in batch.values()]
        return {"tokens": [sum(row) for row in zip(*counts, strict=True)]}

    rows = load_dataset("json", data_files=str(file), split="train", cache_dir=str(file.parent / "cache"))
    done = rows.map(encode, batched=True, load_from_cache_file=False, new_fingerprint=str(time.time_ns()))
    assert len(done) == WHOLE


if __name__ == "__main__":
    import resource

    start = time.perf_counter()
    {"check": _check, "datasets": _datasets}[sys.argv[1]](*map(Path, sys.argv[2:]))
    took = time.perf_counter() - start
    scale = 1 if sys.platform == "darwin" else 1024
    print(json.dumps([took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6]))
