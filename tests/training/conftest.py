"""Recipes over hand-written rows and a tiny random model, so that training takes seconds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from playground.settings import Settings
from tests.playground.backends.conftest import tiny

__all__ = ["tiny"]

PLACES = ("Seoul", "부산", "Jeju", "대구", "Suwon", "강릉", "Gyeongju", "전주", "Incheon", "여수")
ROWS: dict[str, list[dict[str, Any]]] = {
    "sft": [
        {"instruction": f"Where is {place}, number {number}?", "output": f"In Korea; it is stop {number} of the trip."}
        for number in range(4)
        for place in PLACES
    ],
    "dpo": [
        {
            "prompt": f"Name {place} {number}",
            "chosen": f"{place}.",
            "rejected": f"Well, {place}, let me think, {place}!",
        }
        for number in range(2)
        for place in PLACES
    ],
    "kto": [
        {"prompt": f"Name {place} {number}", "completion": f"{place}." if number else f"Hm, {place}?", "label": number}
        for number in range(2)
        for place in PLACES
    ],
    "cpt": [
        {"text": f"{place}의 마당에는 바람이 {number}번 지나간다. A courtyard in {place}."}
        for number in range(4)
        for place in PLACES
    ],
}
ROWS["orpo"] = ROWS["dpo"]
ROWS["grpo"] = [{"prompt": f"Name {place} {number}", "answer": place} for number in range(2) for place in PLACES]
REWARD = "def score(completions, **columns):\n    return [float(len(set(said))) for said in completions]\n"
"""What varies in a random model's answers, too."""
ANSWERS = {"num_generations": 4, "max_completion_length": 8, "learning_rate": 1e-2}
Write = Callable[..., Path]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A data folder of its own; one thread: sums come out the same everywhere, and tiny models gain nothing by more."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Settings(data=tmp_path / "data", threads=1)


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as JSON lines."""

    def write(rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def recipe(tmp_path: Path, tiny: Callable[[str], Path], write_rows: Callable[..., Path]) -> Write:
    """Writes a recipe for a tiny model; keyword arguments replace whole fields, `rows` the data's rows."""

    def write(method: str = "sft", rows: list[dict[str, Any]] | None = None, **fields: Any) -> Path:
        source = write_rows(ROWS.get(method, ROWS["sft"]) if rows is None else rows)
        trainer: dict[str, Any] = {"max_steps": 6, "save_steps": 2, "learning_rate": 1e-3, "warmup_steps": 0}
        if method == "grpo":
            (tmp_path / "reward.py").write_text(fields.pop("code", REWARD), encoding="utf-8")
            fields = {"reward": "reward.py:score"} | fields
            trainer |= ANSWERS
        row: dict[str, Any] = {
            "method": method,
            "model": str(tiny("llama")),
            "data": {"source": str(source)},
            "lora": {"r": 4},
            "trainer": trainer | fields.pop("trainer", {}),
        }
        path = tmp_path / "trip.yaml"
        path.write_text(yaml.safe_dump(row | fields, allow_unicode=True), encoding="utf-8")
        return path

    return write
