"""Programs that sources name in strings: each exists, comes up on little or wrong input, and ends in its own way."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from playground.protocol import ModelSpec
from tests.places import ROOT

NAMED = re.compile(r"""-m[\s"',]+((?:[a-z_]+\.)+[a-z_]+)""")
"""`-m some.module`, as words of a command or in a sentence."""
COMMAND = re.compile(r"""["']-m["'],\s*["']([\w.]+)["']""")
PROSE = ("app.py", "Makefile", "README.md", "README.ko.md", "CONTRIBUTING.md", ".ci/run")
WINGS = ("playground", "training", "eval")
FAKE = json.dumps({"op": "load", "spec": ModelSpec(engine="fake", name="f", path="fake:f").model_dump()})
PROGRAMS = {
    "playground.backends.program": ((), FAKE, '{"type": "loaded"', 0),
    "playground.system.jobs": (("{here}",), "", "holds no job that can be read", 1),
    "playground.engines.keeper": (("no-such-engine",), "", "no-such-engine cannot be started", 127),
    "playground.engines.llama_child": ((), "", "required: --model, --alias", 2),
    "training.trainer.process": (("{here}",), "", "recipe.yaml", 3),
    "training.export.process": (("builtins:print", "hello"), "", "hello", 0),
}
"""Module -> arguments, its input, what it says to that, its exit code."""
STAYS = {"playground.backends.program"}
"""Those that go on until their input ends; others end by themselves, and an end before theirs would cut them off."""


def named(pattern: re.Pattern[str], *folders: str, files: tuple[str, ...] = ()) -> dict[str, str]:
    """Modules that Python files and pages name after -m, each with one of the files."""
    found = {}
    inside = [path for folder in folders for kind in ("*.py", "*.md") for path in (ROOT / folder).rglob(kind)]
    for path in [*inside, *(ROOT / name for name in files if (ROOT / name).is_file())]:
        for module in pattern.findall(path.read_text(encoding="utf-8")):
            found[module] = str(path.relative_to(ROOT))
    return found


def test_every_program_that_is_named_exists() -> None:
    modules = named(NAMED, *WINGS, "benchmarks", "scripts", "docs", files=PROSE)
    assert len(modules) >= len(PROGRAMS)
    assert {module: file for module, file in modules.items() if find_spec(module) is None} == {}


def test_every_program_of_ours_is_started_here() -> None:
    ours = {module for module in named(COMMAND, *WINGS) if module.partition(".")[0] in WINGS}
    assert ours == set(PROGRAMS)


@pytest.mark.parametrize("module", PROGRAMS)
def test_it_comes_up_and_ends_in_its_own_way(module: str, tmp_path: Path) -> None:
    arguments, said, answer, code = PROGRAMS[module]
    process = subprocess.Popen(
        [sys.executable, "-m", module, *(word.format(here=tmp_path) for word in arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{said}\n" if said else "")
    process.stdin.flush()
    heard = ""
    for line in process.stdout:
        heard += line
        if answer in heard and module in STAYS:
            process.stdin.close()
    ended = process.wait(60)
    process.stdin.close()
    assert answer in heard, heard
    assert "No module named" not in heard
    assert ended == code, heard
