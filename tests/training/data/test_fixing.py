"""The cleaned copy: nothing fatal in it, everything else as it was, and never half a file."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.errors import SetupError
from tests.places import ROOT
from tests.training.data.rows import (
    KOALPACA,
    KTO,
    LIST_PREFERENCE,
    MESSAGES,
    PREFERENCE,
    SHAREGPT,
    TEXT,
    data,
    jsonl,
    talks,
)
from training.data.checks import check
from training.data.examples import Example, Turn
from training.data.fixing import fix, write_fixed
from training.data.formats import Data, convert
from training.data.sources import read


def again(target: Path) -> Data:
    return convert(read(str(target)))


SAID = '[{"role": "assistant", "content": "x"}]'
ODD: list[dict[str, Any]] = [
    {"instruction": "옮기세요.", "input": "감나무", "chosen": "A tree.", "rejected": "Tree?"},
    {"prompt": [{"role": "user", "content": SAID}], "chosen": "그래서", "rejected": "글쎄"},
    {"prompt": "왜?", "chosen": [{"role": "assistant", "content": SAID}], "rejected": "글쎄"},
    {"prompt": "뭐?", "chosen": "a", "rejected": "b", "tools": '[{"name": "get", "parameters": {"default": null}}]'},
]


@pytest.mark.parametrize("rows", [ODD, KOALPACA, KTO, MESSAGES, SHAREGPT, TEXT, PREFERENCE, LIST_PREFERENCE])
def test_sound_rows_come_back_as_they_were(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    before = data(rows)
    write_fixed(tmp_path / "clean.jsonl", fix(before, check(before))[0], "rows.jsonl")
    assert again(tmp_path / "clean.jsonl").examples == before.examples


def test_a_pair_whose_prompt_is_a_conversation_comes_back(tmp_path: Path) -> None:
    turns = (Turn("system", "짧게"), Turn("user", "왜?"))
    pair = Data([Example(1, "preference", turns, chosen="그래서", rejected="글쎄")], "preference", "x")
    write_fixed(tmp_path / "clean.jsonl", pair, "x")
    assert again(tmp_path / "clean.jsonl").examples == pair.examples


def test_what_is_left_out_and_what_is_repaired(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "한국")
    source = jsonl(
        tmp_path / "a.jsonl",
        [
            *({"instruction": "하나", "output": "둘"}, "broken", {"instruction": "하나", "output": "둘 "}),
            {"instruction": "인사", "output": "ì•ˆë…•"},
            {"instruction": nfd, "output": "나라\x07"},
            *({"instruction": "답이 없다", "output": ""}, {"instruction": "반쪽", "output": "글\\ud83d자"}),
        ],
    )
    source.write_text(source.read_text(encoding="utf-8").replace("\\\\ud83d", "\\ud83d"), encoding="utf-8")
    made = convert(read(str(source)))
    left, done = fix(made, check(made))
    write_fixed(tmp_path / "clean.jsonl", left, str(source))
    assert [[turn.content for turn in example.turns] for example in again(tmp_path / "clean.jsonl").examples] == [
        *(["하나", "둘"], ["인사", "안녕"], ["한국", "나라"], ["반쪽", "글자"]),
    ]
    names = ("unreadable", "duplicates", "mojibake", "decomposed", "control-characters", "missing-answers")
    assert done == dict.fromkeys([*names, "half-characters"], 1)


def test_a_repair_that_makes_a_duplicate_or_nothing() -> None:
    rows = talks(("인사", "안녕"), ("인사", "ì•ˆë…•"), ("\ud83d", "a"))
    left, done = fix(rows, check(rows))
    assert [example.row for example in left.examples] == [1]
    assert done == {"mojibake": 1, "duplicates": 1, "half-characters": 1, "empty": 1}


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "x"]), st.text()), max_size=4), max_size=6
    )
)
def test_nothing_fatal_is_left(rows: list[list[tuple[str, str]]]) -> None:
    examples = [
        Example(row, "conversation", tuple(Turn(*turn) for turn in turns)) for row, turns in enumerate(rows, start=1)
    ]
    before = Data(examples, "messages", "x")
    left, _ = fix(before, check(before))
    assert not [finding for finding in check(left) if finding.fix]


def test_a_full_disk_midway_leaves_the_old_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "clean.jsonl"
    target.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SetupError) as error:
        write_fixed(target, talks(("왜?", "그래서")), "x")
    assert "The cleaned copy needs" in error.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["clean.jsonl"]
    assert target.read_text() == "old"


KILLED = """
import sys
from pathlib import Path
from training.data.examples import Example
from training.data.fixing import write_fixed
from training.data.formats import Data
rows = Data([Example(row, "text", text="마당" * 400) for row in range(60000)], "text", "x")
print("ready", flush=True)
write_fixed(Path(sys.argv[1]), rows, "x")
print("done", flush=True)
"""


@pytest.mark.parametrize("after", [0.0, 0.05, 0.15])
def test_a_killed_writer_leaves_the_old_copy_or_the_new_one(tmp_path: Path, after: float) -> None:
    target = tmp_path / "clean.jsonl"
    target.write_text("old")
    command = [sys.executable, "-c", KILLED, str(target)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    text = target.read_text(encoding="utf-8")
    assert text == "old" or len([json.loads(line) for line in text.splitlines()]) == 60000
