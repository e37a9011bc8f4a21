"""Scores choices with llama.cpp's low-level calls: a context's tokens belong to the sequences of all its choices.

One `llama_decode` holds several questions; logits are asked for only where a prediction is read. (The high-level
class's `logits_all` computes the output layer at every token, and its caller scores every choice from the start.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from playground.backends.base import Choices, Scored

if TYPE_CHECKING:
    from playground.backends.llama_cpp import LlamaCppBackend

Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass
class Layout:
    """Tokens of one decode with their positions and sequences, and which of them are read for which choice."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sequences: list[list[int]] = field(default_factory=list)
    reads: list[list[list[int]]] = field(default_factory=list)
    """For each question and choice, the indices whose predictions are its tokens."""
    used: int = 0

    def add(self, question: Choices) -> None:
        """Lay a question out: its context once, then each continuation but for its last token."""
        own = list(range(self.used, self.used + len(question.continuations)))
        self.used += len(own)
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
        rows = _decode(backend, layout)
        for index, reads in zip(indices, layout.reads, strict=True):
            logprobs[index], greedy[index] = _read(rows, questions[index], reads)
    return Scored(logprobs=logprobs, greedy=greedy, computed=computed)


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


def _decode(backend: "LlamaCppBackend", layout: Layout) -> dict[int, Floats]:
    """Logits [vocabulary] at every index that is read; long layouts go through in several batches."""
    wanted = {index for question in layout.reads for choice in question for index in choice}
    rows: dict[int, Floats] = {}
    with backend.exclusively():
        for begin in range(0, len(layout.tokens), backend.batch_tokens):
            part = range(begin, min(begin + backend.batch_tokens, len(layout.tokens)))
            for place, index in enumerate(part):
                backend.put(
                    place, layout.tokens[index], layout.positions[index], layout.sequences[index], index in wanted
                )
            backend.decode_batch(len(part))
            for place, index in enumerate(part):
                if index in wanted:
                    rows[index] = backend.logits(place)
    return rows


def _read(rows: dict[int, Floats], question: Choices, reads: list[list[int]]) -> tuple[list[float], list[bool]]:
    sums, best = [], []
    for continuation, indices in zip(question.continuations, reads, strict=True):
        values = [(rows[index], token) for index, token in zip(indices, continuation, strict=True)]
        sums.append(float(sum(row[token] - _logsumexp(row) for row, token in values)))
        best.append(all(int(row.argmax()) == token for row, token in values))
    return sums, best


def _logsumexp(row: Floats) -> float:
    peak = float(row.max())
    return peak + float(np.log(np.exp(row.astype(np.float64) - peak).sum()))


def logprobs(backend: "LlamaCppBackend", ids: Sequence[int]) -> Floats:
    """Log-probabilities [tokens, vocabulary] of what follows each token of a text."""
    layout = Layout(list(ids), list(range(len(ids))), [[0]] * len(ids), [[list(range(len(ids)))]])
    rows = _decode(backend, layout)
    logits = np.stack([rows[index] for index in range(len(ids))]).astype(np.float64)
    peak = logits.max(axis=1, keepdims=True)
    result: Floats = (logits - peak - np.log(np.exp(logits - peak).sum(axis=1, keepdims=True))).astype(np.float32)
    return result
