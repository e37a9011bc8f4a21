"""Rows in slots give what rows in a batch joined anew give: on a processor, where the step runs without a capture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from playground.backends.sampling import Sampler
from playground.backends.slot_sampler import SlotSampler
from playground.backends.transformers import TransformersBackend
from playground.errors import VariantError
from playground.presets import Sampling
from playground.protocol import ModelSpec, RowRequest
from tests.playground.backends.test_transformers import QUESTIONS, run

IN_SLOTS = ["llama", "qwen3", "qwen2", "qwen3_moe", "qwen2_moe", "mixtral", "opt"]
OTHERWISE = ["gemma2", "mistral", "gemma3_text", "mamba2"]


def load(folder: Path, in_slots: bool = True, **fields: Any) -> TransformersBackend:
    spec = ModelSpec(engine="transformers", name="tiny", path=str(folder), dtype="fp32", **fields)
    return TransformersBackend(spec, in_slots=in_slots)


@pytest.mark.parametrize("family", IN_SLOTS)
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_every_family_answers_as_without_slots(
    family: str, temperature: float, tiny: Callable[[str], Path], ask: Callable[..., RowRequest]
) -> None:
    """Rows come one after another, of different lengths and settings, and some join late."""
    folder = tiny(family)
    told = [{"top_p": 0.8}, {"top_k": 7, "repetition_penalty": 1.0}, {"min_p": 0.05, "presence_penalty": 0.7}]

    def questions() -> list[RowRequest]:
        asked = zip(QUESTIONS, told, strict=True)
        return [ask(text, temperature=temperature, seed=seed, **more) for seed, (text, more) in enumerate(asked)]

    backend = load(folder)
    assert backend._slots is not None
    expected = run(load(folder, in_slots=False), questions())
    assert run(backend, questions()) == expected
    assert run(backend, questions(), late=2) == expected
    assert [run(backend, [question])[0] for question in questions()] == expected


@pytest.mark.parametrize("family", OTHERWISE)
def test_what_slots_cannot_hold_takes_the_other_way(family: str, tiny: Callable[[str], Path]) -> None:
    assert load(tiny(family))._slots is None


def test_base_and_adapters_share_a_step(
    tiny: Callable[[str], Path], tiny_adapter: Callable[..., Path], ask: Callable[..., RowRequest]
) -> None:
    """Adapters of other ranks and on other layers, and one that is more than plain LoRA, which takes the other way."""
    base = tiny("llama")
    plain = tiny_adapter(base, seed=1)
    narrow = tiny_adapter(base, seed=2, r=2, target_modules=["k_proj", "down_proj"])
    dora = tiny_adapter(base, seed=3, use_dora=True)

    def questions() -> list[RowRequest]:
        return [ask(QUESTIONS[1], adapter, seed=5) for adapter in (narrow, None, plain, dora, None, narrow)]

    expected = run(load(base, in_slots=False), questions())
    backend = load(base)
    assert run(backend, questions(), late=2) == expected
    assert run(backend, questions()) == expected
    assert len({tuple(tokens) for tokens in expected}) == 4


def test_rows_take_and_leave_slots(tiny: Callable[[str], Path], ask: Callable[..., RowRequest]) -> None:
    """Nobody moves when another ends; a slot that is free again is taken first, and nothing of the last is read."""
    backend = load(tiny("llama"))
    rows = [backend.open(ask(max_new_tokens=40), list(range(5, 30 + number))) for number in range(3)]
    assert [row.slot for row in rows] == [0, 1, 2]
    backend.close_row(rows[1])
    assert [rows[0].slot, rows[2].slot] == [0, 2]
    late = backend.open(ask(max_new_tokens=40), [7, 8])
    assert late.slot == 1
    for row in (rows[0], rows[2], late):
        backend.close_row(row)
    assert run(backend, [ask(seed=3)]) == run(load(tiny("llama"), in_slots=False), [ask(seed=3)])


def test_long_prompts_are_read_in_portions_and_the_buffers_grow(
    tiny: Callable[[str], Path], ask: Callable[..., RowRequest]
) -> None:
    folder = tiny("qwen3")
    backend = load(folder)
    assert backend._slots is not None
    backend._slots.portion = backend.portion = 64

    def questions() -> list[RowRequest]:
        return [ask("안녕", seed=1, max_new_tokens=60), ask("긴 이야기 " * 60, seed=2), ask("짧게", seed=3)]

    assert run(backend, questions(), late=1) == run(load(folder, in_slots=False), questions())
    assert backend._slots._cache.length >= 1024


def test_without_memory_for_a_slot_a_row_takes_the_other_way(
    tiny: Callable[[str], Path], ask: Callable[..., RowRequest]
) -> None:
    backend = load(tiny("llama"))
    assert backend._slots is not None
    backend._slots._most = 2

    def questions() -> list[RowRequest]:
        return [ask(text, seed=seed) for seed, text in enumerate(QUESTIONS)]

    assert run(backend, questions()) == run(load(tiny("llama"), in_slots=False), questions())


def test_tokens_that_are_fixed_and_log_probabilities(
    tiny: Callable[[str], Path], ask: Callable[..., RowRequest]
) -> None:
    """A token that is to come replaces what was drawn, and what follows is computed from it."""
    found = []
    for in_slots in (True, False):
        backend = load(tiny("llama"), in_slots=in_slots)
        row = backend.open(ask(seed=2).model_copy(update={"top_logprobs": 2}), list(range(5, 40)))
        while not backend.read([row])[0]:
            pass
        said = []
        for step in range(12):
            if step == 4:
                row.forced = [11, 12]
            token = backend.draw([row])[0] or backend.draw([row])[0]
            assert isinstance(token, int)
            said.append((token, backend.likely(row, token)))
            row.tokens.append(token)
            backend.decode([row])
        found.append(said)
    assert [token for token, _ in found[0]] == [token for token, _ in found[1]]
    assert [token for token, _ in found[0]][4:6] == [11, 12]
    for (_, ours), (_, theirs) in zip(*found, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        assert [one.id for one in ours.top] == [one.id for one in theirs.top]


def test_a_row_without_numbers_ends_alone_and_leaves_a_clean_slot(
    tiny: Callable[[str], Path], ask: Callable[..., RowRequest]
) -> None:
    backend = load(tiny("llama"))
    assert backend._slots is not None
    bad, good = (backend.open(ask(seed=seed), list(range(5, 20))) for seed in (1, 2))
    assert all(backend.read([bad, good]))
    with torch.inference_mode():
        backend._slots._cache.layers[1].values[bad.slot] = float("nan")
    backend.draw([bad, good])
    first, second = backend.draw([bad, good])
    assert isinstance(first, VariantError)
    assert "no numbers" in str(first)
    assert isinstance(second, int)
    slot = bad.slot
    backend.close_row(bad)
    fresh = backend.open(ask(seed=4), list(range(5, 20)))
    assert fresh.slot == slot
    assert all(backend.read([fresh]))
    backend.draw([fresh])
    assert isinstance(backend.draw([fresh])[0], int)


SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.0, "repetition_penalty": 1.3, "frequency_penalty": 0.5},
    {"temperature": 0.7, "top_p": 0.5},
    {"temperature": 1.5, "top_k": 5},
    {"temperature": 1.0, "top_k": 40, "top_p": 0.8, "min_p": 0.02},
    {"temperature": 1.2, "min_p": 0.1, "presence_penalty": 1.0},
    {"temperature": 2.0, "top_p": 1.0, "repetition_penalty": 0.8},
]


def test_the_sampler_of_all_slots_draws_as_that_of_one_row() -> None:
    """Token for token, over the same logits: settings, history and random numbers are each row's own."""
    generator = torch.Generator().manual_seed(3)
    prompt, cpu = [3, 9, 9, 40], torch.device("cpu")
    chosen = [Sampling(**({"repetition_penalty": 1.0, "seed": seed} | more)) for seed, more in enumerate(SETTINGS)]
    alone = [Sampler(sampling, prompt, cpu) for sampling in chosen]
    together = SlotSampler(500, cpu)
    together.grow(8, 64)
    for slot, sampling in enumerate(chosen):
        together.join(slot, sampling, prompt, 50)
    slots, live = torch.arange(len(chosen)), torch.ones(len(chosen), dtype=torch.bool)
    fed = torch.full_like(slots, prompt[-1])
    for step in range(40):
        logits = torch.randn(len(chosen), 500, generator=generator) * 3
        places = torch.full_like(slots, len(prompt) - 1 + step)
        together.see(slots, fed, places, live)
        fed, good = together.draw(logits, places, draws=True, penalizes=True)
        assert bool(good.all())
        assert fed.tolist() == [sampler.draw(row) for sampler, row in zip(alone, logits, strict=True)]


def test_logits_that_are_no_numbers_are_told(tiny: Callable[[str], Path]) -> None:
    sampler = SlotSampler(50, torch.device("cpu"))
    sampler.grow(2, 8)
    logits = torch.randn(2, 50)
    logits[1, 7] = float("nan")
    for draws in (True, False):
        _, good = sampler.draw(logits, torch.zeros(2, dtype=torch.long), draws=draws, penalizes=False)
        assert good.tolist() == [True, False]
