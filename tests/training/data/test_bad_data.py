"""Bad data in one table: each case says what is wrong with which thing, and what to do about it."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.errors import ConfigError, HubError, MadangError, VariantError
from tests.training.data.rows import KOALPACA, KTO, MESSAGES, PREFERENCE, TEXT, jsonl, talks
from training.data.encoder import Encoder
from training.data.fixing import write_fixed
from training.data.formats import check_method, convert
from training.data.mix import held_out
from training.data.sources import load, read


def write(folder: Path, name: str, content: bytes | str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def rows(folder: Path, name: str, content: list[Any]) -> str:
    return str(jsonl(folder / name, content))


def several_kinds(folder: Path) -> str:
    write(folder, "d/a.csv", "text\na\n")
    return str(Path(rows(folder / "d", "b.jsonl", TEXT)).parent)


def a_leftover(folder: Path) -> str:
    write(folder, "d/a.csv", "text\na\n")
    return str(Path(write(folder, "d/notes.xlsx", "")).parent)


def no_such_split(folder: Path) -> str:
    return str(Path(write(folder, "d/test.csv", "text\na\n")).parent)


def misspelt(folder: Path) -> str:
    write(folder, "train.jsonl", "")
    return str(folder / "trian.jsonl")


def cut_gzip(folder: Path) -> str:
    return write(folder, "a.jsonl.gz", gzip.compress(json.dumps(TEXT[0]).encode() * 50)[:-12])


def both(folder: Path) -> str:
    return rows(folder, "a.jsonl", [KOALPACA[0] | MESSAGES[0]])


def converted(make: Callable[[Path], str], **options: Any) -> Callable[[Path], Any]:
    return lambda folder: convert(read(make(folder)), **options)


def method(name: str, content: list[Any]) -> Callable[[Path], Any]:
    return lambda folder: check_method(convert(read(rows(folder, "a.jsonl", content))), name)


def fixed(target: str, source: str = "a.jsonl") -> Callable[[Path], Any]:
    def run(folder: Path) -> None:
        rows(folder, "a.jsonl", TEXT)
        write_fixed(folder / target, talks(("a", "b")), str(folder / source))

    return run


CASES: dict[str, tuple[Callable[[Path], Any], type[MadangError], str, str]] = {
    "a misspelt path": (lambda f: read(misspelt(f)), ConfigError, "no file or folder", "train.jsonl?"),
    "no such path": (lambda f: read(str(f / "x" / "y.csv")), ConfigError, "y.csv", "a Hub id (owner/name)"),
    "another kind of file": (lambda f: read(write(f, "a.docx", "")), ConfigError, ".docx is not read", ".jsonl"),
    "a file without a suffix": (lambda f: read(write(f, "data", "x")), ConfigError, "without a suffix", ".csv"),
    "an empty file": (lambda f: read(write(f, "a.jsonl", "")), ConfigError, "holds no rows", "right file"),
    "an empty JSON file": (lambda f: read(write(f, "a.json", " ")), ConfigError, "holds no rows", "right file"),
    "a header alone": (lambda f: read(write(f, "a.csv", "text\n")), ConfigError, "holds no rows", "right file"),
    "JSON cut short": (
        *(lambda f: read(write(f, "a.json", '[{"text": "a"},\n{"te')), ConfigError),
        *("line 2, column 2: not valid JSON", "JSONL"),
    ),
    "JSON with two lists": (
        *(lambda f: read(write(f, "a.json", '{"x": [{}], "y": [{}]}')), ConfigError),
        *("the lists x, y", "one list of objects"),
    ),
    "JSON that is no rows": (
        *(lambda f: read(write(f, "a.json", '"text"')), ConfigError),
        *("a string and no list", "one list of objects"),
    ),
    "a column twice": (
        *(lambda f: read(write(f, "a.csv", "text,text\na,b\n")), ConfigError),
        *("column 'text' twice", "Rename"),
    ),
    "no Parquet": (lambda f: read(write(f, "a.parquet", "x")), ConfigError, "not a whole Parquet", "again"),
    "gzip cut short": (lambda f: read(cut_gzip(f)), ConfigError, "cut short", "again"),
    "UTF-16 cut short": (
        *(lambda f: read(write(f, "a.txt", "가나".encode("utf-16") + b"\x00")), ConfigError),
        *("is not UTF-16", "UTF-8"),
    ),
    "a folder of several kinds": (lambda f: read(several_kinds(f)), ConfigError, ".csv, .jsonl", "Name one file"),
    "a folder with leftovers": (lambda f: read(a_leftover(f)), ConfigError, "notes.xlsx", "Move them away"),
    "an empty folder": (lambda f: read(str(f)), ConfigError, "holds no data files", ".parquet"),
    "a folder without the split": (lambda f: read(no_such_split(f)), ConfigError, "'train'", "Its files are of: test"),
    "a limit of nothing": (lambda f: read("a", limit=0), ConfigError, "limit of 0", "1 or more"),
    "misspelt columns": (
        *(converted(lambda f: rows(f, "a.jsonl", [{"instrucion": "a", "Output": "b"}])), ConfigError),
        *("columns are instrucion, Output", "--column instruction=instrucion --column output=Output"),
    ),
    "columns of no format": (
        *(converted(lambda f: rows(f, "a.jsonl", [{"x": "a"}])), ConfigError),
        *("columns are x", "koalpaca: instruction, output"),
    ),
    "two formats in one row": (
        *(converted(both), ConfigError),
        *("no known format", "name one with --format"),
    ),
    "two formats in one file": (
        *(converted(lambda f: rows(f, "a.jsonl", [*KOALPACA, *MESSAGES])), ConfigError),
        *("3 rows of koalpaca, 2 rows of messages", "one format a file"),
    ),
    "pairs without a prompt": (
        *(converted(lambda f: rows(f, "a.jsonl", [{"chosen": "a", "rejected": "b"}])), ConfigError),
        *("columns are chosen, rejected", "--column prompt=…"),
    ),
    "a format whose columns are missing": (
        *(converted(lambda f: rows(f, "a.jsonl", [{"txt": "a"}]), format="text"), ConfigError),
        *("no column text", "--column text=txt"),
    ),
    "an unknown format": (
        *(converted(lambda f: rows(f, "a.jsonl", TEXT), format="sharegtp"), MadangError),
        *("'sharegtp'", "Did you mean sharegpt"),
    ),
    "a column that is not there": (
        *(converted(lambda f: rows(f, "a.jsonl", [{"질문": "a"}]), columns={"instruction": "질믄"}), MadangError),
        *("'질믄'", "Did you mean 질문"),
    ),
    "a field of no format": (
        *(converted(lambda f: rows(f, "a.jsonl", TEXT), columns={"instructions": "text"}), MadangError),
        *("'instructions'", "Did you mean instruction"),
    ),
    "conversations for cpt": (method("cpt", KOALPACA), ConfigError, "cpt learns from plain text", "Train it with sft"),
    "conversations for dpo": (method("dpo", KOALPACA), ConfigError, "preference pairs", "give preference data"),
    "pairs for sft": (method("sft", PREFERENCE), ConfigError, "holds preference rows", "Train it with dpo"),
    "rated answers for sft": (method("sft", KTO), ConfigError, "holds rated rows", "--format messages"),
    "a copy over its source": (fixed("a.jsonl"), ConfigError, "would replace its source", "another name"),
    "a copy in the folder it is of": (fixed("b.jsonl", "."), ConfigError, "in the folder that is", "another place"),
    "a copy of another kind": (fixed("b.csv"), ConfigError, "must be named .jsonl", "b.jsonl"),
    "too few rows to hold out": (
        *(lambda f: held_out(talks(("a", "b")), 0.05), ConfigError),
        *("Holding out 0.05 of 1 row", "smaller"),
    ),
    "a model without a tokenizer": (lambda f: Encoder(f), VariantError, "no tokenizer", "tokenizer_config.json"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_data(case: str, tmp_path: Path) -> None:
    run, kind, message, hint = CASES[case]
    with pytest.raises(kind) as error:
        run(tmp_path)
    assert message in error.value.message
    assert hint in error.value.hint


HUB = {
    "gated": (
        hub_error := "DatasetNotFoundError",
        "Dataset 'a/b' is a gated dataset on the Hub.",
        "gated",
        "Accept it",
    ),
    "missing or offline": (hub_error, "Dataset 'a/b' doesn't exist on the Hub.", "misspelt", "spelling"),
    "an unknown split": ("ValueError", 'Unknown split "trian". Should be one of ["train"].', "'trian'", "--split"),
    "a script": ("RuntimeError", "Dataset scripts are no longer supported, but found b.py", "scripts", "Download"),
    "no network": ("ConnectionError", "Couldn't reach the Hub", "cannot be reached", "network"),
}


@pytest.mark.parametrize("case", HUB)
def test_what_the_hub_refuses(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    import datasets

    kind, said, message, hint = HUB[case]
    error = getattr(datasets.exceptions, kind, None) or getattr(builtins, kind)

    def refuse(*_: Any, **__: Any) -> None:
        raise error(said)

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(HubError) as caught:
        read("a/b", "trian", fetch=load)
    assert message in caught.value.message
    assert hint in caught.value.hint
