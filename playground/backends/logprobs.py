"""From logits to log-probabilities: of an answer's tokens, of whole prompts and of choices, alike for every engine.

Prompts that begin alike are computed once: a group of them is a question, whose context is what they share and whose
continuations are the rests. Engines read questions; scores are sums over what was read of the continuations.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from playground.events import Likely, TokenLogprob
from playground.protocol import Choices, PromptToken, Scored

Floats = np.ndarray[Any, np.dtype[np.float32]]
Piece = Callable[[int], bytes]
ALONE = 0
"""For engines that cannot share a context: no group is long enough."""


class Held(NamedTuple):
    """A token as the model saw it: its log-probability, whether it is the likeliest, and the likeliest with theirs."""

    logprob: float
    best: bool
    top: list[tuple[int, float]]


class Read(NamedTuple):
    """A question as the model saw it: the tokens of its context after the first, and those of each continuation.

    `context` is empty where only scores were asked for.
    """

    context: list[Held]
    continuations: list[list[Held]]


Reader = Callable[[list[Choices]], tuple[list[Read], int]]
"""Gives what was read of questions, and how many tokens were computed."""


class Room(NamedTuple):
    """What may share a context: prompts of at most so many tokens, so many of them, so many tokens in all."""

    longest: int
    prompts: int
    tokens: int


def logsumexp(logits: Floats) -> float:
    """Return what turns logits [vocabulary] into log-probabilities when it is taken away from them."""
    peak = float(logits.max())
    return peak + float(np.log(np.exp(logits.astype(np.float64) - peak).sum()))


def likeliest(logits: Floats, total: float, top: int) -> list[tuple[int, float]]:
    """Return the `top` likeliest tokens (all, where the vocabulary is smaller) with log-probabilities, best first."""
    top = min(top, len(logits))
    if top == 0:
        return []
    ids = np.argpartition(logits, len(logits) - top)[len(logits) - top :]
    ids = ids[np.lexsort((ids, -logits[ids]))]
    return [(int(token), float(logits[token]) - total) for token in ids]


def token_logprob(logits: Floats, token: int, top: int, piece: Piece) -> TokenLogprob:
    """Return a token of an answer with the likeliest of its place, from the logits [vocabulary] there."""
    total = logsumexp(logits)
    best = _named(likeliest(logits, total, top), piece)
    return TokenLogprob(id=token, raw=tuple(piece(token)), logprob=float(logits[token]) - total, top=best)


def scored(reads: Sequence[Read], computed: int) -> Scored:
    """Return the scores of questions that were read; `computed` tokens were run to read them."""
    return Scored(
        logprobs=[[sum(token.logprob for token in choice) for choice in read.continuations] for read in reads],
        greedy=[[all(token.best for token in choice) for choice in read.continuations] for read in reads],
        computed=computed,
    )


def prompt_logprobs(
    prompts: Sequence[Sequence[int]], room: Room, read: Reader, piece: Piece
) -> list[list[PromptToken]]:
    """Return every token of every prompt, in their order; none of the prompts may be empty."""
    rows: list[list[PromptToken]] = [
        [PromptToken(id=ids[0], raw=tuple(piece(ids[0])), logprob=None)] for ids in prompts
    ]
    groups = list(grouped(prompts, room))
    answers, _ = read([_question(prompts, group) for group in groups])
    for group, answer in zip(groups, answers, strict=True):
        for index, rest in zip(group, answer.continuations, strict=True):
            found = zip(prompts[index][1:], [*answer.context, *rest], strict=True)
            rows[index] += [
                PromptToken(id=token, raw=tuple(piece(token)), logprob=one.logprob, top=_named(one.top, piece))
                for token, one in found
            ]
    return rows


def grouped(prompts: Sequence[Sequence[int]], room: Room) -> Iterator[list[int]]:
    """Yield indices of prompts that are read as one question; a single token predicts nothing and is in none."""
    order = sorted((i for i, ids in enumerate(prompts) if len(ids) > 1), key=lambda i: tuple(prompts[i]))
    return together(order, lambda group: _belong([prompts[index] for index in group], room))


def together(order: Iterable[int], fits: Callable[[list[int]], bool]) -> Iterator[list[int]]:
    """Yield runs of an order, each as long as it fits; one alone always does."""
    group: list[int] = []
    for index in order:
        if group and not fits([*group, index]):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _named(tokens: Iterable[tuple[int, float]], piece: Piece) -> tuple[Likely, ...]:
    return tuple(Likely(id=token, raw=tuple(piece(token)), logprob=logprob) for token, logprob in tokens)


def _belong(prompts: list[Sequence[int]], room: Room) -> bool:
    """Return whether sorted prompts share at least half of the longest, and fit."""
    shared, longest = _shared(prompts), max(map(len, prompts))
    size = shared + sum(len(ids) - shared - 1 for ids in prompts)
    return 2 * shared >= longest <= room.longest and len(prompts) <= room.prompts and size <= room.tokens


def _shared(prompts: list[Sequence[int]]) -> int:
    """Return how many tokens sorted prompts begin with alike, at least one being left to each."""
    first, last = prompts[0], prompts[-1]
    limit = min(map(len, prompts)) - 1
    return next((place for place in range(limit) if first[place] != last[place]), limit)


def _question(prompts: Sequence[Sequence[int]], group: list[int]) -> Choices:
    chosen = [prompts[index] for index in group]
    shared = _shared(chosen)
    return Choices(context=tuple(chosen[0][:shared]), continuations=tuple(tuple(ids[shared:]) for ids in chosen))
