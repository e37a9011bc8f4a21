"""Lengths equal encoding row by row; the recommended maximum; what a maximum cuts."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.errors import VariantError
from tests.training.data.conftest import tiny_model
from tests.training.data.rows import KOALPACA, PREFERENCE, SHAREGPT, TEXT, data, talk, talks
from training.data.checks import check
from training.data.counting import LLAMA3, QWEN2, WordCounter, divides, words
from training.data.encoder import Encoder
from training.data.formats import Data
from training.data.lengths import Lengths, context_of, measure, render, wholly_cut

SCRAPS = ["a", "가", "한국", "é", "1", "23", "!", "'s", "<|im_end|>", " ", "  ", "\n", "\n\n", "\t", "\u3000", "\xa0"]
SCRAPS += ["😊", "\r\n", ".", "e\u0301", "\x1c", "ㄱ", " <|im_start|>", ".\n"]
REFUSING = "{% if messages | length > 2 %}{{ raise_exception('one question') }}{% endif %}{{ messages[-1].content }}"


def lengths(*tokens: int, context: int | None = None) -> Lengths:
    numbers = np.asarray(tokens, np.int32)
    return Lengths(numbers, np.arange(1, len(tokens) + 1, dtype=np.int32), context)


@pytest.mark.models
@pytest.mark.parametrize("rows", [KOALPACA, SHAREGPT, TEXT, PREFERENCE])
def test_the_same_as_encoding_row_by_row(encoder: Encoder, rows: list[dict[str, Any]]) -> None:
    made = data(rows)
    measured = measure(made, encoder)
    wanted = [
        (example.row, len(encoder.tokenizer.encode(row.text).ids))
        for example in made.examples
        for row in render(encoder, example)
    ]
    assert list(zip(measured.rows.tolist(), measured.tokens.tolist(), strict=True)) == wanted
    assert measured.tokens.dtype == np.int32


@pytest.fixture(scope="module")
def counter(encoder: Encoder) -> WordCounter:
    return WordCounter(encoder)


@pytest.mark.models
@settings(deadline=None, max_examples=200)
@given(text=st.one_of(st.lists(st.sampled_from(SCRAPS), max_size=30).map("".join), st.text()))
def test_counting_by_words_gives_the_very_same_number(encoder: Encoder, counter: WordCounter, text: str) -> None:
    assert counter._by_word
    assert counter.count([text, f"앞 {text} 뒤"]) == encoder.count([text, f"앞 {text} 뒤"])
    assert "".join(words(text)) == text


@cache
def byte_level(pattern: str | None) -> Any:
    """A byte-level tokenizer as Llama 3 and Qwen 2 (pattern) or GPT-2 (None) have it, with a few merges."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.normalizer = normalizers.NFC()
        steps = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|im_end|>", "<|im_start|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["한국 음식은 맛있다. the yard  the yard\n\n  it's 123 here"] * 4, trainer)
    return tokenizer


@pytest.mark.parametrize("pattern", [None, LLAMA3, QWEN2], ids=["gpt2", "llama3", "qwen2"])
@settings(deadline=None, max_examples=150)
@given(texts=st.lists(st.lists(st.sampled_from(SCRAPS), max_size=20).map("".join), max_size=5))
def test_other_byte_level_tokenizers(
    tmp_path_factory: pytest.TempPathFactory, pattern: str | None, texts: list[str]
) -> None:
    encoder = Encoder(tiny_model(tmp_path_factory.getbasetemp() / "counted"))
    encoder.__dict__["tokenizer"] = byte_level(pattern)
    counter = WordCounter(encoder)
    assert counter._by_word
    assert counter.count(texts) == encoder.count(texts)


def test_tokenizers_of_other_kinds_read_whole_texts(tiny: Path) -> None:
    encoder = Encoder(tiny)
    assert not WordCounter(encoder)._by_word
    assert WordCounter(encoder).count(["a b", "<s> a"]) == [3, 2]
    token = {"lstrip": False, "rstrip": False, "single_word": False, "content": "<x>"}
    step = {"type": "ByteLevel", "use_regex": True}
    sound = {"model": {"type": "BPE"}, "added_tokens": [token], "pre_tokenizer": step, "normalizer": None}
    assert divides(sound)
    assert not divides(sound | {"normalizer": {"type": "Prepend"}})
    assert not divides(sound | {"added_tokens": [token | {"rstrip": True}]})
    assert not divides(sound | {"model": {"type": "BPE", "dropout": 0.1}})
    assert not divides(sound | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [step, {"type": "Metaspace"}]}})


@pytest.mark.parametrize(
    ("tokens", "context", "wanted"),
    [
        ([10] * 100, None, 128),
        ([128] * 100, None, 128),
        ([129] * 100, None, 192),
        ([100] * 95 + [5000] * 5, None, 384),
        ([5000] * 100, 2048, 2048),
        ([10] * 100, 96, 96),
    ],
)
def test_the_recommended_maximum(tokens: list[int], context: int | None, wanted: int) -> None:
    assert lengths(*tokens, context=context).recommended == wanted


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=200))
def test_statistics_and_histogram(tokens: list[int]) -> None:
    measured = lengths(*tokens)
    edges, counts = measured.histogram()
    assert (len(edges), len(counts), sum(counts)) == (21, 20, len(tokens))
    assert edges == sorted(edges)
    assert edges[-1] >= measured.maximum == max(tokens)
    assert measured.total == sum(tokens)
    assert measured.mean == pytest.approx(np.mean(tokens))
    assert measured.over(measured.maximum) == ()
    assert measured.share_over(0) == 1
    assert measured.kept(measured.maximum) == 1
    assert sum(n <= measured.recommended for n in tokens) >= 0.95 * len(tokens) - 1


@pytest.mark.models
def test_rows_and_answers_that_a_maximum_cuts(encoder: Encoder) -> None:
    rows = talks(("짧은 질문", "답"), ("짧은 질문 둘", "긴 답 " * 80), ("긴 질문 " * 80, "답"))
    measured = measure(rows, encoder)
    assert measured.over(128) == (2, 3)
    assert measured.share_over(128) == pytest.approx(2 / 3)
    assert wholly_cut(rows, encoder, (2, 3), 128) == (3,)
    findings = {f.check: (f.severity, f.rows) for f in check(rows, encoder, 128, measured)}
    assert findings == {"cut-answers": ("fatal", (3,)), "too-long": ("warning", (2, 3))}
    assert check(rows, encoder, measured.maximum, measured) == []


@pytest.mark.models
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_an_answer_is_cut_at_the_very_token(encoder: Encoder, off: int) -> None:
    rows = talks(("긴 질문 " * 40, "답"))
    (tokens,) = encoder.encode(render(encoder, rows.examples[0]))
    prompt = len(tokens.ids) - tokens.answers
    assert wholly_cut(rows, encoder, (1,), prompt + off) == ((1,) if off <= 0 else ())


@pytest.mark.models
def test_a_pair_whose_prompt_fills_the_maximum(encoder: Encoder) -> None:
    rows = data([{"prompt": "긴 질문 " * 80, "chosen": "가", "rejected": "나"}])
    assert wholly_cut(rows, encoder, (1,), 128) == (1,)


def test_rows_that_the_template_refuses(tmp_path: Path) -> None:
    encoder = Encoder(tiny_model(tmp_path / "tiny", REFUSING))
    rows = talks(("a", "b"), ("a", "b", "c", "d"))
    measured = measure(rows, encoder)
    assert ([*measured.refused], measured.rows.tolist()) == ([2], [1])
    findings = [f for f in check(rows, encoder, 96, measured) if f.severity == "fatal"]
    assert [(f.check, f.rows, f.fix) for f in findings] == [("template", (2,), True)]
    assert "refused these turns: one question" in findings[0].message
    with pytest.raises(VariantError, match="refused these turns: one question"):
        measure(Data([talk("a", "b", "c", "d")], "messages", "x.jsonl"), encoder)


def test_rows_that_cannot_be_trained_on_are_not_measured(tiny: Path) -> None:
    rows = talks(("a", "b"), ("a", ""), ("a", "\ud800"))
    assert measure(rows, Encoder(tiny)).rows.tolist() == [1]
    assert context_of(Encoder(tiny)) == 96
