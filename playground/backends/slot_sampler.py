"""Draws the next tokens of all slots at once, on the device: the distribution of `sampling.Sampler`, row by row.

Each slot has its own settings, history and random numbers, which come from its seed alone; so a row draws the same with
others beside it, and the same as `Sampler` would. Nothing here waits for the device.
"""

import torch

from playground.backends.sampling import SURE, generator
from playground.backends.slots import longer
from playground.presets import Sampling

STREAMS = 8
"""Rows that a card sorts at the same time."""
NO_CUT = 2.0
"""A top_p that probabilities never reach: everything is kept."""


class SlotSampler:
    """Settings [slots], tokens seen and said [slots, vocabulary] and random numbers [slots, places]."""

    def __init__(self, vocabulary: int, device: torch.device) -> None:
        self._vocabulary, self._device = vocabulary, device
        self._ranks = torch.arange(vocabulary, device=device)
        streams = STREAMS if device.type == "cuda" else 0
        self._beside = [torch.cuda.Stream(device) for _ in range(streams)]  # type: ignore[no-untyped-call]
        numbers = torch.zeros(0, dtype=torch.long, device=device)
        self._knobs = torch.zeros(0, 6, device=device)
        self._top_k, self._first, self._greedy = numbers, numbers, numbers.bool()
        self._seen = torch.zeros(0, vocabulary, dtype=torch.bool, device=device)
        self._said = torch.zeros(0, vocabulary, device=device)
        self._noise = torch.zeros(0, 0, device=device)

    def grow(self, slots: int, places: int) -> None:
        """Make room for more rows or longer ones; those there are stay as they are."""
        self._knobs, self._top_k, self._first, self._greedy = (
            longer(old, slots) for old in (self._knobs, self._top_k, self._first, self._greedy)
        )
        self._seen, self._said = longer(self._seen, slots), longer(self._said, slots)
        self._noise = longer(self._noise, slots, places)

    def join(self, slot: int, sampling: Sampling, prompt: list[int], most: int) -> None:
        """Give a slot to a row whose answer has at most so many tokens."""
        greedy = sampling.greedy
        knobs = [
            1.0 if greedy else sampling.temperature,
            sampling.top_p if sampling.top_p < 1.0 else NO_CUT,
            sampling.min_p,
            sampling.repetition_penalty,
            sampling.presence_penalty,
            sampling.frequency_penalty,
        ]
        self._knobs[slot] = torch.tensor(knobs, device=self._device)
        self._top_k[slot] = min(sampling.top_k, self._vocabulary) or self._vocabulary
        self._greedy[slot] = greedy
        self._first[slot] = len(prompt) - 1
        self._seen[slot] = False
        self._seen[slot, torch.tensor(sorted(set(prompt)), device=self._device)] = True
        self._said[slot] = 0.0
        if not greedy:
            drawn = torch.rand(min(most, self._noise.shape[1]), generator=generator(sampling)).clamp_(max=SURE)
            self._noise[slot, : len(drawn)] = drawn.to(self._device)

    def see(self, slots: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor, live: torch.Tensor) -> None:
        """Remember the tokens [rows] that slots are fed at their places; those of the prompt are seen already."""
        self._seen.index_put_((slots, tokens), torch.ones_like(live))
        answer = live & (places > self._first[: len(slots)])
        self._said[: len(slots)].scatter_add_(1, tokens[:, None], answer[:, None].float())

    def draw(
        self, logits: torch.Tensor, places: torch.Tensor, draws: bool, penalizes: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a token for each row of logits [rows, vocabulary], and whether its logits are numbers.

        `places` [rows] are those that were fed last; `draws`, `penalizes`: whether any row needs it. A row that does
        not is the same either way.
        """
        scores, rows = logits.float(), len(logits)
        if penalizes:
            scores = self._penalized(scores)
        if not draws:
            most, best = scores.max(dim=-1)
            return best, torch.isfinite(most)
        step = (places - self._first[:rows]).clamp(0, self._noise.shape[1] - 1)
        noise = self._noise[:rows].gather(1, step[:, None])
        return self._drawn(scores, noise)

    def _penalized(self, scores: torch.Tensor) -> torch.Tensor:
        rows = len(scores)
        repetition, presence, frequency = (self._knobs[:rows, at, None] for at in (3, 4, 5))
        said = self._said[:rows]
        punished = torch.where(scores < 0, scores * repetition, scores / repetition)
        scores = torch.where(self._seen[:rows], punished, scores)
        return scores - (frequency * said + presence * (said > 0))

    def _drawn(self, scores: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take the token where the kept probabilities, most likely first, pass the random share of their sum."""
        rows = len(scores)
        temperature, top_p, min_p = (self._knobs[:rows, at, None] for at in (0, 1, 2))
        best, tokens = self._sorted(scores)
        limit = self._top_k[:rows, None]
        ranks = self._ranks < limit
        top = torch.softmax((best / temperature).masked_fill(~ranks, float("-inf")), dim=-1)
        keep = (torch.cumsum(top, dim=-1) - top < top_p) & (top >= min_p * top[:, :1]) | (self._ranks == 0)
        reached = torch.cumsum(top.masked_fill(~(keep & ranks), 0.0), dim=-1)
        chosen = torch.searchsorted(reached, noise * reached[:, -1:], right=True)
        chosen = chosen.masked_fill(self._greedy[:rows, None], 0)
        return tokens.gather(1, chosen.clamp(max=self._vocabulary - 1))[:, 0], torch.isfinite(best[:, 0])

    def _sorted(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores and tokens, best first; of equals the first token, as argmax has it.

        On a card rows are sorted one by one, beside each other: torch sorts some rows together in twice the time.
        """
        if len(scores) == 1 or not self._beside:
            return torch.sort(scores, dim=-1, descending=True, stable=True)
        here = torch.cuda.current_stream(self._device)
        best, tokens = torch.empty_like(scores), torch.empty_like(scores, dtype=torch.long)
        for number, stream in enumerate(self._beside[: len(scores)]):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                for row in range(number, len(scores), len(self._beside)):
                    best[row], tokens[row] = torch.sort(scores[row], descending=True, stable=True)
        for stream in self._beside[: len(scores)]:
            here.wait_stream(stream)
        return best, tokens
