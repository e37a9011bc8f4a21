"""What only an NVIDIA card can show: 4-bit bases with adapters, and rows alone or together: make test TESTS=gpu."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from playground.backends.scheduler import Scheduler
from playground.backends.transformers import TransformersBackend
from playground.events import Finished
from playground.protocol import Choices, ModelSpec, RowRequest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card here"),
]


def load(folder: Path, **fields: Any) -> TransformersBackend:
    return TransformersBackend(ModelSpec(engine="transformers", name="tiny", path=str(folder), **fields))


def run(backend: TransformersBackend, requests: list[RowRequest]) -> dict[str, str]:
    texts: dict[str, str] = {}

    def emit(row_id: str, event: object) -> None:
        if isinstance(event, Finished):
            texts[row_id] = event.text

    scheduler = Scheduler(backend, emit, lambda row_id: False)
    for request in requests:
        scheduler.add(request, 0.0)
    while not scheduler.idle:
        scheduler.step()
    return texts


def test_bf16_is_chosen_and_the_card_is_counted(tiny: Callable[[str], Path]) -> None:
    info = load(tiny("llama")).info
    assert (info.dtype, info.device) == ("bf16", "cuda")
    assert info.vram_bytes > 0


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_fp32_rows_read_the_same_alone_and_together(
    family: str, tiny: Callable[[str], Path], ask: Callable[..., RowRequest]
) -> None:
    backend = load(tiny(family), dtype="fp32")
    rows = [ask(text, seed=seed) for seed, text in enumerate(["안녕?", "hello world, tell me of a courtyard"])]
    alone = {row.id: run(backend, [row])[row.id] for row in rows}
    assert run(backend, rows) == alone


def test_4_bit_base_and_adapter_answer_and_score(
    tiny: Callable[[str], Path], tiny_adapter: Callable[..., Path], ask: Callable[..., RowRequest]
) -> None:
    base = tiny("llama")
    backend = load(base, load_in_4bit=True)
    assert backend.info.dtype == "nf4"
    assert any(type(module).__name__ == "Linear4bit" for module in backend._model.modules())
    adapter = tiny_adapter(base)
    rows = [ask("hello", temperature=0.0), ask("hello", adapter, temperature=0.0)]
    texts = run(backend, rows)
    assert len(texts) == 2
    question = Choices(context=(5, 6, 7, 8), continuations=((9, 10), (11,)))
    bare, adapted = backend.score([question]).logprobs, backend.score([question], str(adapter)).logprobs
    assert all(value < 0 for value in bare[0] + adapted[0])
    assert bare != adapted
