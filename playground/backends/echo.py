"""Log-probabilities of whole prompts, the same way for every engine: prompts that begin alike are computed once.

A group of such prompts is a question: what they share is its context, the rests are its continuations. An engine reads
questions as it does for scores, only that a context's own tokens are read as well.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from playground.backends.likely import Piece, named
from playground.protocol import Choices, PromptToken

ALONE = 0
"""For engines that cannot share a context: no group is long enough."""


class Held(NamedTuple):
    """What a model held of one token: its log-probability, and the likeliest of its place with theirs."""

    logprob: float
    top: list[tuple[int, float]]


class Read(NamedTuple):
    """What a model held of a question's tokens: those of its context after the first, and of each continuation."""

    context: list[Held]
    continuations: list[list[Held]]


Reader = Callable[[list[Choices]], list[Read]]


class Room(NamedTuple):
    """What may share a context: prompts of at most so many tokens, so many of them, so many tokens in all."""

    longest: int
    prompts: int
    tokens: int


def prompt_logprobs(
    prompts: Sequence[Sequence[int]], room: Room, read: Reader, piece: Piece
) -> list[list[PromptToken]]:
    """Every token of every prompt, in their order; none of them may be empty."""
    rows: list[list[PromptToken]] = [
        [PromptToken(id=ids[0], raw=tuple(piece(ids[0])), logprob=None)] for ids in prompts
    ]
    groups = list(grouped(prompts, room))
    for group, answer in zip(groups, read([_question(prompts, group) for group in groups]), strict=True):
        for index, rest in zip(group, answer.continuations, strict=True):
            found = zip(prompts[index][1:], [*answer.context, *rest], strict=True)
            rows[index] += [
                PromptToken(id=token, raw=tuple(piece(token)), logprob=one.logprob, top=named(one.top, piece))
                for token, one in found
            ]
    return rows


def grouped(prompts: Sequence[Sequence[int]], room: Room) -> Iterator[list[int]]:
    """Indices of prompts that are read as one question; a single token predicts nothing and is in none."""
    group: list[int] = []
    for index in sorted((i for i, ids in enumerate(prompts) if len(ids) > 1), key=lambda i: tuple(prompts[i])):
        if group and not _belong([prompts[i] for i in (*group, index)], room):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _belong(prompts: list[Sequence[int]], room: Room) -> bool:
    """Whether sorted prompts share at least half of the longest, and fit."""
    shared, longest = _shared(prompts), max(map(len, prompts))
    size = shared + sum(len(ids) - shared - 1 for ids in prompts)
    return 2 * shared >= longest <= room.longest and len(prompts) <= room.prompts and size <= room.tokens


def _shared(prompts: list[Sequence[int]]) -> int:
    """How many tokens sorted prompts begin with alike, at least one being left to each."""
    first, last = prompts[0], prompts[-1]
    limit = min(map(len, prompts)) - 1
    return next((place for place in range(limit) if first[place] != last[place]), limit)


def _question(prompts: Sequence[Sequence[int]], group: list[int]) -> Choices:
    chosen = [prompts[index] for index in group]
    shared = _shared(chosen)
    return Choices(context=tuple(chosen[0][:shared]), continuations=tuple(tuple(ids[shared:]) for ids in chosen))
