"""Names of tensors for people: a few of many, a whole layer by its number. Compares nothing."""

import re
from collections import Counter
from collections.abc import Sequence

from training.export.parity.tensors import Compared

NAMED = 3
LAYER = re.compile(r"\.(\d+)\.")


def layer(name: str) -> str:
    """Return the number of the layer that a tensor is in; empty for what is in none."""
    found = LAYER.search(name)
    return found[1] if found else ""


def places(items: Sequence[Compared]) -> str:
    """Return a few names; a whole layer by its number."""
    layers = Counter(number for item in items if (number := layer(item.built)))
    if len(items) > NAMED and len(layers) == 1 and sum(layers.values()) == len(items):
        return f"Layer {next(iter(layers))} ({len(items)} tensors)"
    names = ", ".join(item.built for item in items[:NAMED])
    return names + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")
