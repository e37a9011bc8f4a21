"""Scores of choices against one plain pass a choice, for models that share contexts and models that cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from playground.backends.layout import Batch, batches
from playground.backends.transformers import TransformersBackend
from playground.backends.tree import PlainScorer, TreeScorer, WindowedScorer
from playground.protocol import Choices, ModelSpec


def load(folder: Path) -> TransformersBackend:
    return TransformersBackend(ModelSpec(engine="transformers", name="tiny", path=str(folder), dtype="fp32"))


def some_questions(count: int, single: bool = False) -> list[Choices]:
    """Contexts of 3 to 60 tokens with 2 to 4 continuations of 1 to 9."""
    generator = torch.Generator().manual_seed(5)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        size = int(torch.randint(low, high, (1,), generator=generator))
        return tuple(torch.randint(3, 250, (size,), generator=generator).tolist())

    made = []
    for number in range(count):
        choices = tuple(tokens(1, 2 if single else 10) for _ in range(2 + number % 3))
        made.append(Choices(context=tokens(3, 60), continuations=choices))
    return made


def reference(model: Any, question: Choices) -> tuple[list[float], list[bool]]:
    """One pass a choice, as the definition says."""
    sums, best = [], []
    for continuation in question.continuations:
        ids = [*question.context, *continuation]
        with torch.no_grad():
            logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), dim=-1)
        places = range(len(question.context) - 1, len(ids) - 1)
        sums.append(sum(float(logprobs[place, ids[place + 1]]) for place in places))
        best.append(all(int(logprobs[place].argmax()) == ids[place + 1] for place in places))
    return sums, best


@pytest.mark.parametrize("short", [20, 384])
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(
    ("family", "kind"),
    [("llama", TreeScorer), ("qwen3", TreeScorer), ("gemma2", PlainScorer), ("mistral", WindowedScorer)],
)
def test_scores_equal_one_pass_a_choice(  # noqa: PLR0913 - a parameter an axis
    family: str,
    kind: type,
    single: bool,
    short: int,
    tiny: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("playground.backends.layout.SHORT", short)
    backend = load(tiny(family))
    assert type(backend._carriers.base.scorer) is kind
    model = AutoModelForCausalLM.from_pretrained(tiny(family), dtype=torch.float32)
    questions = some_questions(17, single)
    scored = backend.score(questions)
    for question, sums, best in zip(questions, scored.logprobs, scored.greedy, strict=True):
        expected, expected_best = reference(model, question)
        assert sums == pytest.approx(expected, abs=1e-3)
        assert best == expected_best


def test_questions_within_the_window_share_their_context(tiny: Callable[[str], Path]) -> None:
    backend = load(tiny("mistral"))
    window = backend._model.config.sliding_window
    choices = ((7, 8), (9, 10))
    within = Choices(context=(5,) * (window - 1), continuations=choices)
    beyond = Choices(context=(5,) * window, continuations=choices)
    assert backend.score([within]).computed == within.size
    assert backend.score([beyond]).computed == 2 * (window + 1)
    assert backend.score([beyond, within, beyond]).logprobs[1] == pytest.approx(backend.score([within]).logprobs[0])


def test_the_greedy_continuation_is_seen(tiny: Callable[[str], Path]) -> None:
    backend = load(tiny("llama"))
    context = [5, 9, 40, 41]
    said: list[int] = []
    for _ in range(3):
        said.append(int(backend.logprobs([*context, *said])[-1].argmax()))
    other = (said[0], said[1], (said[2] + 1) % 250)
    scored = backend.score([Choices(context=tuple(context), continuations=(tuple(said), other))])
    assert scored.greedy == [[True, False]]
    assert scored.logprobs[0][0] > scored.logprobs[0][1]


def test_adapter_scores_with_its_own_weights(tiny: Callable[[str], Path], tiny_adapter: Callable[..., Path]) -> None:
    from peft import PeftModel

    base = tiny("llama")
    folder = tiny_adapter(base)
    backend = load(base)
    questions = some_questions(5)
    bare = backend.score(questions).logprobs
    adapted = backend.score(questions, str(folder)).logprobs
    assert backend.score(questions).logprobs == bare
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder)
    for question, sums in zip(questions, adapted, strict=True):
        assert sums == pytest.approx(reference(model, question)[0], abs=1e-3)
    assert adapted != bare


def test_chat_goes_on_as_before_after_scoring(tiny: Callable[[str], Path]) -> None:
    backend = load(tiny("llama"))
    before = backend.logprobs([5, 6, 7, 8])
    backend.score(some_questions(3))
    assert (backend.logprobs([5, 6, 7, 8]) == before).all()


def test_few_tokens_more_than_the_least_are_computed(tiny: Callable[[str], Path]) -> None:
    """Lengths as KoBEST's have them, in numbers: hundreds of questions sorted by length leave little padding."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(60, 400, (400,), generator=generator).tolist()
    questions = [Choices(context=(5,) * n, continuations=((6,) * (20 + n % 7), (7,) * 22)) for n in lengths]
    computed = sum(Batch.of([questions[i] for i in group]).tokens for group in batches(questions, 1024))
    assert computed / sum(question.size for question in questions) < 1.05


def test_every_question_is_in_one_batch() -> None:
    questions = some_questions(40)
    groups = list(batches(questions, 200))
    assert sorted(index for group in groups for index in group) == list(range(40))
    assert all(len(group) == 1 or Batch.of([questions[i] for i in group]).tokens <= 200 for group in groups)
