"""Reading: every kind of file, the encodings Korean files come in, folders, and the Hub behind its seam."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest

from tests.training.data.rows import ALPACA, KOALPACA, SHAREGPT, TEXT, jsonl
from training.data.formats import convert
from training.data.sources import read


def checks(found: Any) -> list[str]:
    return [fault.check for fault in found.faults]


def test_jsonl_counts_lines_as_an_editor_does(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [KOALPACA[0], "", KOALPACA[1], "{broken", '["no object"]', KOALPACA[2]])
    found = read(str(path))
    assert (found.rows, found.numbers) == (KOALPACA, [1, 3, 6])
    assert [(fault.rows, fault.severity) for fault in found.faults] == [((4,), "fatal"), ((5,), "fatal")]
    assert "not valid JSON" in found.faults[0].message


@pytest.mark.parametrize(
    "content",
    [KOALPACA, {"data": KOALPACA, "version": "1"}, {"train": KOALPACA, "test": ALPACA}],
    ids=["array", "one list", "a list a split"],
)
def test_json(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    assert (read(str(path)).rows, read(str(path)).numbers) == (KOALPACA, [1, 2, 3])


def test_json_lines_under_either_name(tmp_path: Path) -> None:
    assert read(str(jsonl(tmp_path / "a.json", KOALPACA))).rows == KOALPACA
    (tmp_path / "b.jsonl").write_text(json.dumps(KOALPACA, indent=2))
    assert read(str(tmp_path / "b.jsonl")).rows == KOALPACA


def test_an_object_that_is_one_conversation_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(SHAREGPT[0], indent=1))
    assert read(str(path)).rows == SHAREGPT[:1]


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.csv.gz", ",")])
def test_csv(tmp_path: Path, name: str, mark: str) -> None:
    lines = [mark.join(("instruction", "output")), mark.join(("하나?", '"둘\n셋, ""넷"""')), mark.join(("a", "b"))]
    raw = ("\n".join(lines) + "\n").encode("utf-8-sig")
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    found = read(str(tmp_path / name))
    assert found.rows == [{"instruction": "하나?", "output": '둘\n셋, "넷"'}, {"instruction": "a", "output": "b"}]
    assert found.numbers == [2, 4]


def test_csv_rows_with_other_columns_and_open_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,tag\none,1\ntwo\nthree,3,3\nfour,"4\n', encoding="utf-8")
    found = read(str(tmp_path / "a.csv"))
    assert found.numbers == [2]
    assert {(fault.rows[0], fault.message.split(" where")[0]) for fault in found.faults[:2]} == {
        (3, "1 columns"),
        (4, "3 columns"),
    }
    assert "a quote may stay open" in found.faults[2].message


def test_a_cell_longer_than_pythons_limit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "가" * 200_000 + "\n", encoding="utf-8")
    assert len(read(str(tmp_path / "a.csv")).rows[0]["text"]) == 200_000


def test_parquet_keeps_lists_and_gaps(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"conversations": [row["conversations"] for row in SHAREGPT], "note": [None, "x"]})
    frame.to_parquet(tmp_path / "a.parquet")
    found = read(str(tmp_path / "a.parquet"))
    assert found.rows == [SHAREGPT[0] | {"note": None}, SHAREGPT[1] | {"note": "x"}]
    assert len(convert(found)) == 2


def test_paragraphs_of_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n첫 줄\n둘째 줄\n\n \nthird\n", encoding="utf-8-sig")
    found = read(str(tmp_path / "a.txt"))
    assert found.rows == [{"text": "첫 줄\n둘째 줄"}, {"text": "third"}]
    assert found.numbers == [2, 6]


@pytest.mark.parametrize(("encoding", "name"), [("cp949", "CP949"), ("utf-16", "UTF-16")])
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt"])
def test_korean_encodings_are_read_and_named(tmp_path: Path, encoding: str, name: str, suffix: str) -> None:
    text = {"jsonl": '{"text": "똠방각하"}\n', "csv": "text\n똠방각하\n", "txt": "똠방각하\n"}[suffix]
    (tmp_path / f"a.{suffix}").write_bytes(text.encode(encoding))
    found = read(str(tmp_path / f"a.{suffix}"))
    assert found.rows == [{"text": "똠방각하"}]
    assert [(fault.check, fault.severity, fault.fix) for fault in found.faults] == [("file-encoding", "warning", True)]
    assert f"reads as {name}" in found.faults[0].message


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    found = read(str(jsonl(tmp_path / "a.jsonl", TEXT, "utf-8-sig")))
    assert (found.rows, found.faults) == (TEXT, [])


def test_one_line_in_another_encoding(tmp_path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in TEXT]
    (tmp_path / "a.jsonl").write_bytes(f"{lines[0]}\n".encode() + lines[0].encode("cp949") + b"\n\xff\n")
    found = read(str(tmp_path / "a.jsonl"))
    assert found.numbers == [1]
    assert [(fault.message, fault.rows) for fault in found.faults] == [("not UTF-8", (2, 3))]


def test_a_limit_stops_early(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [*KOALPACA[:2], "broken"])
    assert (len(read(str(path), limit=1).rows), checks(read(str(path), limit=2))) == (1, [])


def test_a_folder_is_counted_through_and_says_which_file(tmp_path: Path) -> None:
    jsonl(tmp_path / "b.jsonl", [KOALPACA[1], "broken", KOALPACA[2]])
    jsonl(tmp_path / "a.jsonl", [KOALPACA[0]])
    (tmp_path / "README.md").write_text("of others")
    (tmp_path / ".cache").write_text("hidden")
    found = read(str(tmp_path))
    assert (found.rows, found.numbers) == (KOALPACA, [1, 2, 4])
    assert found.faults[0].rows == (3,)
    assert found.faults[0].message.startswith("b.jsonl: not valid JSON")
    assert "(lines 2)" in found.faults[0].message


def test_a_folder_whose_names_say_the_split(tmp_path: Path) -> None:
    jsonl(tmp_path / "train-00000-of-00002.jsonl", KOALPACA[:1])
    jsonl(tmp_path / "train-00001-of-00002.jsonl", KOALPACA[1:2])
    jsonl(tmp_path / "dev.jsonl", KOALPACA[2:])
    assert read(str(tmp_path)).rows == KOALPACA[:2]
    assert read(str(tmp_path), split="validation").rows == KOALPACA[2:]


def test_the_hub_behind_its_seam() -> None:
    asked: list[Any] = []

    def fetch(repo: str, split: str, limit: int | None) -> Sequence[dict[str, Any]]:
        asked.append((repo, split, limit))
        return KOALPACA

    found = read("beomi/KoAlpaca-v1.1a", "test", 2, fetch)
    assert (found.rows, found.numbers, found.name) == (KOALPACA[:2], [1, 2], "beomi/KoAlpaca-v1.1a")
    assert asked == [("beomi/KoAlpaca-v1.1a", "test", 2)]
