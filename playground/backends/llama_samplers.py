"""Chains of llama.cpp's own samplers that draw from the same distribution as transformers does."""

from collections.abc import Sequence
from typing import Any

import llama_cpp.llama_cpp as lib

from playground.presets import Sampling


def samplers(sampling: Sampling, prompt: Sequence[int], vocabulary: int, context: int) -> list[Any]:
    """llama.cpp samplers, in transformers' order, that draw as `sampling` says; the last one picks the token.

    The repetition penalty alone has seen the prompt: presence and frequency count the answer. `context` is how many
    tokens back the penalties see: all of them.
    """
    chain = []
    if sampling.repetition_penalty != 1.0:
        chain.append(lib.llama_sampler_init_penalties(vocabulary, context, sampling.repetition_penalty, 0.0, 0.0))
        for token in prompt:
            lib.llama_sampler_accept(chain[0], token)
    frequency, presence = sampling.frequency_penalty, sampling.presence_penalty
    if frequency != 0.0 or presence != 0.0:
        chain.append(lib.llama_sampler_init_penalties(vocabulary, context, 1.0, frequency, presence))
    if sampling.greedy:
        return [*chain, lib.llama_sampler_init_greedy()]
    if sampling.temperature != 1.0:
        chain.append(lib.llama_sampler_init_temp(sampling.temperature))
    if sampling.top_k > 0:
        chain.append(lib.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1.0:
        chain.append(lib.llama_sampler_init_top_p(sampling.top_p, 1))
    if sampling.min_p > 0.0:
        chain.append(lib.llama_sampler_init_min_p(sampling.min_p, 1))
    return [*chain, lib.llama_sampler_init_dist(sampling.seed or 0)]
