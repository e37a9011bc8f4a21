"""Long work that may be given up: its code calls a GivenUp now and then to learn whether anybody still waits."""

from collections.abc import Callable

LOOK_S = 0.1
"""Seconds between two such calls."""
GivenUp = Callable[[], bool]
"""True as soon as nobody waits for the work any more."""


def never() -> bool:
    """Return False: the GivenUp of callers that cannot be cancelled."""
    return False
