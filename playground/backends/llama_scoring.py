"""Scores choices with llama.cpp's low-level calls: a context's tokens belong to the sequences of all its choices.

One `llama_decode` holds several questions; logits are asked for only where a prediction is read. (The high-level
class's `logits_all` computes the output layer at every token, and its caller scores every choice from the start.)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from playground.backends.echo import Held, Read
from playground.backends.likely import Floats, likeliest, logsumexp
from playground.protocol import Choices, Scored

if TYPE_CHECKING:
    from playground.backends.llama_cpp import LlamaCppBackend

Take = Callable[[int, Floats], None]


@dataclass
class Layout:
    """Tokens of one decode with their positions and sequences, and which of them are read for which choice."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sequences: list[list[int]] = field(default_factory=list)
    reads: list[list[list[int]]] = field(default_factory=list)
    """For each question and choice, the indices whose predictions are its tokens."""
    begins: list[int] = field(default_factory=list)
    """For each question, the index of its context's first token."""
    wanted: dict[int, set[int]] = field(default_factory=dict)
    """For each index that is read, the tokens whose log-probability is asked there."""
    used: int = 0

    def add(self, question: Choices, whole: bool = False) -> None:
        """Lay a question out: its context once, then each continuation but for its last token.

        `whole`: the predictions of the context's own tokens are read as well.
        """
        own = list(range(self.used, self.used + len(question.continuations)))
        self.used += len(own)
        self.begins.append(len(self.tokens))
        for index, token in enumerate(question.context[1:] if whole else (), len(self.tokens)):
            self.wanted.setdefault(index, set()).add(token)
        for position, token in enumerate(question.context):
            self._put(token, position, own)
        last, length = len(self.tokens) - 1, len(question.context)
        self.reads.append([])
        for sequence, continuation in zip(own, question.continuations, strict=True):
            read = [last]
            for step, token in enumerate(continuation[:-1]):
                read.append(len(self.tokens))
                self._put(token, length + step, [sequence])
            self.reads[-1].append(read)
            for index, token in zip(read, continuation, strict=True):
                self.wanted.setdefault(index, set()).add(token)

    def _put(self, token: int, position: int, sequences: list[int]) -> None:
        self.tokens.append(token)
        self.positions.append(position)
        self.sequences.append(sequences)


def score(backend: "LlamaCppBackend", questions: Sequence[Choices]) -> Scored:
    """Log-probabilities and greediness of every choice, in the questions' order."""
    logprobs: list[list[float]] = [[] for _ in questions]
    greedy: list[list[bool]] = [[] for _ in questions]
    computed = 0
    for indices in _groups(backend, questions):
        layout = Layout()
        for index in indices:
            layout.add(questions[index])
        computed += len(layout.tokens)
        found = _found(backend, layout)
        for index, reads in zip(indices, layout.reads, strict=True):
            for read, continuation in zip(reads, questions[index].continuations, strict=True):
                steps = [found[place, token] for place, token in zip(read, continuation, strict=True)]
                logprobs[index].append(sum(value for value, _ in steps))
                greedy[index].append(all(best for _, best in steps))
    return Scored(logprobs=logprobs, greedy=greedy, computed=computed)


def read(backend: "LlamaCppBackend", questions: Sequence[Choices], top: int) -> list[Read]:
    """Every token of every question but the first of its context, with the `top` likeliest of its place."""
    answers: dict[int, Read] = {}
    for indices in _groups(backend, questions):
        layout = Layout()
        for index in indices:
            layout.add(questions[index], whole=True)
        held = _held(backend, layout, top)
        for index, begin, reads in zip(indices, layout.begins, layout.reads, strict=True):
            question = questions[index]
            inside = [held[place, token] for place, token in enumerate(question.context[1:], begin)]
            rests = [
                [held[key] for key in zip(places, rest, strict=True)]
                for places, rest in zip(reads, question.continuations, strict=True)
            ]
            answers[index] = Read(inside, rests)
    return [answers[index] for index in range(len(questions))]


def _held(backend: "LlamaCppBackend", layout: Layout, top: int) -> dict[tuple[int, int], Held]:
    """By index and token: the token's log-probability there, and the likeliest."""
    held: dict[tuple[int, int], Held] = {}

    def take(index: int, row: Floats) -> None:
        total = logsumexp(row)
        best = likeliest(row, total, top)
        for token in layout.wanted[index]:
            held[index, token] = Held(float(row[token]) - total, best)

    _decode(backend, layout, take)
    return held


def _found(backend: "LlamaCppBackend", layout: Layout) -> dict[tuple[int, int], tuple[float, bool]]:
    """By index and token: the token's log-probability there, and whether it is the likeliest."""
    found: dict[tuple[int, int], tuple[float, bool]] = {}

    def take(index: int, row: Floats) -> None:
        total, best = logsumexp(row), int(row.argmax())
        for token in layout.wanted[index]:
            found[index, token] = (float(row[token]) - total, token == best)

    _decode(backend, layout, take)
    return found


def _groups(backend: "LlamaCppBackend", questions: Sequence[Choices]) -> Iterator[list[int]]:
    """Indices of questions that fit one decode together: by tokens, and by sequences."""
    group: list[int] = []
    tokens = sequences = 0
    for index in sorted(range(len(questions)), key=lambda i: -questions[i].size):
        question = questions[index]
        full = tokens + question.size > backend.score_tokens
        if group and (full or sequences + len(question.continuations) > backend.max_rows):
            yield group
            group, tokens, sequences = [], 0, 0
        group.append(index)
        tokens += question.size
        sequences += len(question.continuations)
    if group:
        yield group


def _decode(backend: "LlamaCppBackend", layout: Layout, take: Take) -> None:
    """Hand over the logits [vocabulary] at every index that is read; long layouts go through in several batches.

    Each row is handed over as it comes: held together, they take more memory than a small model.
    """
    try:
        for begin in range(0, len(layout.tokens), backend.score_batch):
            backend.pause()
            part = range(begin, min(begin + backend.score_batch, len(layout.tokens)))
            with backend.computing_scores():
                _compute(backend, layout, part, take)
    finally:
        backend.forget_scores()


def _compute(backend: "LlamaCppBackend", layout: Layout, part: range, take: Take) -> None:
    """One batch of a layout, and its logits."""
    for place, index in enumerate(part):
        wanted = index in layout.wanted
        backend.put(place, layout.tokens[index], layout.positions[index], layout.sequences[index], wanted)
    backend.decode_batch(len(part))
    for place, index in enumerate(part):
        if index in layout.wanted:
            take(index, backend.logits(place))


def logprobs(backend: "LlamaCppBackend", ids: Sequence[int]) -> Floats:
    """Log-probabilities [tokens, vocabulary] of what follows each token of a text."""
    wanted: dict[int, set[int]] = {index: set() for index in range(len(ids))}
    layout = Layout(list(ids), list(range(len(ids))), [[0]] * len(ids), wanted=wanted)
    rows: list[Floats] = []
    _decode(
        backend, layout, lambda index, row: rows.append((row.astype(np.float64) - logsumexp(row)).astype(np.float32))
    )
    return np.stack(rows)
