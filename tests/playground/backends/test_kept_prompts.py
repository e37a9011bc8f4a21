"""llama.cpp's answers after a kept prompt are those after one read anew, bit for bit, and fewer tokens are read."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from playground.backends.llama_cpp import LlamaCppBackend, LlamaRow
from playground.events import TokenLogprob
from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import Choices, ModelSpec, RowRequest
from tests.playground.backends.test_llama_cpp import run

pytestmark = pytest.mark.models

SYSTEM = "You answer in one short sentence, kindly, and you never speak of the weather or of politics."
LONG = "The story begins in a small village by the sea. " * 48
"""Longer than one batch."""


class Watched(LlamaCppBackend):
    """Counts the prompt tokens that it computes."""

    computed = 0

    def _read(self, row: LlamaRow, portion: Sequence[int], last: bool) -> None:
        self.computed += len(portion)
        super()._read(row, portion, last)


@pytest.fixture(scope="module")
def file(demo_models: Path) -> str:
    """Q4_K_M: the kernels that round by the shape of a batch."""
    return str(next((demo_models / "smollm2-demo-gguf").glob("*.gguf")))


@pytest.fixture(scope="module")
def load(file: str) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(context: int | None = None, path: str = file) -> Watched:
        spec = ModelSpec(engine="llama_cpp", name="q", path=path, threads=2, gpu_layers=0, context=context)
        made.append(Watched(spec))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture(scope="module")
def fresh(load: Callable[..., Watched]) -> Callable[[RowRequest], list[TokenLogprob]]:
    """Reads every prompt anew."""
    backend = load()

    def ask(row: RowRequest) -> list[TokenLogprob]:
        with backend._scoring():
            """Forgets everything."""
        return said(backend, row)

    return ask


def chat(*turns: str, row_id: str = "r", system: str = SYSTEM, **fields: float) -> RowRequest:
    """A conversation whose turns are the user's and the assistant's alternately."""
    roles = ("user", "assistant")
    messages = [Message(role=roles[index % 2], content=turn) for index, turn in enumerate(turns)]  # type: ignore[arg-type]
    sampling = {"temperature": 0.9, "repetition_penalty": 1.1, "seed": 5, "max_new_tokens": 12} | fields
    return RowRequest(
        id=row_id,
        variant="v",
        messages=(Message(role="system", content=system), *messages),
        top_logprobs=3,
        sampling=Sampling.model_validate(sampling),
    )


def said(backend: LlamaCppBackend, *rows: RowRequest) -> list[TokenLogprob]:
    """The first row's tokens with their log-probabilities."""
    events = run(backend, list(rows))
    return [token for event in events if event.variant == "v" for token in getattr(event, "tokens", ())]


@pytest.mark.slow
def test_a_kept_prompt_gives_the_very_numbers_of_one_read_anew(
    load: Callable[..., Watched], fresh: Callable[[RowRequest], list[TokenLogprob]]
) -> None:
    backend = load()
    asked = [
        chat("Name three fruits, please."),
        chat("Name three fruits, please.", "Apples, pears and plums are three fruits.", "And three that are red?"),
        chat("What is the capital of France?"),
        chat(LONG + "What is it about?"),
        chat(LONG + "What is it about?", "A village by the sea, it seems.", "Whose village?"),
        chat("What is the capital of France?", seed=9),
    ]
    computed = []
    for row in asked:
        before = backend.computed
        assert said(backend, row) == fresh(row)
        computed.append(backend.computed - before)
    assert computed[1] < 30  # the answer and the next question, not the first one
    assert computed[2] < 30  # the question and the header of its answer, not the system prompt
    assert computed[3] > 512
    assert computed[4] < 60
    assert computed[5] < 30


@pytest.mark.slow
def test_answers_made_at_once_share_one_reading(load: Callable[..., Watched]) -> None:
    backend = load()
    rows = [chat(LONG + "What is it about?", row_id=str(number), seed=number) for number in range(4)]
    run(backend, rows)
    assert backend.computed < 800  # of some 2,800


@pytest.mark.slow
def test_kept_prompts_give_way_to_answers(
    load: Callable[..., Watched], fresh: Callable[[RowRequest], list[TokenLogprob]]
) -> None:
    """In a context of 128, with prompts of about 50 and answers of 30, no decode may find the cache full."""
    backend = load(context=128)
    for number in range(3):
        row = chat(f"Tell me a story about the number {number}.", system=f"{number} {SYSTEM}", max_new_tokens=30)
        assert len(said(backend, row)) == len(fresh(row))
    rows = [chat(f"Count from {number}.", row_id=str(number), max_new_tokens=30) for number in range(6)]
    assert sum(type(event).__name__ == "Finished" for event in run(backend, rows)) == 6


def test_scoring_takes_the_whole_cache(load: Callable[..., Watched]) -> None:
    backend = load()
    first = said(backend, chat("Name three fruits, please."))
    question = Choices(context=(1, 2, 3), continuations=((4, 5), (6,)))
    scored = backend.score([question])
    before = backend.computed
    assert said(backend, chat("Name three fruits, please.")) == first
    assert backend.computed - before == 40
    assert backend.score([question]) == scored


@pytest.fixture
def recurrent(demo_models: Path, tmp_path: Path) -> str:
    """A tiny Mamba 2 as a GGUF, with the embedded model's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from tests.playground.backends.conftest import FAMILIES
    from training.export.gguf import convert

    words = AutoTokenizer.from_pretrained(demo_models / "smollm2")
    shape = FAMILIES["mamba2"] | {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": len(words)}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba2", **shape)).save_pretrained(tmp_path / "mamba2")
    words.save_pretrained(tmp_path / "mamba2")
    convert(tmp_path / "mamba2", tmp_path / "mamba2.gguf")
    return str(tmp_path / "mamba2.gguf")


def test_a_state_cannot_be_kept(load: Callable[..., Watched], recurrent: str) -> None:
    """A recurrent model's state is that after its last token: every prompt is read whole, and answers stay the same."""
    backend = load(path=recurrent)
    row = chat("안녕하세요? 마당입니다.")
    first, computed = said(backend, row), backend.computed
    assert len(first) > 0
    assert said(backend, row) == first
    assert backend.computed == 2 * computed
