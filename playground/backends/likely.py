"""The logits of one place as what is told of it: a token's log-probability and the likeliest, in double precision."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from playground.events import Likely, TokenLogprob

Floats = np.ndarray[Any, np.dtype[np.float32]]
Piece = Callable[[int], bytes]


def logsumexp(logits: Floats) -> float:
    """What turns logits [vocabulary] into log-probabilities when it is taken away from them."""
    peak = float(logits.max())
    return peak + float(np.log(np.exp(logits.astype(np.float64) - peak).sum()))


def likeliest(logits: Floats, total: float, top: int) -> list[tuple[int, float]]:
    """The `top` likeliest tokens (all, where the vocabulary is smaller) and their log-probabilities, best first."""
    top = min(top, len(logits))
    if top == 0:
        return []
    ids = np.argpartition(logits, len(logits) - top)[len(logits) - top :]
    ids = ids[np.lexsort((ids, -logits[ids]))]
    return [(int(token), float(logits[token]) - total) for token in ids]


def named(tokens: Iterable[tuple[int, float]], piece: Piece) -> tuple[Likely, ...]:
    """Tokens and their log-probabilities with the bytes they spell."""
    return tuple(Likely(id=token, raw=tuple(piece(token)), logprob=logprob) for token, logprob in tokens)


def held(logits: Floats, token: int, top: int, piece: Piece) -> TokenLogprob:
    """What a model held of a token of an answer, from its logits [vocabulary] there."""
    total = logsumexp(logits)
    best = named(likeliest(logits, total, top), piece)
    return TokenLogprob(id=token, raw=tuple(piece(token)), logprob=float(logits[token]) - total, top=best)
