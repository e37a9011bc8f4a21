"""How many rows the embeddings of a merged model have; reads headers and tokenizer files alone."""

from pathlib import Path

from playground.catalogue import grown
from playground.catalogue.adapters import AdapterFiles
from training.export import pieces


def rows(adapter: AdapterFiles, base: Path) -> int | None:
    """Return the rows to resize the base's vocabulary to; None where it stays. Refuse rows that nobody trained."""
    return grown.rows(adapter, base, _tokens(adapter))


def _tokens(adapter: AdapterFiles) -> int:
    """Return how many tokens the adapter's own tokenizer has; 0 where it has none, or none that is read here."""
    spelled = adapter.folder / pieces.TOKENIZER
    if not adapter.has_tokenizer or not spelled.is_file():
        return 0
    return 1 + max((number for _, number in pieces.tokens(pieces.read(spelled))), default=-1)
