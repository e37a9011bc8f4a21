"""Scores the choices of many questions in one pass of a transformers model, each context computed once.

A row is a question: its context, then the continuations one after another, each but for its last token. A context token
sees the context before it, a continuation token sees its own context and its own continuation. Short questions do that
with one small mask. Long ones pad the context to a width of its own and do attention in two parts, so that contexts
stay causal and fast and no mask of tokens x tokens is ever made. The output layer runs only where a prediction is read.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from playground.backends.base import Choices, Scored

CPU_BUDGET = 768
GPU_BUDGET = 16_384
SHORT = 384
"""Up to so many tokens a question takes one mask of tokens x tokens: cheaper than padding its context apart."""
WORTHWHILE = 256
WASTE = 1.05
"""From 256 tokens on, a pass is efficient enough: another question joins only while padding stays under 5 %."""
_numbers = count(1)


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
        """The layout of these questions: contexts apart where some question is long."""
        total = max(question.size for question in questions)
        if total <= SHORT:
            return cls(list(questions), 0, total)
        rest = max(question.size - len(question.context) for question in questions)
        return cls(list(questions), max(len(question.context) for question in questions), rest)

    @property
    def columns(self) -> int:
        """Tokens of a row, padding included."""
        return self.width + self.rest

    @property
    def tokens(self) -> int:
        """Tokens that the pass computes, padding included."""
        return len(self.questions) * self.columns

    def spans(self, question: Choices) -> list[tuple[int, int]]:
        """Begin and end column of each continuation's tokens."""
        begin, spans = self.width or len(question.context), []
        for continuation in question.continuations:
            end = begin + len(continuation) - 1
            spans.append((begin, end))
            begin = end
        return spans

    def ids_and_positions(self) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids and positions [rows, columns]; padding is token 0, which nothing sees."""
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
        """What the last `rest` columns see: bool [rows, 1, rest, columns]; None without any."""
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

    def reads(self) -> list[list[list[int]]]:
        """For each question and choice, the flat places [row * columns + column] that predict its tokens."""
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
    """Indices of questions that go together: at most `budget` tokens, and little padding once a batch is worthwhile."""
    batch: list[int] = []
    used = 0
    for index in sorted(range(len(questions)), key=lambda i: _order(questions[i])):
        size = questions[index].size
        padded = Batch.of([questions[i] for i in (*batch, index)]).tokens
        wasteful = used >= WORTHWHILE and padded > WASTE * (used + size)
        if batch and (padded > budget or wasteful or (size <= SHORT < questions[batch[0]].size)):
            yield batch
            batch, used = [], 0
        batch.append(index)
        used += size
    if batch:
        yield batch


def _order(question: Choices) -> tuple[bool, int, int]:
    """Long questions first, by context; then short ones, by size."""
    if question.size > SHORT:
        return False, -len(question.context), -question.size
    return True, -question.size, 0


class TreeScorer:
    """Scores with one model, whose attention it replaces for the time of a pass."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        self._name = f"madang_tree_{next(_numbers)}"
        self._width = 0
        self._mask: torch.Tensor | None = None
        AttentionInterface.register(self._name, self._attend)
        AttentionMaskInterface.register(self._name, lambda *arguments, **options: None)

    def score(self, questions: Sequence[Choices]) -> Scored:
        """Every choice of every question, in their order."""
        logprobs: list[list[float]] = [[] for _ in questions]
        greedy: list[list[bool]] = [[] for _ in questions]
        computed = 0
        for indices in batches(questions, GPU_BUDGET if self._device.type == "cuda" else CPU_BUDGET):
            batch = Batch.of([questions[index] for index in indices])
            computed += batch.tokens
            for index, (values, best) in zip(indices, self._pass(batch), strict=True):
                logprobs[index], greedy[index] = values, best
        return Scored(logprobs=logprobs, greedy=greedy, computed=computed)

    def _pass(self, batch: Batch) -> Iterator[tuple[list[float], list[bool]]]:
        """For each question of a batch, its choices' log-probabilities and greediness."""
        reads = batch.reads()
        flat = sorted({place for question in reads for choice in question for place in choice})
        where = {place: number for number, place in enumerate(flat)}
        rows = [where[place] for question in reads for choice in question for place in choice]
        tokens = [token for question in batch.questions for choice in question.continuations for token in choice]
        logits = self._logits(batch, flat)
        at = torch.tensor(rows, device=self._device)
        wanted = torch.tensor(tokens, device=self._device)
        values = (logits[at, wanted] - torch.logsumexp(logits, dim=-1)[at]).tolist()
        hits = (logits.argmax(dim=-1)[at] == wanted).tolist()
        begin = 0
        for question in batch.questions:
            sums, best = [], []
            for continuation in question.continuations:
                end = begin + len(continuation)
                sums.append(sum(values[begin:end]))
                best.append(all(hits[begin:end]))
                begin = end
            yield sums, best

    def _logits(self, batch: Batch, flat: list[int]) -> torch.Tensor:
        """float32 logits [places, vocabulary] at the asked places alone."""
        ids, positions = batch.ids_and_positions()
        mask = batch.mask()
        self._width, self._mask = batch.width, mask.to(self._device) if mask is not None else None
        with torch.inference_mode(), self._own_attention(), self._output_at(torch.tensor(flat, device=self._device)):
            output = self._model(
                input_ids=torch.tensor(ids, device=self._device),
                position_ids=torch.tensor(positions, device=self._device),
                use_cache=False,
            )
        logits: torch.Tensor = output.logits[0].float()
        return logits

    def _attend(  # noqa: PLR0913 - transformers' signature
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        """Attention [rows, heads, tokens, width]: contexts causally, continuations (or all) through the mask."""
        end = self._width
        shared = query.shape[1] != key.shape[1]
        parts = []
        if end:
            front = (query[:, :, :end], key[:, :, :end], value[:, :, :end])
            parts.append(scaled_dot_product_attention(*front, is_causal=True, scale=scaling, enable_gqa=shared))
        if self._mask is not None:
            parts.append(
                scaled_dot_product_attention(
                    query[:, :, end:], key, value, attn_mask=self._mask, scale=scaling, enable_gqa=shared
                )
            )
        return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None

    @contextmanager
    def _own_attention(self) -> Iterator[None]:
        config = self._model.config
        before = config._attn_implementation
        config._attn_implementation = self._name
        try:
            yield
        finally:
            config._attn_implementation = before

    @contextmanager
    def _output_at(self, flat: torch.Tensor) -> Iterator[None]:
        """Let the output layer see the asked places alone, as one row."""

        def pick(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            hidden = arguments[0]
            return (hidden.reshape(-1, hidden.shape[-1])[flat][None], *arguments[1:])

        hook = self._model.get_output_embeddings().register_forward_pre_hook(pick)
        try:
            yield
        finally:
            hook.remove()


class PlainScorer(TreeScorer):
    """For models whose attention cannot be replaced (running states, capped logits): one row a choice.

    Rows are padded on the right, where causal models never look, so nothing is masked; contexts are not shared.
    """

    def score(self, questions: Sequence[Choices]) -> Scored:
        """Every choice as a question of its own whose continuation is one token after a longer context."""
        singles, owners = [], []
        for number, question in enumerate(questions):
            for continuation in question.continuations:
                singles.append(Choices(context=question.context, continuations=(continuation,)))
                owners.append(number)
        scored = super().score(singles)
        logprobs: list[list[float]] = [[] for _ in questions]
        greedy: list[list[bool]] = [[] for _ in questions]
        for number, values, best in zip(owners, scored.logprobs, scored.greedy, strict=True):
            logprobs[number] += values
            greedy[number] += best
        return Scored(logprobs=logprobs, greedy=greedy, computed=scored.computed)

    def _logits(self, batch: Batch, flat: list[int]) -> torch.Tensor:
        """The same places in rows without a gap: context, then its continuation, then padding."""
        rows, moved = [], {}
        for row, (question, choices) in enumerate(zip(batch.questions, batch.reads(), strict=True)):
            rows.append([*question.context, *question.continuations[0][:-1]])
            for step, place in enumerate(choices[0]):
                moved[place] = row * batch.columns + len(question.context) - 1 + step
        places = torch.tensor([moved[place] for place in flat], device=self._device)
        ids = torch.tensor([row + [0] * (batch.columns - len(row)) for row in rows], device=self._device)
        with torch.inference_mode(), self._output_at(places):
            output = self._model(input_ids=ids, use_cache=False)
        logits: torch.Tensor = output.logits[0].float()
        return logits


class WindowedScorer(TreeScorer):
    """For models whose layers look back a fixed number of tokens (Gemma 3, early Mistral).

    A question that fits the window shares its context: there it hides nothing. A longer one is scored a row a choice.
    """

    def __init__(self, model: Any, device: torch.device, window: int) -> None:
        super().__init__(model, device)
        self._window = window
        self._plain = PlainScorer(model, device)

    def score(self, questions: Sequence[Choices]) -> Scored:
        """Every choice of every question, in their order."""
        fits = [len(one.context) + max(map(len, one.continuations)) - 1 <= self._window for one in questions]
        parts = {
            True: super().score([one for one, fit in zip(questions, fits, strict=True) if fit]),
            False: self._plain.score([one for one, fit in zip(questions, fits, strict=True) if not fit]),
        }
        rows = {fit: iter(zip(part.logprobs, part.greedy, strict=True)) for fit, part in parts.items()}
        answers = [next(rows[fit]) for fit in fits]
        return Scored(
            logprobs=[values for values, _ in answers],
            greedy=[best for _, best in answers],
            computed=sum(part.computed for part in parts.values()),
        )


def scorer(model: Any, device: torch.device, stateful: bool) -> TreeScorer:
    """The scorer that fits a model."""
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    replaceable = getattr(model, "_supports_attention_backend", False) and config._attn_implementation == "sdpa"
    capped = getattr(config, "attn_logit_softcapping", None) is not None  # our attention has no cap on its logits
    known = {"full_attention", "sliding_attention"} if window else {"full_attention"}
    if stateful or capped or not replaceable or not layers <= known:
        return PlainScorer(model, device)
    return WindowedScorer(model, device, window) if window else TreeScorer(model, device)
