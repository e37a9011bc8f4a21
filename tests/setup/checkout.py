"""A checkout without code and with a fake Python: where the tests of the set-up script run it."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"


@dataclass
class Checkout:
    """A checkout without code, its fake Python and the PATH the script sees."""

    root: Path
    bin: Path
    plan: dict[str, Any] = field(default_factory=lambda: {"version": "3 12"})

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    def program(self, name: str) -> None:
        """Put a program that does nothing on PATH."""
        (self.bin / name).write_text("#!/bin/sh\nexit 0\n")
        (self.bin / name).chmod(0o755)

    def run(self, *arguments: str, python: str = "") -> subprocess.CompletedProcess[str]:
        """Run the set-up script as a person would, with no network and the fake Python."""
        (self.root.parent / "plan.json").write_text(json.dumps(self.plan))
        command = [sys.executable, str(self.root / "scripts" / "setup.py"), "--torch-index", "none"]
        command += ["--python", python or str(self.bin / "fakepython")]
        environment = {
            "PATH": str(self.bin),
            "FAKE_PYTHON": str(self.root.parent / "plan.json"),
            "HOME": str(self.root),
        }
        return subprocess.run(
            [*command, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def calls(self, what: str) -> list[list[str]]:
        """The calls of the fake Python that hold a word."""
        log = self.root.parent / "plan.calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [call for call in map(json.loads, lines) if what in call]

    def installs(self) -> list[list[str]]:
        """The real installs that pip was asked for."""
        return [call for call in self.calls("install") if "--dry-run" not in call]


def make_checkout(folder: Path) -> Checkout:
    """The scripts and the dependency files, a fake Python and two compilers on PATH."""
    root = folder / "madang"
    shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    made = Checkout(root, folder / "bin")
    made.bin.mkdir()
    source = (Path(__file__).parent / "fake_python.py").read_text()
    (made.bin / "fakepython").write_text(f"#!{sys.executable}\n{source}")
    (made.bin / "fakepython").chmod(0o755)
    made.program("cc")
    made.program("c++")
    return made
