"""Rows in slots on a card: captured steps give what the model's own passes give."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from playground.backends.transformers import TransformersBackend
from playground.protocol import ModelSpec, RowRequest
from tests.playground.backends.test_transformers import QUESTIONS, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card here"),
]
FAMILIES = ["llama", "qwen3", "qwen2", "opt"]


def load(folder: Path, in_slots: bool | None = None, **fields: Any) -> TransformersBackend:
    spec = ModelSpec(engine="transformers", name="tiny", path=str(folder), **{"dtype": "fp32"} | fields)
    return TransformersBackend(spec, in_slots=in_slots)


def questions(ask: Callable[..., RowRequest], adapters: Sequence[Path | None], temperature: float) -> list[RowRequest]:
    texts = [QUESTIONS[number % 3] for number in range(len(adapters))]
    told = [{}, {"top_k": 7, "repetition_penalty": 1.0}, {"min_p": 0.05, "presence_penalty": 0.7}]
    return [
        ask(text, adapter, temperature=temperature, seed=seed, **told[seed % 3])
        for seed, (text, adapter) in enumerate(zip(texts, adapters, strict=True))
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_captured_rows_answer_as_the_others(
    family: str, temperature: float, tiny: Callable[[str], Path], ask: Callable[..., RowRequest]
) -> None:
    backend = load(tiny(family))
    assert backend._slots is not None
    expected = run(load(tiny(family), in_slots=False), questions(ask, [None] * 5, temperature))
    assert run(backend, questions(ask, [None] * 5, temperature)) == expected
    assert run(backend, questions(ask, [None] * 5, temperature), late=3) == expected
    assert [run(backend, [one])[0] for one in questions(ask, [None] * 5, temperature)] == expected


def test_base_and_two_adapters_in_one_graph(
    tiny: Callable[[str], Path], tiny_adapter: Callable[..., Path], ask: Callable[..., RowRequest]
) -> None:
    base = tiny("llama")
    first, second = tiny_adapter(base, seed=1), tiny_adapter(base, seed=2, r=2, target_modules=["q_proj", "down_proj"])
    adapters = [second, None, first, None, second]
    expected = run(load(base, in_slots=False), questions(ask, adapters, 0.9))
    assert run(load(base), questions(ask, adapters, 0.9), late=2) == expected


def test_prompts_are_read_with_flash_attention(tiny: Callable[[str], Path], ask: Callable[..., RowRequest]) -> None:
    """It is the only kernel that may run: the beginning of a prompt, and a later portion."""
    backend = load(tiny("llama"), dtype="bf16")
    assert backend._slots is not None
    backend._slots.portion = 64
    row = backend.open(ask(), [number % 300 for number in range(150)])
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        while not backend.read([row])[0]:
            pass
    backend.close_row(row)


def test_4_bit_rows_are_captured(
    tiny: Callable[[str], Path], tiny_adapter: Callable[..., Path], ask: Callable[..., RowRequest]
) -> None:
    backend = load(tiny("llama"), dtype="auto", load_in_4bit=True)
    assert backend._slots is not None
    adapter = tiny_adapter(tiny("llama"))
    assert all(run(backend, questions(ask, [None, adapter], 0.0)))
