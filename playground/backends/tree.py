"""Scores the choices of many questions in one pass of a transformers model, each context computed once.

A row is a question: its context, then the continuations one after another, each but for its last token. A context token
sees the context before it, a continuation token sees its own context and its own continuation. Short questions do that
with one small mask. Long ones pad the context to a width of its own and do attention in two parts, so that contexts
stay causal and fast and no mask of tokens x tokens is ever made. The output layer runs only where a prediction is read.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count, pairwise, repeat
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from playground.backends.echo import ALONE, Held, Read
from playground.backends.layout import Batch, batches
from playground.protocol import Choices, Scored

CPU_BUDGET = 768
GPU_BUDGET = 16_384
CPU_LOGITS, GPU_LOGITS = 2**25, 2**28
"""Logits in memory at once: 128 MiB and 1 GiB in float32."""
ANY_LENGTH = 1 << 30
_numbers = count(1)


@dataclass(frozen=True)
class Answer:
    """What a pass found of the tokens it was asked for: log-probabilities, whether likeliest, the likeliest there."""

    logprobs: list[float]
    best: list[bool]
    tops: list[list[tuple[int, float]]]

    def held(self, begin: int, end: int) -> list[Held]:
        """Those of some tokens, one by one."""
        return [Held(*one) for one in zip(self.logprobs[begin:end], self.tops[begin:end], strict=True)]


class TreeScorer:
    """Scores with one model, whose attention it replaces for the time of a pass."""

    longest = ANY_LENGTH
    """Tokens of the longest prompt that may share a context with others."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        self._name = f"madang_tree_{next(_numbers)}"
        self._width = 0
        self._mask: torch.Tensor | None = None
        self._pause: Callable[[], None] = lambda: None
        on_card = device.type == "cuda"
        self.budget = GPU_BUDGET if on_card else CPU_BUDGET
        vocabulary = model.config.get_text_config().vocab_size
        self._places = max(1, (GPU_LOGITS if on_card else CPU_LOGITS) // vocabulary)
        AttentionInterface.register(self._name, self._attend)
        AttentionMaskInterface.register(self._name, lambda *arguments, **options: None)

    def pause_by(self, pause: Callable[[], None]) -> None:
        """Call this before each batch; it may run the model."""
        self._pause = pause

    def score(self, questions: Sequence[Choices]) -> Scored:
        """Every choice of every question, in their order."""
        logprobs: list[list[float]] = [[] for _ in questions]
        greedy: list[list[bool]] = [[] for _ in questions]
        computed = 0
        for indices in batches(questions, self.budget):
            self._pause()
            batch = Batch.of([questions[index] for index in indices])
            computed += batch.tokens
            for index, (values, best) in zip(indices, self._pass(batch), strict=True):
                logprobs[index], greedy[index] = values, best
        return Scored(logprobs=logprobs, greedy=greedy, computed=computed)

    def read(self, questions: Sequence[Choices], top: int) -> list[Read]:
        """Every token of every question but the first of its context, with the `top` likeliest of its place."""
        found: dict[int, Read] = {}
        for indices in batches(questions, self.budget):
            self._pause()
            batch = Batch.of([questions[index] for index in indices])
            found |= zip(indices, self._read(batch, top), strict=True)
        return [found[index] for index in range(len(questions))]

    def _pass(self, batch: Batch) -> Iterator[tuple[list[float], list[bool]]]:
        """For each question of a batch, its choices' log-probabilities and greediness."""
        places = [place for question in batch.reads() for choice in question for place in choice]
        tokens = [token for question in batch.questions for choice in question.continuations for token in choice]
        answer = self._ask(batch, places, tokens, 0)
        begin = 0
        for question in batch.questions:
            sums, best = [], []
            for continuation in question.continuations:
                end = begin + len(continuation)
                sums.append(sum(answer.logprobs[begin:end]))
                best.append(all(answer.best[begin:end]))
                begin = end
            yield sums, best

    def _read(self, batch: Batch, top: int) -> Iterator[Read]:
        """For each question of a batch, what was held of its tokens."""
        places: list[int] = []
        tokens: list[int] = []
        for question, inside, choices in zip(batch.questions, batch.inside(), batch.reads(), strict=True):
            places += [*inside, *(place for choice in choices for place in choice)]
            tokens += [*question.context[1:], *(token for rest in question.continuations for token in rest)]
        answer = self._ask(batch, places, tokens, top)
        begin = 0
        for question in batch.questions:
            ends = [begin + len(question.context) - 1]
            for rest in question.continuations:
                ends.append(ends[-1] + len(rest))
            rests = [answer.held(one, other) for one, other in pairwise(ends)]
            yield Read(answer.held(begin, ends[0]), rests)
            begin = ends[-1]

    def _ask(self, batch: Batch, places: list[int], tokens: list[int], top: int) -> Answer:
        """What the model holds of each token at its flat place, and the likeliest there."""
        flat = sorted(set(places))
        where = {place: number for number, place in enumerate(flat)}
        at = torch.tensor([where[place] for place in places], device=self._device)
        wanted = torch.tensor(tokens, device=self._device)
        logprobs = torch.empty(len(places), device=self._device)
        best = torch.empty(len(places), dtype=torch.bool, device=self._device)
        tops: list[list[tuple[int, float]]] = []
        begin = 0
        for logits in self._logits(batch, flat):
            here = ((at >= begin) & (at < begin + len(logits))).nonzero()[:, 0]
            rows, total = at[here] - begin, torch.logsumexp(logits, dim=-1)
            logprobs[here] = logits[rows, wanted[here]] - total[rows]
            best[here] = logits.argmax(dim=-1)[rows] == wanted[here]
            tops += _likeliest(logits, total, top)
            begin += len(logits)
        return Answer(logprobs.tolist(), best.tolist(), [tops[where[place]] for place in places])

    def _logits(self, batch: Batch, flat: list[int]) -> Iterator[torch.Tensor]:
        """float32 logits [places, vocabulary] at the asked places alone, in parts."""
        ids, positions = batch.ids_and_positions()
        mask = batch.mask()
        self._width, self._mask = batch.width, mask.to(self._device) if mask is not None else None

        def run() -> Any:
            with self._own_attention():
                return self._model(
                    input_ids=torch.tensor(ids, device=self._device),
                    position_ids=torch.tensor(positions, device=self._device),
                    use_cache=False,
                )

        return self._in_parts(run, torch.tensor(flat, device=self._device))

    def _in_parts(self, run: Callable[[], Any], places: torch.Tensor) -> Iterator[torch.Tensor]:
        """Logits of a pass at flat places: the model's layers run once, its output layer for some places at a time.

        After the first part the model runs on one token, whose place in front of the output layer the next part takes:
        so whatever a model does to its logits (scales, caps) is its own doing.
        """
        waiting: deque[torch.Tensor] = deque()

        def pick(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            if not waiting:
                hidden = arguments[0]
                waiting.extend(torch.split(hidden.reshape(-1, hidden.shape[-1])[places], self._places))
            return (waiting.popleft()[None], *arguments[1:])

        def go_on() -> Any:
            return self._model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self._device), use_cache=False)

        for step in chain([run], repeat(go_on)):
            hook = self._model.get_output_embeddings().register_forward_pre_hook(pick)
            try:
                with torch.inference_mode():
                    logits = step().logits[0].float()
            finally:
                hook.remove()
            yield logits
            if not waiting:
                return

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


class PlainScorer(TreeScorer):
    """For models whose attention cannot be replaced (running states, capped logits): one row a choice.

    Rows are padded on the right, where causal models never look, so nothing is masked; contexts are not shared, and
    `read` takes questions of one continuation.
    """

    longest = ALONE

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

    def _logits(self, batch: Batch, flat: list[int]) -> Iterator[torch.Tensor]:
        """The same places in rows without a gap: context, then its continuation, then padding."""
        rows, moved = [], {}
        for row, (question, choices) in enumerate(zip(batch.questions, batch.reads(), strict=True)):
            rows.append([*question.context, *question.continuations[0][:-1]])
            for step, place in enumerate(choices[0]):
                moved[place] = row * batch.columns + len(question.context) - 1 + step
        places = torch.tensor([moved.get(place, place) for place in flat], device=self._device)
        ids = torch.tensor([row + [0] * (batch.columns - len(row)) for row in rows], device=self._device)
        return self._in_parts(lambda: self._model(input_ids=ids, use_cache=False), places)


class WindowedScorer(TreeScorer):
    """For models whose layers look back a fixed number of tokens (Gemma 3, early Mistral).

    A question that fits the window shares its context: there it hides nothing. A longer one is scored a row a choice.
    """

    def __init__(self, model: Any, device: torch.device, window: int) -> None:
        super().__init__(model, device)
        self.longest = self._window = window
        self._plain = PlainScorer(model, device)

    def pause_by(self, pause: Callable[[], None]) -> None:
        """Call this before each batch, also of those that go a row a choice."""
        super().pause_by(pause)
        self._plain.pause_by(pause)

    def score(self, questions: Sequence[Choices]) -> Scored:
        """Every choice of every question, in their order."""
        fits = self._fits(questions)
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

    def read(self, questions: Sequence[Choices], top: int) -> list[Read]:
        """Every token of every question; those beyond the window have one continuation."""
        fits = self._fits(questions)
        within = iter(super().read([one for one, fit in zip(questions, fits, strict=True) if fit], top))
        beyond = iter(self._plain.read([one for one, fit in zip(questions, fits, strict=True) if not fit], top))
        return [next(within if fit else beyond) for fit in fits]

    def _fits(self, questions: Sequence[Choices]) -> list[bool]:
        return [len(one.context) + max(map(len, one.continuations)) - 1 <= self._window for one in questions]


def _likeliest(logits: torch.Tensor, total: torch.Tensor, top: int) -> list[list[tuple[int, float]]]:
    """For each place, the `top` likeliest tokens and their log-probabilities, from logits [places, vocabulary]."""
    values, ids = torch.topk(logits, min(top, logits.shape[-1]))
    return [
        list(zip(*pair, strict=True)) for pair in zip(ids.tolist(), (values - total[:, None]).tolist(), strict=True)
    ]


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
