"""Logs that processes write: where a worker's goes, and how one ends."""

import os
import time
from contextlib import suppress
from pathlib import Path

LOGS_KEPT = 40
TAIL_BYTES = 16_384
"""How much of a log is read for its end."""


def new_log(folder: Path, name: str) -> Path:
    """Return where the next worker of that name writes; the oldest logs make room for it."""
    folder.mkdir(parents=True, exist_ok=True)
    logs = sorted(folder.glob("worker-*.log"), key=_modified, reverse=True)
    for log in logs[LOGS_KEPT - 1 :]:
        with suppress(OSError):  # gone already, or in use where files in use stay
            log.unlink()
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:60]
    return folder / f"worker-{safe}-{os.getpid()}-{time.monotonic_ns()}.log"


def tail(log: Path, count: int) -> list[str]:
    """Return the last lines of a log; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return last_lines(file.read().decode(errors="replace"), count)
    except OSError:
        return []


def last_lines(text: str, count: int) -> list[str]:
    """Return the last lines that are not blank; one that was rewritten in place counts as its last form."""
    return [line.rstrip().rpartition("\r")[2] for line in text.split("\n") if line.strip()][-count:]


def last_line(log: Path) -> str:
    """Return what a process said last, at most 300 characters; empty where it said nothing."""
    return "".join(tail(log, 1)).strip()[:300]


def error_line(log: Path) -> str:
    """Return the last line that says `error: `, or else the last one: native code may go on writing after our own."""
    errors = [line for line in tail(log, 50) if line.startswith("error: ")]
    return errors[-1][:300] if errors else last_line(log)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
