"""Log-probabilities of whole prompts against a plain pass each, for models that share contexts and that cannot."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from playground.backends.logprobs import Room, grouped, prompt_logprobs
from playground.backends.transformers import TransformersBackend
from playground.protocol import ModelSpec, PromptToken

ROOMY = Room(10**6, 10**6, 10**6)
FAMILIES = ["llama", "qwen3", "gemma2", "mistral", "mamba2"]


def load(folder: Path) -> TransformersBackend:
    return TransformersBackend(ModelSpec(engine="transformers", name="tiny", path=str(folder), dtype="fp32"))


def some_prompts() -> list[list[int]]:
    """Single tokens, strangers, families that begin alike, one inside another, and the same twice."""
    generator = torch.Generator().manual_seed(11)
    shared = torch.randint(3, 250, (40,), generator=generator).tolist()
    rests = [torch.randint(3, 250, (n,), generator=generator).tolist() for n in (1, 5, 12, 70)]
    return [[7], [7, 8], *([*shared, *rest] for rest in rests), shared, rests[3], [*shared, *rests[1]], shared[:12]]


def reference(folder: Path, ids: list[int], top: int) -> list[tuple[float, list[float]]]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        rows = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), dim=-1)
    return [(float(row[token]), row.topk(top).values.tolist()) for row, token in zip(rows, ids[1:], strict=False)]


def check(folder: Path, prompts: list[list[int]], got: list[list[PromptToken]], top: int) -> None:
    assert [[token.id for token in row] for row in got] == prompts
    for ids, (first, *rest) in zip(prompts, got, strict=True):
        assert (first.logprob, first.top) == (None, ())
        for token, (logprob, best) in zip(rest, reference(folder, ids, top), strict=True):
            assert token.logprob == pytest.approx(logprob, abs=1e-3)
            assert [one.logprob for one in token.top] == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_equal_one_pass_each(family: str, tiny: Callable[[str], Path]) -> None:
    prompts = some_prompts()
    check(tiny(family), prompts, load(tiny(family)).prompt_logprobs(prompts, 3), 3)


@pytest.mark.parametrize("family", ["llama", "gemma2", "mamba2"])
def test_logits_in_small_parts_are_the_models_own(
    family: str, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 2 caps its logits after the output layer, so a part that skipped that would show."""
    backend = load(tiny(family))
    whole = backend.prompt_logprobs(some_prompts(), 2)
    sizes: list[int] = []
    monkeypatch.setattr(backend._carriers.base.scorer, "_places", 7)
    head = backend._model.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, arguments, output: sizes.append(output.shape[1]))
    parts = backend.prompt_logprobs(some_prompts(), 2)
    hook.remove()
    assert max(sizes) == 7
    for row, other in zip(whole, parts, strict=True):
        assert [token.id for token in row] == [token.id for token in other]
        values = [token.logprob for token in other[1:]]
        assert [token.logprob for token in row[1:]] == pytest.approx(values, abs=1e-4)


def test_what_prompts_begin_with_is_computed_once(tiny: Callable[[str], Path]) -> None:
    backend = load(tiny("llama"))
    widths: list[int] = []
    layer = backend._model.model.layers[0]
    hook = layer.register_forward_hook(lambda module, arguments, output: widths.append(arguments[0].shape[1]))
    backend.prompt_logprobs([[5] * 50 + [6, 7], [5] * 50 + [8, 9], [5] * 50 + [9]], 0)
    hook.remove()
    assert widths == [52]


def test_an_adapter_reads_with_its_own_weights(tiny: Callable[[str], Path], tiny_adapter: Callable[..., Path]) -> None:
    backend = load(tiny("llama"))
    adapter = str(tiny_adapter(tiny("llama")))
    prompts = [[5, 6, 7, 8], [5, 6, 9]]
    bare = backend.prompt_logprobs(prompts, 1)
    adapted = backend.prompt_logprobs(prompts, 1, adapter)
    assert backend.prompt_logprobs(prompts, 1) == bare
    for ids, row in zip(prompts, adapted, strict=True):
        wanted = backend.logprobs(ids, adapter)
        expected = [float(wanted[place, token]) for place, token in enumerate(ids[1:])]
        assert [token.logprob for token in row[1:]] == pytest.approx(expected, abs=1e-3)
    assert adapted != bare


def test_the_likeliest_come_first_and_may_be_all(tiny: Callable[[str], Path]) -> None:
    backend = load(tiny("llama"))
    _, token = backend.prompt_logprobs([[5, 6]], 10**6)[0]
    values = [one.logprob for one in token.top]
    assert len(values) == backend.info.vocabulary
    assert values == sorted(values, reverse=True)
    assert token.logprob == next(one.logprob for one in token.top if one.id == 6)


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=12),
    st.integers(0, 12),
    st.integers(1, 4),
    st.integers(1, 40),
)
def test_groups_hold_every_prompt_once_and_fit(prompts: list[list[int]], longest: int, rows: int, tokens: int) -> None:
    groups = list(grouped(prompts, Room(longest, rows, tokens)))
    assert sorted(index for group in groups for index in group) == [i for i, ids in enumerate(prompts) if len(ids) > 1]
    for group in groups:
        if len(group) > 1:
            assert len(group) <= rows
            assert max(len(prompts[index]) for index in group) <= longest
            assert len({tuple(prompts[index][: len(prompts[group[0]]) // 2]) for index in group}) == 1


def test_nothing_asked_is_nothing_told() -> None:
    assert prompt_logprobs([], ROOMY, lambda questions: ([], 0), lambda token: b"") == []
