"""Waiting that may be given up: whoever does long work asks now and then whether somebody still waits for it."""

from collections.abc import Callable

LOOK_S = 0.1
"""How often it asks."""
GivenUp = Callable[[], bool]
"""True as soon as nobody waits for the work any more."""


def never() -> bool:
    """Say that the work is waited for to its end: the GivenUp of callers who cannot be cancelled."""
    return False
