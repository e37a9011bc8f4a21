"""docs/security.md: whoever may do something, or not, is named with a test, and the test is there."""

import ast
import re

import pytest

from tests.places import ROOT

LINES = [
    line
    for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.endswith("| tests |")
]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.mark.parametrize("line", LINES)
def test_each_line_has_its_tests_and_they_are_there(line: str) -> None:
    named = NAMED.findall(line.split("|")[-2])
    assert named, line
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert test.startswith("test_")
        assert test in {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}, f"{file}::{test}"


def test_every_mode_has_its_lines() -> None:
    assert len(LINES) > 20
    assert (ROOT / "SECURITY.md").is_file()
