"""What the work on one prompt may take, and whether anybody still waits for it: templates and tokenizers heed it.

It is in force for a block and all that is called in it, so that no layer between has to hand it on.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from playground.waiting import GivenUp, never

T = TypeVar("T")
TEMPLATE_S, TEMPLATE_S_A_MB = 2.0, 2.0
"""Seconds of computing that a template may take to write a prompt, and more for each MB that it is given: some hundred
times what those of known models take."""
TEMPLATE_S_A_TURN, MOST_TURNS = 0.005, 2000
"""More for each of so many turns: Gemma 4's template looks through all of them for each, and takes 2 s for 800."""
LOOK_S = 0.02
"""Seconds between two looks whether the work is given up."""
LARGE = 50_000
"""Letters from which on a text's tokens take so long that somebody may hang up meanwhile."""


class Cancelled(Exception):  # noqa: N818 - a signal, not an error
    """Raised out of work on a row, a call or a prompt that nobody waits for any more."""


def _nothing() -> None:
    """Let nobody else go on: there is nobody."""


@dataclass
class Allowance:
    """What is left of it. `seconds`: of computing, for all templates in the block; None: for each of them anew."""

    given_up: GivenUp = never
    others: Callable[[], None] = _nothing
    """Lets other work of the thread go on; called now and then by what takes long."""
    seconds: float | None = None
    looked: float = field(default_factory=lambda: time.monotonic())

    def look(self) -> None:
        """Let others go on, if they did not just now; raise Cancelled where nobody waits any more."""
        if self.given_up():
            raise Cancelled
        if time.monotonic() - self.looked >= LOOK_S:
            self.others()
            self.looked = time.monotonic()

    def left(self, size: int, turns: int = 0) -> float:
        """Return the seconds that a template may take for so many turns that are `size` bytes long."""
        own = TEMPLATE_S + TEMPLATE_S_A_MB * size / 1e6 + TEMPLATE_S_A_TURN * min(turns, MOST_TURNS)
        return own if self.seconds is None else min(own, self.seconds)

    def take(self, seconds: float) -> None:
        """Book what a template took."""
        if self.seconds is not None:
            self.seconds -= seconds


_in_force: contextvars.ContextVar[Allowance] = contextvars.ContextVar("allowance")


def current() -> Allowance:
    """Return the allowance in force; one without an end but each template's own where there is none."""
    return _in_force.get(Allowance())


@contextmanager
def allowed(
    given_up: GivenUp | None = None, others: Callable[[], None] | None = None, seconds: float | None = None
) -> Iterator[None]:
    """Have an allowance in force for a block: what is not given is that of the one around it."""
    around = current()
    token = _in_force.set(Allowance(given_up or around.given_up, others or around.others, seconds))
    try:
        yield
    finally:
        _in_force.reset(token)


def patiently(size: int, work: Callable[[], T]) -> T:
    """Do native work on a text of so many letters; where that is large, looking meanwhile whether anybody still waits.

    Native code cannot be stopped: given up, it runs to its end on a thread of its own, and what it found is let go.
    """
    allowance = current()
    if size < LARGE:
        return work()
    found: list[T] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            with allowed(lambda: gone or allowance.given_up(), _nothing):
                found.append(work())
        except BaseException as fault:  # noqa: BLE001 - raised below, on the thread that waits
            faults.append(fault)

    gone = False
    thread = threading.Thread(target=run, name="tokens", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(LOOK_S)
            allowance.look()
    finally:
        gone = True
    if faults:
        raise faults[0]
    return found[0]
