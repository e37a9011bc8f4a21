"""Write constraints.txt and requirements.txt anew from pyproject.toml: `make lock`. Needs uv and the network.

constraints.txt holds every extra, for Python 3.11 to 3.13 on every system. certifi stays out of it: lists of
certificate authorities should be new. requirements.txt is for the Space, which sees no other file while it installs.
A Space adds packages of its own: they take part in the resolution, so that what CI tests is what a Space runs.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
REQUIREMENTS = ROOT / "requirements.txt"
NOT_ON_A_SPACE = {"datasets", "lm-eval", "scikit-learn", "trl"}  # it chats; it does not train or run benchmarks
ADDED_BY_A_SPACE = "gradio[oauth,mcp]\nspaces\nwebsockets>=10.4\n"
SPACE_HEAD = """\
# For a Hugging Face Space, made by `make lock`. Elsewhere use `make demo`, or pip with constraints.txt.
--extra-index-url https://download.pytorch.org/whl/cpu
--extra-index-url https://abetlen.github.io/llama-cpp-python/whl/cpu
"""


def canonical(requirement: str) -> str:
    """A requirement's package name, lower-case with hyphens."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement.strip(), maxsplit=1)[0]).lower()


def space_requirements(pyproject: str, constraints: str) -> str:
    """requirements.txt: the pins of the direct dependencies that a Space uses."""
    names = {canonical(item) for item in tomllib.loads(pyproject)["project"]["dependencies"]} - NOT_ON_A_SPACE
    pins = [line for line in constraints.splitlines() if line[:1].isalnum() and canonical(line) in names]
    return SPACE_HEAD + "\n".join(pins) + "\n"


def main() -> None:
    """Resolve, then derive the Space's file."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "-", "--all-extras", "--universal"]
    command += ["--python-version", "3.11", "--upgrade", "--no-annotate", "--no-emit-package", "certifi"]
    command += ["--custom-compile-command", "make lock", "--output-file", CONSTRAINTS.name, "--quiet"]
    subprocess.run(command, cwd=ROOT, check=True, input=ADDED_BY_A_SPACE, text=True)
    text = CONSTRAINTS.read_text(encoding="utf-8")
    REQUIREMENTS.write_text(space_requirements((ROOT / "pyproject.toml").read_text(encoding="utf-8"), text), "utf-8")


if __name__ == "__main__":
    main()
