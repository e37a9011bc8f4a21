"""The torch sampler against transformers' own processors, and llama.cpp's chain against both: one distribution."""

import ctypes
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from playground.backends.sampling import Sampler
from playground.errors import VariantError
from playground.presets import Sampling, presets

VOCABULARY = 49152
CPU = torch.device("cpu")


def reference(logits: torch.Tensor, history: list[int], sampling: Sampling, said: Sequence[int] = ()) -> torch.Tensor:
    """Probabilities [vocabulary] as transformers' generate would draw from them, after a prompt and an answer so far.

    Presence and frequency are not transformers': they are OpenAI's formula, after the repetition penalty.
    """
    steps = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    counts = torch.bincount(torch.tensor(said, dtype=torch.long), minlength=len(logits))
    less = sampling.frequency_penalty * counts + sampling.presence_penalty * (counts > 0)
    steps.append(lambda ids, scores: scores - less)
    steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        steps.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0.0:
        steps.append(MinPLogitsWarper(sampling.min_p))
    return torch.softmax(steps(torch.tensor([[*history, *said]]), logits[None].clone().float()), dim=-1)[0]


def ours(logits: torch.Tensor, history: list[int], sampling: Sampling, said: Sequence[int] = ()) -> torch.Tensor:
    sampler = Sampler(sampling, history, CPU)
    for token in said:
        sure = torch.zeros_like(logits)
        sure[token] = 1e6
        assert sampler.draw(sure) == token
    probabilities, tokens = sampler.distribution(logits)
    return torch.zeros(logits.shape[0]).index_add_(0, tokens, probabilities)


def llama(logits: torch.Tensor, history: list[int], sampling: Sampling, said: Sequence[int] = ()) -> torch.Tensor:
    """Probabilities after llama.cpp's chain, its last sampler (the draw itself) left out."""
    import llama_cpp.llama_cpp as lib

    from playground.backends.llama_cpp import samplers

    chain = samplers(sampling, history, len(logits), 4096)
    rows = (lib.llama_token_data * len(logits))(*[(i, float(v), 0.0) for i, v in enumerate(logits)])
    data = lib.llama_token_data_array(rows, len(logits), -1, False)
    for sampler in chain[:-1]:
        for token in said:
            lib.llama_sampler_accept(sampler, token)
        lib.llama_sampler_apply(sampler, ctypes.byref(data))
    left = [(data.data[i].id, data.data[i].logit) for i in range(data.size)]
    for sampler in chain:
        lib.llama_sampler_free(sampler)
    tokens = torch.tensor([token for token, _ in left])
    values = torch.softmax(torch.tensor([value for _, value in left], dtype=torch.float64), dim=0)
    return torch.zeros(len(logits), dtype=torch.float64).index_add_(0, tokens, values)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Total variation."""
    return float((a.double() - b.double()).abs().sum() / 2)


def scene(seed: int, spread: float) -> tuple[torch.Tensor, list[int]]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(VOCABULARY, generator=generator) * spread
    history = torch.randint(0, VOCABULARY, (200,), generator=generator).tolist()
    return logits, [*history, int(logits.argmax()), int(logits.topk(5).indices[3])]


FIELDS = [*presets().values(), Sampling(temperature=1.0, top_p=1.0, repetition_penalty=1.0)]
FIELDS += [
    Sampling(temperature=0.9, top_p=0.95, top_k=40, min_p=0.05, repetition_penalty=1.3),
    Sampling(temperature=1.7, top_p=1.0, min_p=0.02, repetition_penalty=0.8),
    Sampling(temperature=1.0, top_p=0.97, repetition_penalty=1.0),
]


@pytest.mark.parametrize("sampling", FIELDS, ids=str)
@pytest.mark.parametrize(("seed", "spread"), [(11, 6.0), (12, 6.0), (13, 9.0)])
def test_engines_draw_from_one_distribution(sampling: Sampling, seed: int, spread: float) -> None:
    logits, history = scene(seed, spread)
    expected = reference(logits, history, sampling)
    assert distance(ours(logits, history, sampling), expected) <= 1e-6
    assert distance(llama(logits, history, sampling), expected) <= 1e-6


PENALTIES = [
    {"presence_penalty": 1.5},
    {"frequency_penalty": 0.7},
    {"presence_penalty": -2.0, "frequency_penalty": 0.4, "repetition_penalty": 1.3},
    {"presence_penalty": 2.0, "frequency_penalty": 2.0, "repetition_penalty": 0.9, "top_k": 50},
]


@pytest.mark.parametrize("fields", PENALTIES, ids=str)
def test_penalties_on_the_answer_are_the_same_in_both_engines(fields: dict[str, float]) -> None:
    logits, prompt = scene(14, 6.0)
    best = logits.topk(6).indices.tolist()
    said = [best[0], best[2], best[0], best[5], best[0]]
    sampling = Sampling.model_validate({"temperature": 1.0, "top_p": 0.99, "repetition_penalty": 1.0} | fields)
    expected = reference(logits, prompt, sampling, said)
    assert distance(ours(logits, prompt, sampling, said), expected) <= 1e-6
    assert distance(llama(logits, prompt, sampling, said), expected) <= 1e-6
    assert distance(reference(logits, prompt, sampling), expected) > 0.05


@pytest.mark.parametrize("draws", [ours, llama], ids=["torch", "llama.cpp"])
def test_presence_and_frequency_leave_the_prompt_alone(draws: Callable[..., torch.Tensor]) -> None:
    logits, prompt = scene(15, 6.0)
    plain = Sampling(temperature=1.0, top_p=1.0, repetition_penalty=1.0)
    strict = plain.model_copy(update={"presence_penalty": 2.0, "frequency_penalty": 2.0})
    assert int(logits.argmax()) in prompt
    assert distance(draws(logits, prompt, strict), draws(logits, prompt, plain)) == 0.0


def test_logits_are_left_as_they_are() -> None:
    """Log-probabilities are read from them after the draw."""
    logits, prompt = scene(16, 6.0)
    sampler = Sampler(Sampling(temperature=0.0, presence_penalty=1.0, frequency_penalty=1.0), prompt, CPU)
    before = logits.clone()
    for _ in range(3):
        sampler.draw(logits)
    assert (logits == before).all()


def test_a_flat_distribution_differs_by_its_border_tokens_alone() -> None:
    """Thousands of tokens in the nucleus: single-precision sums decide which of the last ones are in."""
    logits, history = scene(11, 1.0)
    sampling = presets()["creative"]
    assert distance(llama(logits, history, sampling), reference(logits, history, sampling)) < 1e-3


def test_the_order_of_the_chain_matters() -> None:
    """What llama-cpp-python's own class does (top_p before temperature) is another distribution: the test can fail."""
    logits, history = scene(12, 6.0)
    sampling = Sampling(temperature=0.5, top_p=0.9, repetition_penalty=1.0)
    cut = reference(logits, history, sampling.model_copy(update={"temperature": 1.0}))
    swapped = torch.softmax(torch.where(cut > 0, logits, -torch.inf) / 0.5, dim=-1)
    assert distance(swapped, reference(logits, history, sampling)) > 0.01


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(0.05, 3.0),
    st.floats(0.05, 1.0),
    st.sampled_from([0, 1, 5, 50]),
    st.sampled_from([0.0, 0.01, 0.3]),
    st.floats(0.7, 2.0),
)
def test_torch_sampler_equals_transformers(
    seed: int, temperature: float, top_p: float, top_k: int, min_p: float, penalty: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2000, generator=generator) * 4
    history = torch.randint(0, 2000, (30,), generator=generator).tolist()
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, repetition_penalty=penalty)
    expected, got = reference(logits, history, sampling), ours(logits, history, sampling)
    # a token whose cumulative probability equals top_p to the last bit may fall on either side
    border = 2e-6 if distance(got, expected) < 2e-6 else float(got[got > 0].min()) * 1.01
    assert distance(got, expected) <= border


def test_the_answer_joins_the_history() -> None:
    logits = torch.zeros(100)
    logits[7], logits[8] = 2.0, 1.5
    sampler = Sampler(Sampling(temperature=0.0, repetition_penalty=2.0), [1, 2, 3], CPU)
    assert [sampler.draw(logits.clone()) for _ in range(2)] == [7, 8]


def test_a_frequency_penalty_grows_with_every_time_and_presence_does_not() -> None:
    logits = torch.tensor([2.0, 1.2, 0.0])
    frequency = Sampler(Sampling(temperature=0.0, repetition_penalty=1.0, frequency_penalty=0.5), [0, 0, 0, 0], CPU)
    assert [frequency.draw(logits) for _ in range(5)] == [0, 0, 1, 0, 1]
    presence = Sampler(Sampling(temperature=0.0, repetition_penalty=1.0, presence_penalty=0.5), [1, 1], CPU)
    assert [presence.draw(logits) for _ in range(5)] == [0] * 5


def test_seed_reproduces_and_other_seed_differs() -> None:
    logits, history = scene(3, 0.5)
    draws: dict[int, list[int]] = {}
    for seed in (1, 1, 2):
        sampler = Sampler(Sampling(temperature=1.5, top_p=1.0, seed=seed), history, CPU)
        run = [sampler.draw(logits.clone()) for _ in range(20)]
        assert draws.setdefault(seed, run) == run
    assert draws[1] != draws[2]


def test_draws_follow_the_distribution() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    sampling = Sampling(temperature=1.0, top_p=0.9, repetition_penalty=1.0, seed=5)
    sampler = Sampler(sampling, [], CPU)
    counts = torch.bincount(torch.tensor([sampler.draw(logits) for _ in range(4000)]), minlength=4) / 4000
    assert distance(counts, torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95) < 0.03
    assert counts[3] == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("worst", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_said(temperature: float, worst: float) -> None:
    """As float16 gives them where a model leaves its range: drawing from them would end the process."""
    logits = torch.zeros(8)
    logits[3] = worst
    with pytest.raises(VariantError, match="computed no numbers") as caught:
        Sampler(Sampling(temperature=temperature), [1], CPU).draw(logits)
    assert "bf16" in caught.value.hint
