"""A Python and its pip that install nothing: what the set-up script starts in the tests instead of real ones.

It runs `-c` code for real, makes a folder with a copy of itself for `-m venv`, and plays pip for `-m pip`. The JSON
file that FAKE_PYTHON names says what it pretends; every call is written beside it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PLAN_FILE = Path(os.environ["FAKE_PYTHON"])
PLAN = json.loads(PLAN_FILE.read_text())


def main(arguments: list[str]) -> int:
    """Answer as the Python or the pip that the plan describes."""
    with PLAN_FILE.with_suffix(".calls").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    if arguments[0] == "-c":
        return run_code(arguments[1])
    if arguments[:2] == ["-m", "venv"]:
        return make_venv(Path(arguments[2]))
    if arguments[:3] == ["-m", "pip", "cache"]:
        sys.stdout.write(PLAN.get("cached", "No locally built wheels cached.") + "\n")
        return 0
    if "--dry-run" in arguments:
        return 0 if PLAN.get("wheel_on_index") else 1
    return pip_install(arguments)


def run_code(code: str) -> int:
    """`-c`: a version, a missing module, or the real thing."""
    if code.startswith("import sys; print(*sys.version_info") and "version" in PLAN:
        sys.stdout.write(PLAN["version"] + "\n")
        return 0
    if any(name in code for name in PLAN.get("missing", [])):
        return 1
    if code == "import llama_cpp":
        return 0
    if "llama_cpp.Llama" in code:
        done = PLAN_FILE.with_suffix(".calls").read_text().count("llama_cpp.Llama")
        return int(done <= PLAN.get("fails_to_compute", 0))
    return subprocess.run([sys.executable, "-c", code]).returncode


def make_venv(folder: Path) -> int:
    """`-m venv`: a folder in which this file is the Python."""
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("version = 3.12.1\n")
    if PLAN.get("dies_in") == "venv":
        os.kill(os.getppid(), signal.SIGKILL)
        return 1
    shutil.copy(sys.argv[0], folder / "bin" / "python")
    return 0


def pip_install(arguments: list[str]) -> int:
    """`-m pip install`: say what pip says, fail or die as planned, or leave the packages' traces."""
    for line in PLAN.get("says", ["Collecting torch", "  Downloading torch-2.13.0-cp312-cp312-linux.whl (200 MB)"]):
        sys.stdout.write(line + "\n")
    if PLAN.get("fails"):
        return 1
    if PLAN.get("terminated"):
        PLAN_FILE.with_suffix(".pid").write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(30)
    sys.stdout.write("Installing collected packages: torch, madang\n")
    sys.stdout.flush()
    if PLAN.get("dies_in") == "pip":
        time.sleep(0.5)  # the line above has to arrive first
        os.kill(os.getppid(), signal.SIGKILL)
        return 1
    site = Path(sys.argv[0]).parent.parent / "lib" / "python3.12" / "site-packages"
    for name in PLAN.get("installs", ["torch-2.13.0", "llama_cpp_python-0.3.36"]):
        (site / f"{name}.dist-info").mkdir(parents=True, exist_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
