"""llama.cpp on the embedded model: the same prompts, tokens and scores as transformers, and errors that say why."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as lib
import pytest

from playground.allowance import Cancelled
from playground.backends.llama_cpp import LlamaCppBackend
from playground.backends.prompting import prompt_of
from playground.backends.scheduler import Scheduler
from playground.backends.transformers import TransformersBackend
from playground.errors import VariantError
from playground.events import Delta, Event, Finished, Started, TokenLogprob
from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import Choices, ModelSpec, Pause, RowRequest

pytestmark = pytest.mark.models

PROMPTS = [
    "What is the capital of France?",
    "Write one sentence about rain.",
    "안녕하세요?",
    "List three fruits. 🍎",
    "def add(a, b):",
]


@pytest.fixture(scope="module")
def llama(demo_f16: Path) -> Iterator[LlamaCppBackend]:
    backend = LlamaCppBackend(ModelSpec(engine="llama_cpp", name="f16", path=str(demo_f16), threads=2, gpu_layers=0))
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def torch32(demo_models: Path) -> TransformersBackend:
    folder = str(demo_models / "smollm2")
    return TransformersBackend(ModelSpec(engine="transformers", name="base", path=folder, dtype="fp32", threads=2))


def request(text: str, row_id: str = "r", **fields: Any) -> RowRequest:
    greedy = {"temperature": 0.0, "repetition_penalty": 1.0, "max_new_tokens": 32, "seed": 1}
    return RowRequest(
        id=row_id,
        variant="v",
        messages=(Message(role="user", content=text),),
        sampling=Sampling(**greedy | fields),
    )


def run(backend: Any, requests: list[RowRequest], cancelled: Callable[[str], bool] = lambda _: False) -> list[Event]:
    events: list[Event] = []
    scheduler = Scheduler(backend, lambda row_id, event: events.append(event), cancelled)
    for row in requests:
        scheduler.add(row, time.monotonic())
    while not scheduler.idle:
        scheduler.step()
    return events


def answer(events: list[Event]) -> Finished:
    return next(event for event in events if isinstance(event, Finished))


@pytest.mark.parametrize(
    ("text", "penalty"),
    [
        pytest.param(text, penalty, marks=() if (number, penalty) in ((0, 1.0), (2, 1.15)) else pytest.mark.slow)
        for number, text in enumerate(PROMPTS)
        for penalty in (1.0, 1.15)
    ],
)
def test_greedy_fp32_equals_greedy_f16(
    text: str, penalty: float, llama: LlamaCppBackend, torch32: TransformersBackend
) -> None:
    row = request(text, repetition_penalty=penalty)
    assert prompt_of(llama.tokenizer(), row) == prompt_of(torch32.tokenizer(), row)
    ours, theirs = answer(run(llama, [row])).text, answer(run(torch32, [row])).text
    if ours != theirs:  # allowed at a tie alone: F16 cannot decide between two tokens that fp32 holds equal
        assert tie(torch32, prompt_of(torch32.tokenizer(), row).text, ours, theirs) < 0.02
    assert ours[:20] == theirs[:20]


def tie(backend: TransformersBackend, prompt: str, one: str, other: str) -> float:
    """How far apart, in nats, fp32 holds the two tokens at which two answers part."""
    first, second = backend.tokenizer().encode(prompt + one, False), backend.tokenizer().encode(prompt + other, False)
    place = next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    logprobs = backend.logprobs(first[:place])[-1]
    return abs(float(logprobs[first[place]] - logprobs[second[place]]))


def test_seeds_reproduce(llama: LlamaCppBackend) -> None:
    def said(seed: int) -> str:
        return answer(run(llama, [request(PROMPTS[1], temperature=1.2, seed=seed)])).text

    assert said(4) == said(4)
    assert said(4) != said(5)


def test_rows_decode_together(llama: LlamaCppBackend) -> None:
    """Each row draws from its own logits, though the prompts are read one after another."""
    texts = [PROMPTS[0], PROMPTS[1], PROMPTS[3]]
    alone = [answer(run(llama, [request(text)])).text for text in texts]
    rows = [request(text, str(number)) for number, text in enumerate(texts)]
    together = [event for event in run(llama, rows) if isinstance(event, Finished)]
    assert sorted(event.text for event in together) == sorted(alone)


def test_more_rows_than_fit_wait_for_their_turn(demo_f16: Path) -> None:
    backend = LlamaCppBackend(
        ModelSpec(engine="llama_cpp", name="f16", path=str(demo_f16), threads=2, gpu_layers=0, context=128)
    )
    rows = [request(PROMPTS[0], str(number), max_new_tokens=24) for number in range(4)]
    ends = [event for event in run(backend, rows) if isinstance(event, Finished)]
    assert len({event.text for event in ends}) == 1
    assert len(ends) == 4
    backend.close()


def test_cancel_inside_a_long_prompt_frees_the_engine(llama: LlamaCppBackend) -> None:
    flag = threading.Event()
    stopped: list[float] = []

    def cancel() -> None:
        flag.set()
        stopped.append(time.monotonic())

    timer = threading.Timer(0.3, cancel)
    timer.start()
    events = run(llama, [request("마당 " * 700, max_new_tokens=8)], lambda _: flag.is_set())
    freed = time.monotonic()
    assert answer(events).reason == "cancelled"
    assert answer(events).stats.tokens == 0
    assert freed - stopped[0] < 0.5
    assert answer(run(llama, [request(PROMPTS[0])])).text.startswith("The capital of France")


def test_overflow_drops_the_oldest_turns(demo_f16: Path) -> None:
    backend = LlamaCppBackend(
        ModelSpec(engine="llama_cpp", name="f16", path=str(demo_f16), threads=2, gpu_layers=0, context=160)
    )
    old = (Message(role="user", content="Tell me of rain. " * 24), Message(role="assistant", content="It rains."))
    row = request(PROMPTS[0], max_new_tokens=16)
    events = run(backend, [row.model_copy(update={"messages": (*old, *old, *row.messages)})])
    started = next(event for event in events if isinstance(event, Started))
    assert started.dropped_turns == 2
    assert "Tell me of rain" not in started.prompt
    assert answer(events).text
    backend.close()


def test_scores_equal_transformers_up_to_16_bits(llama: LlamaCppBackend, torch32: TransformersBackend) -> None:
    questions = []
    for context, choices in [
        ("비가 온다. 그래서", (" 우산을 썼다.", " 모자를 벗었다.")),
        ("2 + 2 =", (" 4", " 5", " 22")),
    ]:
        start = llama.tokenizer().encode(context)
        rest = tuple(tuple(llama.tokenizer().encode(context + choice)[len(start) :]) for choice in choices)
        questions.append(Choices(context=tuple(start), continuations=rest))
    ours, theirs = llama.score(questions), torch32.score(questions)
    for mine, other in zip(ours.logprobs, theirs.logprobs, strict=True):
        assert mine == pytest.approx(other, abs=0.1)
    assert ours.greedy == theirs.greedy
    assert ours.computed == sum(question.size for question in questions)


def test_a_choice_must_be_encoded_with_its_context(llama: LlamaCppBackend, torch32: TransformersBackend) -> None:
    """The planted fault: encoding the two apart gives other scores, so the comparison above can fail."""
    context, choice = "The capital of France is", " Paris"
    start = tuple(llama.tokenizer().encode(context))
    right = Choices(context=start, continuations=(tuple(llama.tokenizer().encode(context + choice)[len(start) :]),))
    apart = Choices(context=start, continuations=(tuple(llama.tokenizer().encode(choice.strip())),))
    assert abs(llama.score([apart]).logprobs[0][0] - torch32.score([right]).logprobs[0][0]) > 1.0


def test_distributions_follow_transformers(llama: LlamaCppBackend, torch32: TransformersBackend) -> None:
    import numpy as np

    ids = llama.tokenizer().encode("The courtyard was the quietest part of the house.")
    ours, theirs = llama.logprobs(ids), torch32.logprobs(ids)
    assert ours.shape == theirs.shape == (len(ids), 49152)
    assert np.exp(ours.astype(float)).sum(axis=1) == pytest.approx(np.ones(len(ids)), abs=1e-4)
    divergence = (np.exp(theirs.astype(float)) * (theirs - ours)).sum(axis=1)
    assert divergence.max() < 1e-3


def tokens_told(backend: Any, row: RowRequest) -> list[TokenLogprob]:
    return [token for event in run(backend, [row]) if isinstance(event, Delta) for token in event.tokens]


@pytest.mark.parametrize("text", [PROMPTS[2], *(pytest.param(text, marks=pytest.mark.slow) for text in PROMPTS[:2])])
def test_log_probabilities_of_an_answer_follow_transformers(
    text: str, llama: LlamaCppBackend, torch32: TransformersBackend
) -> None:
    """Under the model itself: the penalties and the temperature that chose the tokens leave no trace in them."""
    chosen: dict[str, Any] = {
        "temperature": 0.7,
        "repetition_penalty": 1.2,
        "presence_penalty": 1.0,
        "frequency_penalty": 0.5,
    }
    row = request(text, max_new_tokens=12, **chosen).model_copy(update={"top_logprobs": 5})
    prompt, told = prompt_of(llama.tokenizer(), row).ids, tokens_told(llama, row)
    ids = [token.id for token in told]
    assert len(ids) == 12
    expected = torch32.logprobs([*prompt, *ids])[len(prompt) - 1 :]
    for token, theirs in zip(told, expected, strict=False):
        assert token.logprob == pytest.approx(float(theirs[token.id]), abs=0.05)
        assert [one.logprob for one in token.top] == pytest.approx(
            [float(theirs[one.id]) for one in token.top], abs=0.05
        )
        assert token.top[0].logprob == pytest.approx(float(theirs.max()), abs=0.05)
    assert (
        b"".join(bytes(token.raw) for token in told).decode(errors="replace").startswith(answer(run(llama, [row])).text)
    )


def test_prompts_read_as_transformers_reads_them(llama: LlamaCppBackend, torch32: TransformersBackend) -> None:
    """One longer than a batch, two that begin alike, one of a single token."""
    texts = [
        "The courtyard was quiet. " * 60,
        "마당은 조용하다.",
        "The capital of France is Paris",
        "The capital of France is Rome",
    ]
    prompts = [*map(llama.tokenizer().encode, texts), [5]]
    assert len(prompts[0]) > 256
    ours, theirs = llama.prompt_logprobs(prompts, 3), torch32.prompt_logprobs(prompts, 3)
    for ids, mine, other in zip(prompts, ours, theirs, strict=True):
        assert [token.id for token in mine] == ids
        assert [token.raw for token in mine] == [token.raw for token in other]
        assert mine[0].logprob is None
        values = [token.logprob for token in other[1:]]
        assert [token.logprob for token in mine[1:]] == pytest.approx(values, abs=0.1)
        for one, two in zip(mine[1:], other[1:], strict=True):
            assert [best.logprob for best in one.top] == pytest.approx([best.logprob for best in two.top], abs=0.1)


def test_every_token_spells_the_same_in_both_engines(llama: LlamaCppBackend, torch32: TransformersBackend) -> None:
    ids = range(llama.info.vocabulary)
    assert [llama.tokenizer().piece(token) for token in ids] == [torch32.tokenizer().piece(token) for token in ids]


def test_penalties_on_the_answer_choose_what_they_say(llama: LlamaCppBackend, torch32: TransformersBackend) -> None:
    """Every token is the best by fp32's own distribution less the penalties, but for ties within 16 bits."""
    row = request(PROMPTS[3], presence_penalty=1.0, frequency_penalty=0.5).model_copy(update={"top_logprobs": 0})
    prompt, ids = prompt_of(llama.tokenizer(), row).ids, [token.id for token in tokens_told(llama, row)]
    rows = torch32.logprobs([*prompt, *ids])[len(prompt) - 1 : -1]
    for step, (token, scores) in enumerate(zip(ids, rows, strict=True)):
        for said in ids[:step]:
            scores[said] -= 0.5
        scores[list(set(ids[:step]))] -= 1.0
        assert scores.max() - scores[token] < 0.02
    assert answer(run(llama, [row])).text != answer(run(llama, [request(PROMPTS[3])])).text


def test_a_prompt_of_ids_reads_as_its_text(llama: LlamaCppBackend) -> None:
    row = request(PROMPTS[0])
    prompt = prompt_of(llama.tokenizer(), row)
    ids = row.model_copy(update={"messages": (), "ids": tuple(prompt.ids)})
    assert prompt_of(llama.tokenizer(), ids) == prompt._replace(stops=(), families=())
    assert answer(run(llama, [ids])).text == answer(run(llama, [row])).text


def test_a_truncated_file_is_refused_with_llama_cpps_reason(demo_f16: Path, tmp_path: Path) -> None:
    broken = tmp_path / "cut.gguf"
    broken.write_bytes(demo_f16.read_bytes()[: 50 * 2**20])
    with pytest.raises(VariantError, match="cut.gguf") as caught:
        LlamaCppBackend(ModelSpec(engine="llama_cpp", name="cut", path=str(broken), gpu_layers=0))
    assert "bounds" in caught.value.message or "incomplete" in caught.value.message


def test_a_file_that_is_newer_than_llama_cpp_asks_for_a_newer_one(tmp_path: Path, model_files: Any) -> None:
    path = model_files.gguf(tmp_path / "new.gguf", fields={"general.architecture": "llama9"})
    with pytest.raises(VariantError, match="unknown model architecture") as caught:
        LlamaCppBackend(ModelSpec(engine="llama_cpp", name="g", path=str(path)))
    assert "pip install -U llama-cpp-python" in caught.value.hint


def test_another_user_of_llama_cpp_in_the_process_survives_ours(demo_f16: Path) -> None:
    """llama.cpp keeps one log function a process: ours must outlive the backend that set it."""
    import gc

    import llama_cpp

    backend = LlamaCppBackend(ModelSpec(engine="llama_cpp", name="f16", path=str(demo_f16), threads=2, gpu_layers=0))
    backend.close()
    del backend
    gc.collect()
    assert llama_cpp.Llama(str(demo_f16), n_ctx=64, verbose=False).n_ctx() >= 64


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The kind of attention of every context that is made, as llama.cpp numbers them."""
    made: list[int] = []
    real = lib.llama_init_from_model

    def watch(model: Any, params: Any) -> Any:
        made.append(params.flash_attn_type)
        return real(model, params)

    monkeypatch.setattr(lib, "llama_init_from_model", watch)
    return made


def test_answers_go_without_flash_attention_and_scores_with_it(demo_f16: Path, contexts: list[int]) -> None:
    auto, off = lib.LLAMA_FLASH_ATTN_TYPE_AUTO, lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    spec = ModelSpec(engine="llama_cpp", name="f16", path=str(demo_f16), threads=2, gpu_layers=0, context=256)
    backend = LlamaCppBackend(spec)
    first = answer(run(backend, [request(PROMPTS[0])])).text
    assert contexts == [off]
    question = Choices(
        context=tuple(backend.tokenizer().encode("Paris is the capital of")),
        continuations=(tuple(backend.tokenizer().encode(" France")),),
    )
    scores = [backend.score([question]).logprobs for _ in range(2)]
    assert contexts == [off, auto]
    backend.use_threads(1)
    assert answer(run(backend, [request(PROMPTS[0])])).text == first
    assert contexts == [off, auto, off]
    assert lib.llama_n_threads(backend._contexts.current) == 1
    scores.append(backend.score([question]).logprobs)
    assert scores[0] == scores[1] == scores[2]
    backend.close()


@pytest.mark.parametrize("joined", [pytest.param(False, marks=pytest.mark.slow), True])
def test_scores_and_answers_go_on_together_and_are_what_they_are_alone(demo_f16: Path, joined: bool) -> None:
    spec = ModelSpec(engine="llama_cpp", name="f16", path=str(demo_f16), threads=2, gpu_layers=0, context=512)
    backend = LlamaCppBackend(spec)
    context = backend.tokenizer().encode("Paris is the capital of")
    questions = [Choices(context=(*context, number), continuations=((5, number), (6,))) for number in range(20)]
    prompts = [[*context, number] for number in range(5)]
    alone = backend.score(questions), backend.prompt_logprobs(prompts, 2)
    alone_said = answer(run(backend, [request(PROMPTS[0], temperature=0.8)])).text

    events: list[tuple[str, Event]] = []
    scheduler = Scheduler(backend, lambda row_id, event: events.append((row_id, event)), lambda row_id: False)
    pauses: list[int] = []

    def others() -> None:
        """The first row is under way; the second, if any, comes in the middle of a score."""
        pauses.append(len(events))
        if joined and len(pauses) == 2:
            scheduler.add(request(PROMPTS[1], "1", temperature=0.8), 0.0)
        scheduler.step()

    scheduler.add(request(PROMPTS[0], "0", temperature=0.8), 0.0)
    scheduler.step()
    backend.pause = Pause(others=others)
    together = backend.score(questions), backend.prompt_logprobs(prompts, 2)
    backend.pause = Pause()
    assert len(pauses) > 2
    assert together == alone
    while not scheduler.idle:
        scheduler.step()
    ends = {row_id: event.text for row_id, event in events if isinstance(event, Finished)}
    assert len(ends) == 1 + joined
    if not joined:  # two rows in one batch round otherwise than one
        assert ends["0"] == alone_said
    assert backend.score(questions) == alone[0]
    assert backend._contexts._answers is None  # one context where one will do
    backend.close()


@pytest.mark.slow
def test_a_score_that_nobody_wants_ends_inside_llama_cpp(demo_f16: Path) -> None:
    spec = ModelSpec(engine="llama_cpp", name="f16", path=str(demo_f16), threads=2, gpu_layers=0, context=1024)
    backend = LlamaCppBackend(spec)
    asked = 0

    def given_up() -> bool:
        """Only once llama.cpp asks, in the middle of a batch."""
        nonlocal asked
        asked += 1
        return asked > 4

    prompt = [[number % 500 for number in range(1000)]]
    whole = backend.prompt_logprobs(prompt, 1)
    backend.pause = Pause(given_up=given_up)
    with pytest.raises(Cancelled):
        backend.prompt_logprobs(prompt, 1)
    assert asked == 5
    backend.pause = Pause()
    assert backend.prompt_logprobs(prompt, 1) == whole
    backend.close()


def test_no_room_for_another_context_is_said_and_got_over(demo_f16: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(engine="llama_cpp", name="f16", path=str(demo_f16), threads=2, gpu_layers=0, context=256)
    backend = LlamaCppBackend(spec)
    question = Choices(
        context=tuple(backend.tokenizer().encode("Paris is the capital of")),
        continuations=(tuple(backend.tokenizer().encode(" France")),),
    )
    with monkeypatch.context() as patch:
        patch.setattr(lib, "llama_init_from_model", lambda model, params: None)
        with pytest.raises(VariantError, match="cannot make a context of 256 tokens for f16"):
            backend.score([question])
        backend.use_threads(1)
    assert answer(run(backend, [request(PROMPTS[0])])).text
    assert backend.score([question]).logprobs[0][0] < 0
    backend.close()


def test_tokens_that_are_forced_count_as_drawn(llama: LlamaCppBackend) -> None:
    """A thought is closed so: the model goes on from tokens that it did not choose, and its penalties know."""
    row = llama.open(request(PROMPTS[0], max_new_tokens=8), llama.tokenizer().encode(PROMPTS[0]))
    row.forced = [40, 41]
    while not llama.prefill(row):
        pass
    said = []
    for _ in range(3):
        row.tokens.append(llama.sample(row))
        said.append(row.tokens[-1])
        llama.decode([row])
    llama.close_row(row)
    assert said[:2] == [40, 41]
    assert said[2] != 41
    assert row.forced == []
