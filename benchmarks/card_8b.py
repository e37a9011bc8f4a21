"""The benchmark `card` with the shape of Llama 3.1 8B in 4 bit (NF4), on both sides."""

from collections.abc import Iterator

from benchmarks.card import measured
from benchmarks.common import Measured


def run(runs: int) -> Iterator[Measured]:
    """Tokens/s of whole answers, the prompt's reading in them."""
    return measured(runs, "8b", nf4=True)
