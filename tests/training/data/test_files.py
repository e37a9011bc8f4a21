"""Files as other programs leave them: each is read as it is meant, or refused by what it is."""

import gzip
import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from playground.errors import ConfigError
from tests.training.data.rows import KOALPACA, MESSAGES, SHAREGPT, jsonl
from training.data import encodings, json_rows
from training.data.formats import convert
from training.data.sources import read

ONE = {"질문": "하나?", "답변": "둘"}
PARTS = {unicodedata.normalize("NFD", name): text for name, text in ONE.items()}
CSV = "질문,답변\n하나?,둘\n"
COLUMNS = {"instruction": [row["instruction"] for row in KOALPACA], "output": [row["output"] for row in KOALPACA]}


def stored(folder: Path, name: str, content: Any) -> Path:
    """A file of bytes, of text, of a table, or of JSON."""
    path = folder / name
    if isinstance(content, pa.Table):
        parquet.write_table(content, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
    return path


READ: dict[str, tuple[str, Any, list[Any]]] = {
    "names in parts, JSON lines": ("a.jsonl", json.dumps(PARTS) + "\n" + json.dumps(ONE), [ONE, ONE]),
    "names in parts, JSON": ("a.json", [PARTS], [ONE]),
    "names in parts, CSV": ("a.csv", unicodedata.normalize("NFD", "질문,답변\n") + "하나?,둘\n", [ONE]),
    "names in parts, Parquet": ("a.parquet", pa.Table.from_pylist([PARTS]), [ONE]),
    "sep=": ("a.csv", "\ufeffsep=;\r\n질문;답변\r\n하나?;둘\r\n", [ONE]),
    "sep= of a sign of its own": ("a.csv", "sep=|\n질문|답변\n하나?|둘\n", [ONE]),
    "empty columns and rows at the end": ("a.csv", "질문,답변,,\n하나?,둘,,\n,,,\n\n", [ONE]),
    "empty cells beyond the header": ("a.csv", "질문,답변\n하나?,둘,,\n", [ONE]),
    "empty lines above the header": ("a.csv", "\n,\n질문,답변\n하나?,둘\n", [ONE]),
    "text under no name": ("a.csv", "질문,답변,\n하나?,둘,셋\n", [ONE | {"column 3": "셋"}]),
    "CRLF in a field": ("a.csv", '질문,답변\r\n하나?,"둘\r\n셋"\r\n', [ONE | {"답변": "둘\r\n셋"}]),
    "gzip without .gz": ("a.csv", gzip.compress(CSV.encode()), [ONE]),
    ".gz without gzip": ("a.csv.gz", CSV, [ONE]),
    "columns as lists": ("a.json", COLUMNS, KOALPACA),
    "one column as a list": ("a.json", {"text": ["a", "b"]}, [{"text": "a"}, {"text": "b"}]),
    "conversations as a column": ("a.json", {"messages": [row["messages"] for row in MESSAGES]}, MESSAGES),
    "columns by the numbers of rows": (
        *("a.json", {name: {str(n): v for n, v in enumerate(values)} for name, values in COLUMNS.items()}),
        KOALPACA,
    ),
    "names of columns apart from their cells": (
        *("a.json", {"columns": ["질문", "답변"], "index": [0, 1], "data": [list(ONE.values())] * 2}),
        [ONE, ONE],
    ),
    "times that Python has no date for": (
        *("a.parquet", pa.table({"text": ["a"], "at": pa.array([10**17], pa.timestamp("ms"))})),
        [{"text": "a", "at": "<value out of range: 100000000000000000>"}],
    ),
    "a key twice that says the same": ("a.jsonl", '{"text": "a", "text": "a"}', [{"text": "a"}]),
    "an index of pandas": ("a.parquet", pa.table({"text": ["a"], "__index_level_0__": [7]}), [{"text": "a"}]),
    "strings that look like brackets": (
        "a.json",
        [{"text": 'a]}"\\'}, {"text": "{["}],
        [{"text": 'a]}"\\'}, {"text": "{["}],
    ),
}
ENCODINGS = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-32", "cp949"]


@pytest.mark.parametrize("case", READ)
def test_what_others_write_is_read(case: str, tmp_path: Path) -> None:
    name, content, rows = READ[case]
    found = read(str(stored(tmp_path, name, content)))
    assert (found.rows, found.faults) == (rows, [])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("name", "text"), [("a.csv", CSV), ("a.jsonl", json.dumps(ONE, ensure_ascii=False) + "\n")])
def test_an_encoding_without_a_mark_is_read_and_named(encoding: str, name: str, text: str, tmp_path: Path) -> None:
    found = read(str(stored(tmp_path, name, text.encode(encoding))))
    assert found.rows == [ONE]
    assert [(fault.check, encodings.LEGACY[encoding] in fault.message) for fault in found.faults] == [
        ("file-encoding", True)
    ]


REFUSED: dict[str, tuple[str, Any, str, str]] = {
    "a spreadsheet": ("a.csv", b"PK\x03\x04\x14\0", "a ZIP archive, as .xlsx", "CSV"),
    "an old spreadsheet": ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "old Excel", "CSV"),
    "zstd": ("a.jsonl", b"\x28\xb5\x2f\xfd\0", "zstd", "Unpack"),
    "gzip around Parquet": ("a.parquet", gzip.compress(b"PAR1"), "gzip", "Unpack"),
    "Parquet by another name": ("a.jsonl", b"PAR1\x15", "a Parquet file", "Name it .parquet"),
    "Feather": ("a.parquet", b"ARROW1\0\0", "an Arrow", "to_parquet"),
    "a pointer of Git LFS": ("a.parquet", "version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "pull"),
    "a web page": ("a.jsonl", "\n<!DOCTYPE html>\n<html>", "a web page", "login"),
    "an error of a server": ("a.csv", '<?xml version="1.0"?><Error/>', "XML", "login"),
    "nothing but NUL": ("a.jsonl", b"\0" * 99, "NUL bytes", "again"),
    "a column twice": ("a.csv", "질문,질문\na,b\n", "the column '질문' twice", "Rename"),
    "a column in both forms": ("a.csv", f"질문,{next(iter(PARTS))}\na,b\n", "the column '질문' twice", "Rename"),
    "a column twice in Parquet": ("a.parquet", pa.table([[1], [2]], names=["a", "a"]), "column 'a' twice", "Rename"),
    "a header in another encoding": ("a.csv", "질문\n".encode("cp949") + "둘\n".encode(), "names of columns", "UTF-8"),
    "columns of unlike length": ("a.json", {"a": ["1", "2"], "b": ["3"]}, "unlike length: a 2, b 1", "list of objects"),
    "more columns than a table has": ("a.csv", ",".join(map(str, range(2000))), "2,000 columns", "swapped"),
    "deep nesting": ("a.json", '[{"a":' + "[" * 100_000, "nested too deeply", "list of objects"),
    "a list of texts": ("a.json", ["a", "b"], "a list of texts", "text"),
    "a CSV without a header": (
        "a.csv",
        "가" * 300 + ",b\nc,d\n",
        "300 characters where the name",
        "instruction,output",
    ),
    "a quote that stays open": ("a.json", '[{"a": "b"},\n{"a": "b}]', "line 2, column 7: not valid", "Correct it"),
    "a column twice apart from its cells": (
        *("a.json", {"columns": ["a", "a"], "data": [["b", "c"]]}),
        *("the column 'a' twice", "Rename one"),
    ),
    "a row of millions of parts": (
        *("a.json", '[{"text": "a"}, {"text": [' + "[]," * 3_000_000 + "[]]}]"),
        *("row 2: longer than", "save the rows as JSONL"),
    ),
    "a key twice in a document": ("a.json", '{"v": 1, "v": 2, "rows": []}', "'v' stands twice", "each key once"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_data_is_refused_by_what_it_is(case: str, tmp_path: Path) -> None:
    name, content, message, hint = REFUSED[case]
    with pytest.raises(ConfigError) as error:
        read(str(stored(tmp_path, name, content)))
    assert message in error.value.message
    assert hint in error.value.hint


FAULTY: dict[str, tuple[str, Any, str]] = {
    "a key twice, JSON lines": ("a.jsonl", '{"text": "a"}\n{"text": "a", "text": "b"}\n', "'text' stands twice"),
    "a key twice as 1 and true": ("a.jsonl", '{"text": "a"}\n{"text": 1, "text": true}\n', "'text' stands twice"),
    "a key twice, JSON": ("a.json", '[{"text": "a"}, {"m": {"a": 1, "a": 2}}]', "'a' stands twice"),
    "a key in both forms": (
        "a.jsonl",
        f'{{}}\n{json.dumps(ONE)[:-1]}, "{next(iter(PARTS))}": ""}}',
        "'질문' stands twice",
    ),
    "deep nesting": ("a.jsonl", '{"text": "a"}\n{"text": ' + "[" * 100_000, "nested too deeply"),
    "many keys": ("a.jsonl", '{"text": "a"}\n' + json.dumps(dict.fromkeys(map(str, range(2000)))), "1,000 columns"),
    "keys without end": (*("a.json", [{"text": "a"}, dict.fromkeys(map(str, range(60_000)))]), "50,000 keys"),
    "no object": ("a.json", '[{"text": "a"}, 7]', "not a JSON object"),
}
LONG = "x" * (encodings.LONGEST + 1)
FAULTY |= {
    "a long line": ("a.jsonl", f'{{"text": "a"}}\n{{"text": "{LONG}"}}\n{{"text": "b"}}\n', "longer than 1,000,000"),
    "a long object": ("a.json", [{"text": "a"}, {"text": LONG * 4}], "longer than 1,000,000"),
    "a long cell": ("a.parquet", pa.table({"text": ["a", LONG * 4]}), "longer than 1,000,000"),
    "a long paragraph": ("a.txt", "a\n\n" + "x\n" * (len(LONG) // 2 + 1), "blank lines part texts"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_a_row_that_cannot_be_read_is_named(case: str, tmp_path: Path) -> None:
    name, content, message = FAULTY[case]
    found = read(str(stored(tmp_path, name, content)))
    assert len(found.rows) + sum(fault.count for fault in found.faults) == {"a long line": 3}.get(case, 2)
    assert [message in fault.message for fault in found.faults] == [True]


@pytest.mark.parametrize("quote", ['"', ""], ids=["quoted", "bare"])
def test_a_field_without_end_is_named_with_its_line(quote: str, tmp_path: Path) -> None:
    path = stored(tmp_path, "a.csv", f"text\na\n{quote}{'x' * 999} \n" + (LONG if not quote else "x\n" * len(LONG)))
    with pytest.raises(ConfigError, match=f"line {3 if quote else 4}: a field is longer") as error:
        read(str(path))
    assert "quote that stays open" in error.value.hint


@pytest.mark.parametrize("turns", [MESSAGES[0]["messages"], SHAREGPT[0]["conversations"]], ids=["messages", "sharegpt"])
def test_turns_as_lists_of_their_keys_are_turns(turns: list[dict[str, str]], tmp_path: Path) -> None:
    plain, lists = {"messages": turns}, {"messages": {key: [turn[key] for turn in turns] for key in turns[0]}}
    stored(tmp_path, "a.parquet", pa.Table.from_pylist([lists]))
    jsonl(tmp_path / "b.jsonl", [lists])
    expected = convert(read(str(jsonl(tmp_path / "c.jsonl", [plain])))).examples
    for name in ("a.parquet", "b.jsonl"):
        assert convert(read(str(tmp_path / name))).examples == expected


def test_a_column_is_found_in_whichever_form_it_is_typed(tmp_path: Path) -> None:
    typed = dict(zip(("instruction", "output"), PARTS, strict=True))
    assert len(convert(read(str(jsonl(tmp_path / "a.jsonl", [ONE]))), columns=typed)) == 1


def test_a_path_is_found_in_whichever_form_it_is_typed(tmp_path: Path) -> None:
    (tmp_path / unicodedata.normalize("NFD", "자료")).mkdir()
    jsonl(tmp_path / unicodedata.normalize("NFD", "자료/학습.jsonl"), KOALPACA)
    assert read(str(tmp_path / "자료" / "학습.jsonl")).rows == KOALPACA


def test_pipes_and_devices_are_refused_before_they_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    for path, what in ((tmp_path / "a.jsonl", "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(ConfigError, match=f"{path} is {what} and no file"):
            read(str(path))


def test_a_document_is_cut_as_it_would_be_parsed() -> None:
    for text in ('[{}, {"a": [1, {"b": "]"}]} ]', ' {"data" : [{"a": "{"}]} ', "[]"):
        raw = text.encode()
        spans = json_rows._spans(raw)
        whole = json.loads(text)
        assert spans is not None
        assert [json.loads(raw[a:b]) for a, b in spans] == (whole["data"] if isinstance(whole, dict) else whole)
    for text in (
        "[{},]",
        "[{} {}]",
        "[,{}]",
        '[{}, "a"]',
        "[{}",
        "[{}] {}",
        '{"a": [{}], "b": 1}',
        "[[]]",
    ):
        assert json_rows._spans(text.encode()) is None
