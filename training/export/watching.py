"""How far the work of another process is, looked up again and again: by a file's size, or by what it wrote."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from playground.system.atomic import SUFFIX
from playground.system.progress import Tell

EVERY_S = 0.5


def growing(target: Path, expected: int, progress: Tell, words: str) -> AbstractContextManager[None]:
    """Tell `progress` a fraction of 1 while the block builds `target`, through `replacing`, in whatever process."""
    return watched(lambda: _built(target) / max(expected, 1), progress, words)


@contextmanager
def watched(share: Callable[[], float], progress: Tell, words: str) -> Iterator[None]:
    """Tell `progress` twice a second what `share` returns, while the block runs; not where it cannot be read."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(EVERY_S):
            with suppress(OSError, ValueError):
                progress(min(0.99, share()), words)

    progress(0.0, words)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    progress(1.0, words)


def _built(target: Path) -> int:
    total = 0
    for part in target.parent.glob(f".{target.name}.*{SUFFIX}"):
        for file in part.rglob("*") if part.is_dir() else [part]:
            with suppress(OSError):
                total += file.stat().st_size
    return total
