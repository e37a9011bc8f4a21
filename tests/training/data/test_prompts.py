"""Prompts for GRPO: read where they are asked for alone, with every other column kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from playground.errors import ConfigError
from tests.training.data.rows import data, jsonl
from training.data.examples import Example
from training.data.fixing import write_fixed
from training.data.formats import check_method, convert, wanted_format
from training.data.report import inspect
from training.data.sources import read

ASK = [{"role": "user", "content": "수도?"}]
CASES: dict[str, tuple[dict[str, Any], list[tuple[str, str]], str, dict[str, Any]]] = {
    "a text": ({"prompt": "a", "n": 3}, [("user", "a")], "a", {"n": 3}),
    "turns": ({"prompt": ASK, "answer": None}, [("user", "수도?")], "", {"answer": None}),
    "messages": ({"messages": ASK, "completion": "서울"}, [("user", "수도?")], "", {"completion": "서울"}),
    "JSON": ({"prompt": json.dumps(ASK), "chosen": "x"}, [("user", "수도?")], "", {"chosen": "x"}),
    "system": ({"prompt": "a", "system": "s"}, [("system", "s"), ("user", "a")], "a", {"system": "s"}),
    "a question": ({"question": "q", "response": "r"}, [("user", "q")], "q", {"response": "r"}),
    "input": ({"instruction": "i", "input": "x"}, [("user", "i\n\nx")], "i\n\nx", {"input": "x"}),
}


@pytest.mark.parametrize("case", CASES)
def test_prompts_and_all_other_columns(case: str) -> None:
    row, turns, text, columns = CASES[case]
    made = data([row], "prompt")
    assert made.findings == []
    (example,) = made.examples
    assert [turn[:2] for turn in example.turns] == turns
    assert (example.kind, example.text, json.loads(example.columns)) == ("prompt", text, columns)


@pytest.mark.parametrize("case", CASES)
def test_a_cleaned_copy_says_the_same(case: str, tmp_path: Path) -> None:
    made = data([CASES[case][0]], "prompt")
    write_fixed(tmp_path / "clean.jsonl", made, "x")
    again = convert(read(str(tmp_path / "clean.jsonl")), "prompt").examples

    def said(example: Example) -> list[Any]:
        return [[turn[:2] for turn in example.turns], example.text, json.loads(example.columns)]

    assert list(map(said, again)) == list(map(said, made.examples))


def test_no_file_is_found_to_hold_prompts_and_no_other_method_takes_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in no known format"):
        convert(read(str(jsonl(tmp_path / "rows.jsonl", [{"prompt": "a"}]))))
    assert [wanted_format("auto", name) for name in ("grpo", "sft", None)] == ["prompt", "auto", "auto"]
    assert wanted_format("messages", "grpo") == "messages"
    with pytest.raises(ConfigError, match="sft learns from") as caught:
        check_method(data([{"prompt": "a"}], "prompt"), "sft")
    assert "grpo" in caught.value.hint


def test_same_prompts_with_other_columns_are_no_duplicates_and_an_answer_at_the_end_is_no_prompt() -> None:
    rows = [{"prompt": "a", "n": 1}, {"prompt": "a", "n": 2}, {"prompt": "a", "n": 2}]
    rows.append({"prompt": [*ASK, {"role": "assistant", "content": "서울"}]})
    found = {finding.check: finding.rows for finding in inspect(data(rows, "prompt")).findings}
    assert found == {"duplicates": (3,), "roles": (4,)}
