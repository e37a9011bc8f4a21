"""A GGUF in shards is one model to an evaluation: its size is that of all, and a change of any is a change."""

from pathlib import Path

import pytest

from eval import runner, speed
from eval.suites import find
from playground.protocol import ModelSpec
from playground.workers.loadable import Loadable

PLAN = runner.Plan("g", find("quick"))


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"x-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    for number, path in enumerate(made, start=1):
        path.write_bytes(bytes(100 * number))
    return made


def test_all_shards_count(shards: list[Path]) -> None:
    found = Loadable(ModelSpec(engine="llama_cpp", name="g", path=str(shards[0])))
    assert speed.size(found) == 600
    before = runner._identity(found, PLAN)
    assert runner._identity(found, PLAN) == before
    shards[2].write_bytes(bytes(301))
    assert runner._identity(found, PLAN) != before
