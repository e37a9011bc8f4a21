"""Rows and columns without end: an answer, and memory in proportion to the file, whatever kind holds them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

ROOT = Path(__file__).resolve().parents[3]
MEGABYTE = 1 << 20
SAID = ("abcdefgh" * 11 + "가나다😀") * (24 * MEGABYTE // 101)
READ = """
import resource, sys
import pandas, pyarrow.parquet, csv, gzip, json
from training.data.sources import read
from playground.errors import MadangError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    found = read(sys.argv[1])
    print([fault.message for fault in found.faults], len(found.rows))
except MadangError as error:
    print(error.message)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def a_line(path: Path) -> None:
    path.write_text(f'{{"text": "a"}}\n{json.dumps({"text": SAID}, ensure_ascii=False)}\n', encoding="utf-8")


def a_document(path: Path) -> None:
    path.write_text(json.dumps([{"text": "a"}, {"text": SAID}], ensure_ascii=False), encoding="utf-8")


def a_column(path: Path) -> None:
    path.write_text(json.dumps({"text": ["a", SAID]}, ensure_ascii=False), encoding="utf-8")


def a_field(path: Path) -> None:
    path.write_text(f'text\na\n"{SAID}"\n', encoding="utf-8")


def a_paragraph(path: Path) -> None:
    path.write_text(f"a\n\n{SAID}\n", encoding="utf-8")


def a_cell(path: Path) -> None:
    parquet.write_table(pa.table({"text": ["a", SAID]}), path, compression="none")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write"),
    [
        *(("a.jsonl", a_line), ("a.json", a_document), ("b.json", a_column), ("a.csv", a_field)),
        *(("a.txt", a_paragraph), ("a.parquet", a_cell)),
    ],
)
def test_a_giant_text_is_refused_within_thrice_its_size(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / name)
    command = [sys.executable, "-c", READ, str(tmp_path / name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    *said, kilobytes = done.stdout.splitlines()
    assert "longer than 1,000,000 characters" in "".join(said)
    assert int(kilobytes) * 1024 <= 3 * (tmp_path / name).stat().st_size
