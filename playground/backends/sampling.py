"""Draws a row's next token in torch, from the distribution that transformers' own processors give.

Order: repetition penalty over prompt and answer, presence and frequency penalty over the answer, temperature, top_k,
top_p, min_p. transformers sorts the whole vocabulary at every token for top_p; here the most likely candidates are
tried first, and sorted only among themselves.
"""

from collections.abc import Sequence

import torch

from playground.errors import VariantError
from playground.presets import Sampling
from playground.wording import worded

CANDIDATES = 256
SURE = 1 - 2**-22
"""Random numbers end here: times a sum, they stay below it, so that the last token drawn is one that is kept."""


def generator(sampling: Sampling) -> torch.Generator:
    """Return where a row's random numbers come from: one in [0, 1) for each of its tokens."""
    return torch.Generator(device="cpu").manual_seed(sampling.seed or 0)


def no_numbers() -> VariantError:
    """Return the error of a row whose logits are none."""
    return VariantError(worded("sampling.model_computed_no"))


class Sampler:
    """One row's sampling settings, its random generator and the tokens it has seen."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], device: torch.device) -> None:
        self.sampling = sampling
        self._generator = generator(sampling)
        self._seen = set(prompt)
        self._seen_ids = torch.tensor(sorted(self._seen), device=device)
        self._said: dict[int, int] = {}
        """Where each token of the answer stands in the two tensors."""
        self._said_ids = torch.tensor([], dtype=torch.long, device=device)
        self._said_counts = torch.tensor([], device=device)

    def draw(self, logits: torch.Tensor) -> int:
        """Draw the next token from logits [vocabulary] of any float dtype; it joins the tokens seen."""
        if not bool(torch.isfinite(logits.max())):  # of NaN and infinity among them, one is the largest
            raise no_numbers()
        if self.sampling.greedy:
            token = int(self._penalized(logits.float()).argmax())
        else:
            probabilities, tokens = self.distribution(logits)
            reached = torch.cumsum(probabilities.cpu(), dim=-1)
            share = torch.rand(1, generator=self._generator).clamp_(max=SURE) * reached[-1]
            token = int(tokens[int(torch.searchsorted(reached, share, right=True))])
        self.see(token)
        return token

    def force(self, token: int) -> None:
        """Take a token that is fixed; its random number is spent, so that later ones are what they would be."""
        torch.rand(1, generator=self._generator)
        self.see(token)

    def distribution(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities that sum to 1 and the tokens they belong to, most likely first; the others have none."""
        scores = self._penalized(logits.float()) / self.sampling.temperature
        probabilities = torch.softmax(scores, dim=-1)
        vocabulary = probabilities.shape[-1]
        size = min(self.sampling.top_k or CANDIDATES, vocabulary)
        top, tokens = torch.topk(probabilities, size)
        if not self.sampling.top_k and not self._enough(top, size, vocabulary):
            top, tokens = torch.sort(probabilities, descending=True)
        if self.sampling.top_k:
            top = top / top.sum()
        top, tokens = self._nucleus(top, tokens)
        return top / top.sum(), tokens

    def _enough(self, top: torch.Tensor, size: int, vocabulary: int) -> bool:
        """Return whether the candidates hold everything that top_p and min_p keep."""
        if size == vocabulary or float(top.sum()) >= self.sampling.top_p + 1e-4:
            return True
        return self.sampling.min_p > 0 and float(top[-1]) < self.sampling.min_p * float(top[0]) and not self._cut

    @property
    def _cut(self) -> bool:
        return self.sampling.top_p < 1.0

    def _nucleus(self, top: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the smallest set of tokens whose probabilities reach top_p, less those under min_p of the best."""
        keep = torch.ones_like(top, dtype=torch.bool)
        if self._cut:
            keep = torch.cumsum(top, dim=-1) - top < self.sampling.top_p
        if self.sampling.min_p > 0:
            keep &= top >= self.sampling.min_p * top[0]
        keep[0] = True
        return top[keep], tokens[keep]

    def _penalized(self, scores: torch.Tensor) -> torch.Tensor:
        """Return scores with the repetition penalty on all tokens of prompt and answer, the others on the answer's."""
        sampling = self.sampling
        repeats, counts = sampling.repetition_penalty != 1.0, self._counts and bool(self._said)
        if not repeats and not counts:
            return scores
        scores = scores.clone()
        if repeats:
            seen = scores[self._seen_ids]
            penalty = sampling.repetition_penalty
            scores[self._seen_ids] = torch.where(seen < 0, seen * penalty, seen / penalty)
        if counts:
            scores[self._said_ids] -= sampling.frequency_penalty * self._said_counts + sampling.presence_penalty
        return scores

    @property
    def _counts(self) -> bool:
        """Return whether it matters how often the answer said a token."""
        return self.sampling.presence_penalty != 0.0 or self.sampling.frequency_penalty != 0.0

    def see(self, token: int) -> None:
        """Remember a token of the answer, for the penalties."""
        if token not in self._seen and self.sampling.repetition_penalty != 1.0:
            self._seen.add(token)
            self._seen_ids = torch.cat([self._seen_ids, self._seen_ids.new_tensor([token])])
        if not self._counts:
            return
        if token not in self._said:
            self._said[token] = len(self._said)
            self._said_ids = torch.cat([self._said_ids, self._said_ids.new_tensor([token])])
            self._said_counts = torch.cat([self._said_counts, self._said_counts.new_zeros(1)])
        self._said_counts[self._said[token]] += 1
