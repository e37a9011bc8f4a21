"""Locks between processes, for what only one may do at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playground.errors import MadangError


@contextmanager
def locked(path: Path, refusal: MadangError, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a lock file while the block runs; raise `refusal` where another process still has it after `wait_s`.

    The system frees the lock of a process that dies.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=wait_s)
    try:
        lock.acquire()
    except Timeout as error:
        raise refusal from error
    try:
        yield
    finally:
        lock.release()
