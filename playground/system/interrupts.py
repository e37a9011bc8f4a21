"""Signals while long work runs on the command line: they ask for an end at a good place, or raise KeyboardInterrupt."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets while the block runs; a second one raises. For the main thread alone."""
    flag = threading.Event()

    def stop() -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    with _handled([signal.SIGINT], stop):
        yield flag


@contextmanager
def interruptible() -> Iterator[None]:
    """Make a polite kill and a closed terminal raise KeyboardInterrupt, as Ctrl-C does; no more than a thread can."""
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

    def interrupt() -> None:
        raise KeyboardInterrupt

    with _handled(numbers if threading.current_thread() is threading.main_thread() else [], interrupt):
        yield


@contextmanager
def _handled(numbers: list[signal.Signals], handler: Callable[[], None]) -> Iterator[None]:
    """Call `handler` for these signals while the block runs; afterwards they mean what they meant."""
    before = {number: signal.signal(number, lambda signum, frame: handler()) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
