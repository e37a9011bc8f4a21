"""kill -9 at each step of a change of the catalogue: the old rows or the new ones, and the next program goes on."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from playground.catalogue import variants
from playground.catalogue.variants import Base, Catalogue
from playground.settings import Settings
from tests.places import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
]

CHANGE = """
import os, signal, sys
from pathlib import Path
from playground.catalogue import variants
from playground.settings import Settings
from playground.system import atomic
step, settings = sys.argv[1], Settings(data=Path(sys.argv[2]))

def die(*values, **named):
    os.kill(os.getpid(), signal.SIGKILL)

def half(path, text, **named):
    with path.open("w") as file:
        file.write(text[: len(text) // 2])
    die()

def moved(path, target, move=Path.replace):
    move(path, target)
    die()

steps = {
    "reading": (variants.Catalogue, "load", die),
    "half written": (Path, "write_text", half),
    "on its way to the disk": (atomic, "to_disk", die),
    "before its name": (Path, "replace", die),
    "after its name": (Path, "replace", moved),
}
setattr(*steps[step])
variants.add(settings, variants.Base(name="new", source="fake:new"))
"""


@pytest.mark.parametrize(
    ("step", "there"),
    [
        ("reading", False),
        ("half written", False),
        ("on its way to the disk", False),
        ("before its name", False),
        ("after its name", True),
    ],
)
def test_a_change_that_is_killed_is_whole_or_not_there(step: str, there: bool, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    variants.add(settings, Base(name="kept", source="fake:kept"))
    before = settings.catalogue.read_bytes()
    killed = subprocess.run([sys.executable, "-c", CHANGE, step, str(tmp_path)], cwd=ROOT, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert ("new" in Catalogue.load(settings).names) == there
    assert there or settings.catalogue.read_bytes() == before
    variants.add(settings, Base(name="next", source="fake:next"))  # nobody holds the lock any more
    assert {"kept", "next"} <= set(Catalogue.load(settings).names)
    assert not list(tmp_path.glob(".*.part"))
