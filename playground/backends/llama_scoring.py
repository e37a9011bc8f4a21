"""Scores with llama.cpp's low-level calls: a context's tokens belong to the sequences of all its continuations.

One `llama_decode` holds several questions; logits are asked for only where a prediction is read. (The high-level
class's `logits_all` computes the output layer at every token, and its caller scores every choice from the start.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from playground.backends.llama_contexts import Contexts
from playground.backends.logprobs import Floats, Held, Read, likeliest, logsumexp, scored, together
from playground.protocol import Choices, Pause, Scored

BATCH = 256
"""Tokens computed at once: as fast as 512, with half the logits in memory."""
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

    def add(self, question: Choices, whole: bool) -> None:
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


@dataclass(frozen=True)
class LlamaScorer:
    """Scores in the scores' context of one model: at most so many tokens and sequences in one layout."""

    contexts: Contexts
    tokens: int
    sequences: int

    def score(self, questions: Sequence[Choices], pause: Pause) -> Scored:
        """Score every choice, in the questions' order; `pause` comes before each batch."""
        return scored(*self.reads(questions, None, pause))

    def reads(self, questions: Sequence[Choices], top: int | None, pause: Pause) -> tuple[list[Read], int]:
        """Return what was read of every question, and how many tokens were computed.

        `top`: so many of the likeliest at each place; None leaves the contexts' own tokens unread.
        """
        found: dict[int, Read] = {}
        computed = 0
        order = sorted(range(len(questions)), key=lambda index: -questions[index].size)
        for indices in together(order, lambda group: self._fits([questions[index] for index in group])):
            layout = Layout()
            for index in indices:
                layout.add(questions[index], whole=top is not None)
            computed += len(layout.tokens)
            held = self._held(layout, top or 0, pause)
            for index, begin, places in zip(indices, layout.begins, layout.reads, strict=True):
                question = questions[index]
                inside = question.context[1:] if top is not None else ()
                context = [held[place, token] for place, token in enumerate(inside, begin)]
                pairs = [zip(own, rest, strict=True) for own, rest in zip(places, question.continuations, strict=True)]
                found[index] = Read(context, [[held[pair] for pair in own] for own in pairs])
        return [found[index] for index in range(len(questions))], computed

    def logprobs(self, ids: Sequence[int], pause: Pause) -> Floats:
        """Return log-probabilities [tokens, vocabulary] of what follows each token of a text."""
        wanted: dict[int, set[int]] = {index: set() for index in range(len(ids))}
        layout = Layout(list(ids), list(range(len(ids))), [[0]] * len(ids), wanted=wanted)
        rows: list[Floats] = []

        def take(index: int, row: Floats) -> None:
            rows.append((row.astype(np.float64) - logsumexp(row)).astype(np.float32))

        self._decode(layout, take, pause)
        return np.stack(rows)

    def _fits(self, questions: list[Choices]) -> bool:
        """Return whether questions go through one decode together: by tokens, and by sequences."""
        sequences = sum(len(question.continuations) for question in questions)
        return sum(question.size for question in questions) <= self.tokens and sequences <= self.sequences

    def _held(self, layout: Layout, top: int, pause: Pause) -> dict[tuple[int, int], Held]:
        """Return, by index and token, the token as the model saw it there."""
        held: dict[tuple[int, int], Held] = {}

        def take(index: int, row: Floats) -> None:
            total, best = logsumexp(row), int(row.argmax())
            first = likeliest(row, total, top)
            for token in layout.wanted[index]:
                held[index, token] = Held(float(row[token]) - total, token == best, first)

        self._decode(layout, take, pause)
        return held

    def _decode(self, layout: Layout, take: Take, pause: Pause) -> None:
        """Hand over the logits [vocabulary] at every index that is read; long layouts go through in several batches.

        Each row is handed over as it comes: held together, they take more memory than a small model.
        """
        size = min(BATCH, self.tokens)
        try:
            for begin in range(0, len(layout.tokens), size):
                pause()
                part = range(begin, min(begin + size, len(layout.tokens)))
                with self.contexts.scoring():
                    self._compute(layout, part, take, pause)
        finally:
            self.contexts.clear_scores()

    def _compute(self, layout: Layout, part: range, take: Take, pause: Pause) -> None:
        """Compute one batch of a layout, and hand over its logits."""
        contexts = self.contexts
        for place, index in enumerate(part):
            wanted = index in layout.wanted
            contexts.put(place, layout.tokens[index], layout.positions[index], layout.sequences[index], wanted)
        contexts.decode(len(part), pause.given_up)
        for place, index in enumerate(part):
            if index in layout.wanted:
                take(index, contexts.logits(place))
