"""Ctrl-C for long work on the command line: it asks for an end at a good place instead of raising."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets while the block runs; a second one ends the program. For the main thread alone."""
    flag = threading.Event()

    def stop(number: int, frame: object) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
