"""What is known before a run starts: rows for evaluation are held to the same as those that are trained on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from playground.errors import ConfigError
from playground.settings import Settings
from tests.training.conftest import ROWS, Write
from training import recipe as recipes
from training.run import preparing


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "orpo"])
def test_rows_for_evaluation_that_a_length_cuts_off_are_refused(
    method: str, settings: Settings, recipe: Write, write_rows: Callable[..., Path]
) -> None:
    asked = "instruction" if method == "sft" else "prompt"
    long = [row | {asked: f"{row[asked]} " * 40} for row in ROWS[method]]
    sets = [f"data.evaluation={write_rows(long, 'held.jsonl')}", "trainer.max_length=64"]
    with pytest.raises(ConfigError, match=r"data\.evaluation: .*held\.jsonl cannot be trained on"):
        preparing.look(settings, recipes.load(recipe(method), sets))


def test_what_a_file_for_evaluation_drops_is_told_with_its_name(
    settings: Settings, recipe: Write, write_rows: Callable[..., Path]
) -> None:
    held = write_rows([row | {"context": "여수"} for row in ROWS["sft"][:5]], "held.jsonl")
    found = preparing.look(settings, recipes.load(recipe("sft"), [f"data.evaluation={held}"])).report.findings
    assert [one.message.partition(": ")[0] for one in found if "context" in one.message] == [str(held)]
