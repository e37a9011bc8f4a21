"""Logs of worker processes: one a process, named after its model, the newest kept."""

import os
import time
from contextlib import suppress
from pathlib import Path

LOGS_KEPT = 40


def new_log(folder: Path, name: str) -> Path:
    """Where the next worker of that name writes; the oldest logs make room for it."""
    folder.mkdir(parents=True, exist_ok=True)
    logs = sorted(folder.glob("worker-*.log"), key=_modified, reverse=True)
    for log in logs[LOGS_KEPT - 1 :]:
        with suppress(OSError):  # gone already, or in use where files in use stay
            log.unlink()
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:60]
    return folder / f"worker-{safe}-{os.getpid()}-{time.monotonic_ns()}.log"


def last_line(log: Path) -> str:
    """What a process said last, at most 300 characters; empty where it said nothing."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
