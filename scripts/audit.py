"""Ask PyPI whether the versions in constraints.txt have known faults: `make audit`. Fails where one has.

pip-audit does the asking. Where it has nobody to ask, or PyPI knows nothing of a package, that is said and nothing
fails: a check of one's own code has to work without a network.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WRONG_USE = 2
"""What pip-audit ends with where it does not understand its arguments."""


def main() -> int:
    """Ask, tell, and return the exit code."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(ROOT / "constraints.txt"), "--no-deps"]
        command += ["--disable-pip", "--progress-spinner", "off", "--format", "json", "--output", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if report.exists():
            return told(json.loads(report.read_text(encoding="utf-8"))["dependencies"])
    why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    sys.stdout.write(f"Not audited: {why}\n")
    return done.returncode if done.returncode == WRONG_USE else 0


def told(packages: list[dict[str, Any]]) -> int:
    """Say what is known of the packages; return 1 where one has a fault, else 0."""
    faults = [(one, fault) for one in packages for fault in one.get("vulns", ())]
    for one, fault in faults:
        mended = ", ".join(fault.get("fix_versions", ())) or "no version yet"
        sys.stdout.write(f"{one['name']} {one['version']}: {fault['id']}, mended in {mended}\n")
    unknown = [one for one in packages if "vulns" not in one]
    if unknown:
        sys.stdout.write(
            f"Not audited: {len(unknown)} packages. {unknown[0].get('skip_reason', 'No reason is given.')}\n"
        )
    if asked := len(packages) - len(unknown):
        sys.stdout.write(f"Audited: {asked} of {len(packages)} packages, {len(faults)} known faults\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
