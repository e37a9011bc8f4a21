"""The transformers backend on tiny random models: alone or in a batch, base or adapter, the same tokens."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from playground.allowance import Cancelled
from playground.answer_text import AnswerText
from playground.backends.prompting import prompt_of
from playground.backends.scheduler import Scheduler
from playground.backends.transformers import TransformersBackend
from playground.errors import VariantError
from playground.events import Event, Finished, Started
from playground.protocol import Choices, ModelSpec, Pause, RowRequest

QUESTIONS = ["안녕?", "hello world, tell me a long story about a courtyard", "🎉 마당이 뭐야? " * 4]
BATCHED = ["llama", "qwen3", "gemma2", "mistral"]


def load(folder: Path, **fields: Any) -> TransformersBackend:
    return TransformersBackend(ModelSpec(engine="transformers", name="tiny", path=str(folder), dtype="fp32", **fields))


def kept(backend: TransformersBackend) -> dict[str, list[int]]:
    """The tokens of each row by its id, once the backend has closed it."""
    tokens: dict[str, list[int]] = {}
    real = backend.close_row

    def close(row: Any) -> None:
        tokens[row.request.id] = list(row.tokens)
        real(row)

    backend.close_row = close  # type: ignore[method-assign]
    return tokens


def run(backend: TransformersBackend, requests: Sequence[RowRequest], late: int = 0) -> list[list[int]]:
    """The tokens of each request, asked together; the last `late` join after a few steps."""
    events: list[tuple[str, Event]] = []
    real = backend.close_row
    tokens = kept(backend)
    scheduler = Scheduler(backend, lambda row_id, event: events.append((row_id, event)), lambda row_id: False)
    scheduler.go_on = lambda: None  # type: ignore[method-assign] # rows join here when the test says so
    early = len(requests) - late
    for request in requests[:early]:
        scheduler.add(request, 0.0)
    for _ in range(5):
        scheduler.step()
    for request in requests[early:]:
        scheduler.add(request, 0.0)
    while not scheduler.idle:
        scheduler.step()
    backend.close_row = real  # type: ignore[method-assign]
    assert sum(isinstance(event, Finished) for _, event in events) == len(requests)
    return [tokens[request.id] for request in requests]


@pytest.mark.parametrize("family", [*BATCHED, "mamba2"])
def test_seeded_rows_read_the_same_alone_and_together(
    family: str, tiny: Callable[[str], Path], ask: Callable[..., RowRequest]
) -> None:
    backend = load(tiny(family))
    alone = [run(backend, [ask(text, seed=seed)])[0] for seed, text in enumerate(QUESTIONS)]
    together = run(backend, [ask(text, seed=seed) for seed, text in enumerate(QUESTIONS)])
    joining = run(backend, [ask(text, seed=seed) for seed, text in enumerate(QUESTIONS)], late=2)
    assert alone == together == joining
    assert len({tuple(tokens) for tokens in alone}) == len(QUESTIONS)


@pytest.mark.parametrize("family", BATCHED)
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_equals_generate(
    family: str, penalty: float, tiny: Callable[[str], Path], ask: Callable[..., RowRequest]
) -> None:
    """Longer than the sliding window of 16, so that its mask is seen at work."""
    backend = load(tiny(family))
    model = AutoModelForCausalLM.from_pretrained(tiny(family), dtype=torch.float32)
    requests = [ask(t, temperature=0.0, repetition_penalty=penalty, max_new_tokens=40) for t in QUESTIONS]
    for request, got in zip(requests, run(backend, requests), strict=True):
        prompt = torch.tensor([prompt_of(backend.tokenizer(), request).ids])
        wanted = GenerationConfig(max_new_tokens=40, do_sample=False, repetition_penalty=penalty, pad_token_id=0)
        wanted.eos_token_id = sorted(backend.tokenizer()._ends)
        expected = model.generate(prompt, generation_config=wanted)[0, prompt.shape[1] :].tolist()
        assert got == [token for token in expected if token not in backend.tokenizer()._ends]


def test_chunks_read_as_one_prompt(
    tiny: Callable[[str], Path], ask: Callable[..., RowRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = load(tiny("gemma2"))
    request = ask("긴 이야기 " * 30, temperature=0.0)
    whole = run(backend, [request])
    monkeypatch.setattr("playground.backends.transformers.CHUNK", 7)
    assert run(backend, [request]) == whole


def test_base_and_two_adapters_in_one_batch_equal_each_alone(
    tiny: Callable[[str], Path], tiny_adapter: Callable[..., Path], ask: Callable[..., RowRequest]
) -> None:
    base = tiny("llama")
    first, second = tiny_adapter(base, seed=1), tiny_adapter(base, seed=2, target_modules=["q_proj", "down_proj"])
    backend = load(base)

    def questions() -> list[RowRequest]:
        return [ask(QUESTIONS[1], adapter, seed=5) for adapter in (second, None, first, None, second)]

    together = run(backend, questions(), late=2)
    assert together == [run(backend, [request])[0] for request in questions()]
    assert len({tuple(tokens) for tokens in together}) == 3


def test_cancel_leaves_a_long_prompt_between_layers(
    tiny: Callable[[str], Path], ask: Callable[..., RowRequest]
) -> None:
    backend = load(tiny("llama"))
    row = backend.open(ask(), [5] * 297)
    looks = iter([False, True])
    row.cancelled = lambda: next(looks)
    with pytest.raises(Cancelled):
        backend.prefill(row)
    fresh = backend.open(ask(), [3, 4, 5])
    assert backend.prefill(fresh)


def test_context_overflow_drops_the_oldest_turns(tiny: Callable[[str], Path], ask: Callable[..., RowRequest]) -> None:
    backend = load(tiny("llama"), context=128)
    request = ask("마지막 질문", max_new_tokens=16)
    old = request.messages[0].model_copy(update={"content": "오래된 질문 " * 8})
    answer = old.model_copy(update={"role": "assistant", "content": "답"})
    request = request.model_copy(update={"messages": (old, answer, old, answer, *request.messages)})
    seen: list[Event] = []
    scheduler = Scheduler(backend, lambda row_id, event: seen.append(event), lambda row_id: False)
    scheduler.add(request, 0.0)
    while not scheduler.idle:
        scheduler.step()
    started = next(event for event in seen if isinstance(event, Started))
    assert started.dropped_turns == 2
    assert "마지막" in started.prompt
    assert "오래된" not in started.prompt


def test_text_holds_half_characters_back(tiny: Callable[[str], Path], ask: Callable[..., RowRequest]) -> None:
    backend = load(tiny("llama"))
    said = "안녕 👩‍👩‍👧 마당 🎉 end"
    decoder = AnswerText()
    pieces = [decoder.feed(backend.tokenizer().answer_bytes(token)) for token in backend.tokenizer().encode(said)]
    assert "".join(pieces) == said
    assert not any("\ufffd" in piece for piece in pieces)
    assert "" in pieces


def test_no_language_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nonsense", "architectures": ["NonsenseForCausalLM"]}')
    with pytest.raises(VariantError, match="nonsense"):
        load(tmp_path)


def test_gradients_stay_the_process_s_own_affair(tiny: Callable[[str], Path]) -> None:
    """A model in use never learns, and a trainer in the same process still can."""
    backend = load(tiny("llama"))
    assert not any(weight.requires_grad for weight in backend._model.parameters())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral"])
def test_scores_and_answers_go_on_together_and_are_what_they_are_alone(
    family: str, tiny: Callable[[str], Path], tiny_adapter: Callable[..., Path], ask: Callable[..., RowRequest]
) -> None:
    """Rows of base and adapter in the pauses of a score with the other's weights, and the other way round."""
    base = tiny(family)
    adapter = str(tiny_adapter(base))
    backend = load(base)
    asked = [ask(QUESTIONS[0], seed=1), ask(QUESTIONS[1], seed=2).model_copy(update={"adapter": adapter})]
    said = [run(backend, [row])[0] for row in asked]
    questions = [Choices(context=(5, 6, n % 40), continuations=((8, 9), (n % 50,))) for n in range(400)]
    prompts = [[5, 6, 7, number] for number in range(8)]
    alone = [(backend.score(questions, a), backend.prompt_logprobs(prompts, 2, a)) for a in (None, adapter)]
    scheduler = Scheduler(backend, lambda row_id, event: None, lambda row_id: False)
    tokens = kept(backend)
    backend.pause = Pause(others=scheduler.step)
    for row in asked:
        scheduler.add(row, 0.0)
    scheduler.step()
    together = [(backend.score(questions, a), backend.prompt_logprobs(prompts, 2, a)) for a in (None, adapter)]
    while not scheduler.idle:
        scheduler.step()
    assert together == alone
    assert [tokens[row.id] for row in asked] == said


def test_a_score_that_nobody_wants_ends_between_two_layers(tiny: Callable[[str], Path]) -> None:
    backend = load(tiny("llama"))
    asked = iter(range(99))
    backend.pause = Pause(given_up=lambda: next(asked) == 2)  # not at the pause, but in its batch
    with pytest.raises(Cancelled):
        backend.prompt_logprobs([[5, 6, 7]], 1)
    backend.pause = Pause()
    assert len(backend.prompt_logprobs([[5, 6, 7]], 1)[0]) == 3


def test_answers_at_once_are_bounded(
    tiny: Callable[[str], Path], ask: Callable[..., RowRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.backends.transformers.CPU_ROWS", 2)
    backend = load(tiny("llama"))
    widths: list[int] = []
    real = backend.decode

    def decode(rows: Any) -> Any:
        widths.append(len(rows))
        return real(rows)

    monkeypatch.setattr(backend, "decode", decode)
    assert len(run(backend, [ask(text, seed=seed) for seed, text in enumerate(QUESTIONS)])) == 3
    assert max(widths) == 2


@pytest.mark.parametrize("temperature", [0.0, 1e-40, 1e-6])
def test_the_coldest_temperatures_take_the_likeliest_token(
    temperature: float, tiny: Callable[[str], Path], ask: Callable[..., RowRequest]
) -> None:
    backend = load(tiny("llama"))
    assert run(backend, [ask("안녕?", temperature=temperature)]) == run(backend, [ask("안녕?", temperature=0.0)])
