"""Work that nobody waits for any more: how whoever does it asks."""

from collections.abc import Callable

LOOK_S = 0.1
"""How often it is asked."""
GivenUp = Callable[[], bool]


def never() -> bool:
    """Whoever waits so waits to the end."""
    return False
