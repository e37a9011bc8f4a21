"""Scores the choices of many questions in one pass of a transformers model, each context computed once.

A row is a question: its context, then the continuations one after another, each but for its last token. A context token
sees the context before it, a continuation token sees its own context and its own continuation. Short questions do that
with one small mask. Long ones pad the context to a width of its own and do attention in two parts, so that contexts
stay causal and fast and no mask of tokens x tokens is ever made. The output layer runs only where a prediction is read.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count, islice, repeat
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from playground.backends.layout import Batch, batches
from playground.backends.logprobs import ALONE, Held, Read, scored
from playground.protocol import Choices, Scored

CPU_BUDGET = 768
GPU_BUDGET = 16_384
CPU_LOGITS, GPU_LOGITS = 2**25, 2**28
"""Logits in memory at once: 128 MiB and 1 GiB in float32."""
ANY_LENGTH = 1 << 30
_numbers = count(1)


class TreeScorer:
    """Scores with one model, whose attention it replaces for the time of a pass."""

    longest = ANY_LENGTH
    """Tokens of the longest prompt that may share a context with others."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model, device
        self._name = f"madang_tree_{next(_numbers)}"
        self._width = 0
        self._mask: torch.Tensor | None = None
        on_card = device.type == "cuda"
        self.budget = GPU_BUDGET if on_card else CPU_BUDGET
        vocabulary = model.config.get_text_config().vocab_size
        self._places = max(1, (GPU_LOGITS if on_card else CPU_LOGITS) // vocabulary)
        AttentionInterface.register(self._name, self._attend)
        AttentionMaskInterface.register(self._name, lambda *arguments, **options: None)

    def score(self, questions: Sequence[Choices], pause: Callable[[], None]) -> Scored:
        """Score every choice, in the questions' order; `pause` comes before each batch, and may run the model."""
        return scored(*self.reads(questions, None, pause))

    def reads(self, questions: Sequence[Choices], top: int | None, pause: Callable[[], None]) -> tuple[list[Read], int]:
        """Return what was read of every question, and how many tokens were computed, padding included.

        `top`: so many of the likeliest at each place; None leaves the contexts' own tokens unread.
        """
        found: dict[int, Read] = {}
        computed = 0
        for indices in batches(questions, self.budget):
            pause()
            batch = Batch.of([questions[index] for index in indices])
            computed += batch.tokens
            found |= zip(indices, self._pass(batch, top), strict=True)
        return [found[index] for index in range(len(questions))], computed

    def _pass(self, batch: Batch, top: int | None) -> Iterator[Read]:
        """Run one batch, and yield what was read of each of its questions."""
        inside = batch.inside() if top is not None else [[] for _ in batch.questions]
        places: list[int] = []
        tokens: list[int] = []
        for question, own, choices in zip(batch.questions, inside, batch.reads(), strict=True):
            places += [*own, *chain(*choices)]
            tokens += [*question.context[1 : len(own) + 1], *chain(*question.continuations)]
        held = iter(self._ask(batch, places, tokens, top or 0))
        for question, own in zip(batch.questions, inside, strict=True):
            context = list(islice(held, len(own)))
            yield Read(context, [list(islice(held, len(choice))) for choice in question.continuations])

    def _ask(self, batch: Batch, places: list[int], tokens: list[int], top: int) -> list[Held]:
        """Return each token as the model saw it at its flat place."""
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
        of_each = zip(logprobs.tolist(), best.tolist(), places, strict=True)
        return [Held(logprob, likeliest, tops[where[place]]) for logprob, likeliest, place in of_each]

    def _logits(self, batch: Batch, flat: list[int]) -> Iterator[torch.Tensor]:
        """Yield float32 logits [places, vocabulary] at the asked places alone, in parts."""
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
        """Yield the logits of a pass at flat places: its layers run once, its output layer for some places at a time.

        For each part after the first the model runs on a single token, and the next places take its hidden state's
        stead in front of the output layer: what a model does to its logits behind that (scales, caps) is done to all.
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
        """Return attention [rows, heads, tokens, width]: contexts causally, continuations (or all) through the mask."""
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
    """For models whose attention cannot be replaced (running states, capped logits): one row for each choice.

    Rows are padded on the right, where causal models never look, so nothing is masked; contexts are not shared.
    """

    longest = ALONE

    def reads(self, questions: Sequence[Choices], top: int | None, pause: Callable[[], None]) -> tuple[list[Read], int]:
        """Read every choice as a question of its own."""
        pairs = [(question.context, choice) for question in questions for choice in question.continuations]
        singles = [Choices(context=context, continuations=(choice,)) for context, choice in pairs]
        parts, computed = super().reads(singles, top, pause)
        rest = iter(parts)
        own = [list(islice(rest, len(question.continuations))) for question in questions]
        whole = [Read(reads[0].context if reads else [], [read.continuations[0] for read in reads]) for reads in own]
        return whole, computed

    def _logits(self, batch: Batch, flat: list[int]) -> Iterator[torch.Tensor]:
        """Yield logits at the same places of rows without a gap: context, then its continuation, then padding."""
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

    A question that fits the window shares its context: there it hides nothing. Longer ones take a row for each choice.
    """

    def __init__(self, model: Any, device: torch.device, window: int) -> None:
        super().__init__(model, device)
        self.longest = self._window = window
        self._plain = PlainScorer(model, device)

    def reads(self, questions: Sequence[Choices], top: int | None, pause: Callable[[], None]) -> tuple[list[Read], int]:
        """Read the questions that fit together, then the others."""
        fits = self._fits(questions)
        within, computed = super().reads([one for one, fit in zip(questions, fits, strict=True) if fit], top, pause)
        longer = [one for one, fit in zip(questions, fits, strict=True) if not fit]
        beyond, computed_beyond = self._plain.reads(longer, top, pause)
        parts = {True: iter(within), False: iter(beyond)}
        return [next(parts[fit]) for fit in fits], computed + computed_beyond

    def _fits(self, questions: Sequence[Choices]) -> list[bool]:
        return [len(one.context) + max(map(len, one.continuations)) - 1 <= self._window for one in questions]


def _likeliest(logits: torch.Tensor, total: torch.Tensor, top: int) -> list[list[tuple[int, float]]]:
    """Return the `top` likeliest tokens and their log-probabilities at each place of logits [places, vocabulary]."""
    values, ids = torch.topk(logits, min(top, logits.shape[-1]))
    return [
        list(zip(*pair, strict=True)) for pair in zip(ids.tolist(), (values - total[:, None]).tolist(), strict=True)
    ]


def scorer(model: Any, device: torch.device, stateful: bool) -> TreeScorer:
    """Return the scorer that fits a model."""
    if stateful or not replaceable(model):
        return PlainScorer(model, device)
    window = window_of(model)
    return WindowedScorer(model, device, window) if window else TreeScorer(model, device)


def window_of(model: Any) -> int | None:
    """Return how many tokens back some layers look at most; None where all see everything."""
    return getattr(model.config.get_text_config(), "sliding_window", None)


def replaceable(model: Any) -> bool:
    """Return whether plain attention of ours, causal and uncapped, computes what the model's own does."""
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    known = {"full_attention", "sliding_attention"} if window_of(model) else {"full_attention"}
    uncapped = getattr(config, "attn_logit_softcapping", None) is None  # ours has no cap on its logits
    own = getattr(model, "_supports_attention_backend", False) and config._attn_implementation == "sdpa"
    return bool(own and uncapped and layers <= known)
