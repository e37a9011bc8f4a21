"""The same checks run by hand, before a commit and in CI; and the packages say that they are typed."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.places import ROOT


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.M)
    assert found, target
    return [line.strip().lstrip("@").replace("$(VENV)", ".venv/bin") for line in found[1].splitlines()]


def parsed(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_hooks_before_a_commit_are_the_static_checks() -> None:
    hooks = [hook for repo in parsed(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == recipe("static")
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)


def test_the_workflow_runs_what_a_change_must_pass_on_every_python() -> None:
    job = parsed(".github/workflows/check.yml")["jobs"]["check"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert wanted == ">=3.11,<3.14"
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


@pytest.mark.parametrize("wing", ["playground", "training", "eval"])
def test_a_wing_says_that_it_is_typed(wing: str) -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert (ROOT / wing / "py.typed").is_file()
    assert "py.typed" in tool["setuptools"]["package-data"]["*"]
    assert wing in tool["mypy"]["packages"]
