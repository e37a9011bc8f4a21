"""Which questions go through a transformers model together, and at which places of its rows their tokens stand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from playground.backends.logprobs import together
from playground.protocol import Choices

SHORT = 384
"""Up to so many tokens a question takes one mask of tokens x tokens: cheaper than padding its context apart."""
WORTHWHILE = 256
WASTE = 1.05
"""From 256 tokens on, a pass is efficient enough: another question joins only while padding stays under 5 %."""


@dataclass(frozen=True)
class Batch:
    """Questions laid out for one pass.

    `width` is the padded room of contexts, `rest` that of continuations; where `width` is 0, both share `rest`.
    """

    questions: list[Choices]
    width: int
    rest: int

    @classmethod
    def of(cls, questions: Sequence[Choices]) -> "Batch":
        """Return the layout of these questions: contexts apart where some question is long."""
        total = max(question.size for question in questions)
        if total <= SHORT:
            return cls(list(questions), 0, total)
        rest = max(question.size - len(question.context) for question in questions)
        return cls(list(questions), max(len(question.context) for question in questions), rest)

    @property
    def columns(self) -> int:
        """Return the tokens of a row, padding included."""
        return self.width + self.rest

    @property
    def tokens(self) -> int:
        """Return the tokens that the pass computes, padding included."""
        return len(self.questions) * self.columns

    def spans(self, question: Choices) -> list[tuple[int, int]]:
        """Return begin and end column of each continuation's tokens."""
        begin, spans = self.width or len(question.context), []
        for continuation in question.continuations:
            end = begin + len(continuation) - 1
            spans.append((begin, end))
            begin = end
        return spans

    def ids_and_positions(self) -> tuple[list[list[int]], list[list[int]]]:
        """Return token ids and positions [rows, columns]; padding is token 0, which nothing sees."""
        ids, positions = [], []
        for question in self.questions:
            length = len(question.context)
            row, places = [0] * self.columns, [0] * self.columns
            row[:length], places[:length] = question.context, range(length)
            for (begin, end), continuation in zip(self.spans(question), question.continuations, strict=True):
                row[begin:end], places[begin:end] = continuation[:-1], range(length, length + end - begin)
            ids.append(row)
            positions.append(places)
        return ids, positions

    def mask(self) -> torch.Tensor | None:
        """Return what the last `rest` columns see, bool [rows, 1, rest, columns]; None without any."""
        if self.rest == 0:
            return None
        mask = torch.zeros(len(self.questions), 1, self.rest, self.columns, dtype=torch.bool)
        mask[..., 0] = True  # padding must see something, or its softmax is not a number
        for row, question in enumerate(self.questions):
            length = len(question.context)
            if not self.width:
                mask[row, 0, :length, :length] = _lower(length)
            for begin, end in self.spans(question):
                mask[row, 0, begin - self.width : end - self.width, :length] = True
                mask[row, 0, begin - self.width : end - self.width, begin:end] = _lower(end - begin)
        return mask

    def inside(self) -> list[list[int]]:
        """Return, for each question, the flat places that predict its context's tokens after the first."""
        return [
            [row * self.columns + place for place in range(len(question.context) - 1)]
            for row, question in enumerate(self.questions)
        ]

    def reads(self) -> list[list[list[int]]]:
        """Return, for each question and choice, the flat places [row * columns + column] that predict its tokens."""
        return [
            [
                [row * self.columns + place for place in (len(question.context) - 1, *range(begin, end))]
                for begin, end in self.spans(question)
            ]
            for row, question in enumerate(self.questions)
        ]


def _lower(size: int) -> torch.Tensor:
    return torch.tril(torch.ones(size, size, dtype=torch.bool))


def batches(questions: Sequence[Choices], budget: int) -> Iterator[list[int]]:
    """Yield indices of questions that go together: within `budget` tokens, and with little padding from 256 on."""
    sizes = [question.size for question in questions]

    def fits(group: list[int]) -> bool:
        first, last = sizes[group[0]], sizes[group[-1]]
        used = sum(sizes[index] for index in group)
        padded = Batch.of([questions[index] for index in group]).tokens
        wasteful = used - last >= WORTHWHILE and padded > WASTE * used
        return padded <= budget and not wasteful and not last <= SHORT < first

    return together(sorted(range(len(questions)), key=lambda index: _order(questions[index])), fits)


def _order(question: Choices) -> tuple[bool, int, int]:
    """Sort long questions first, by context; then short ones, by size."""
    if question.size > SHORT:
        return False, -len(question.context), -question.size
    return True, -question.size, 0
