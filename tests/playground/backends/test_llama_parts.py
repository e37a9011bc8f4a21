"""Long texts are encoded in parts: the tokens are those of llama.cpp's one pass, and no part grows with the text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playground import allowance
from playground.backends import llama_tokenizer, torch_tokenizer
from playground.backends.llama_parts import LEAST, Parts
from playground.backends.llama_tokenizer import LlamaTokenizer
from playground.protocol import Tokenizer
from playground.typed.control import Edges
from tests.playground.vocabularies import CHATML, KINDS, SPECIAL, folder, gguf

ODD = ["\n\n", "\n\n\n\n", "\t", "<|", "|>", "<<", "ab", "bcd", "a</s>", "d<s"]
"""Words that overlap each other, and control tokens."""
WORDS = [*SPECIAL, "<think>", *ODD, "a", "b", "d", " ", "\n", "He", "안녕", "<", "/s>"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=30).map("".join)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["spm", "spm without", "bpe", "bpe odd", "spm odd", "bpe phi-3"])
def llama(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaTokenizer]:
    import llama_cpp.llama_cpp as lib

    kind, *more = request.param.split()
    file = tmp_path_factory.mktemp("gguf") / "v.gguf"
    phi = "phi-3" in more  # llama.cpp knows it by its name: its tokens take the white space behind them
    words = [*ODD, "<|endoftext|>"] if more else []
    gguf(file, kind, CHATML, "without" not in more, words, "phi-3" if phi else "")
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(str(file).encode(), params)
    assert model
    yield LlamaTokenizer(model)
    lib.llama_model_free(model)


@QUICK
@given(text=TEXT, added=st.booleans(), special=st.booleans(), least=st.integers(1, 9))
def test_parts_give_the_tokens_of_the_whole(
    llama: LlamaTokenizer, text: str, added: bool, special: bool, least: int
) -> None:
    parts = list(llama._parts[special].of(text, least))
    assert "".join(parts) == text
    ids = [token for part in parts for token in llama._encode_part(part, False, special)]
    before, after = llama._ends if added else ([], [])
    assert [*before, *ids, *after] == llama._encode_part(text, added, special)


def test_a_long_text_is_encoded_in_parts(llama: LlamaTokenizer) -> None:
    text = "<|im_start|>user\nHello<|im_end|>\n\n" * 300
    assert len(list(llama._parts[True].of(text))) > 3
    assert llama.encode(text) == llama._encode_part(text, True, True)


@pytest.mark.parametrize(
    "unit", ["<|im_start|>user\nx<|im_end|>\n", "<|im_end|>", "x\n\n", "<|im_start|>ab\n\n\n\nbcd"], ids=repr
)
def test_no_part_grows_with_the_text(unit: str) -> None:
    words = dict.fromkeys([*SPECIAL, "\n\n", "\n\n\n\n"], Edges())
    text = unit * (200_000 // len(unit))
    assert max(map(len, Parts(words).of(text))) <= LEAST + 2 * len(unit)


@pytest.fixture(params=KINDS)
def transformers(request: Any, tmp_path: Path) -> Tokenizer:
    return torch_tokenizer.TorchTokenizer(folder(tmp_path, request.param, CHATML), 10**6, frozenset())


@QUICK
@given(text=TEXT)
def test_a_text_never_takes_fewer_tokens_than_are_promised(llama: LlamaTokenizer, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama_tokenizer, "LARGE", 0)
        assert llama.at_least(text) <= len(llama.encode(text, add_special=False))


@QUICK
@given(text=TEXT)
def test_the_same_holds_for_the_tokenizers_of_transformers(transformers: Tokenizer, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_tokenizer, "LARGE", 0)
        assert transformers.at_least(text) <= len(transformers.encode(text, add_special=False))


def test_some_texts_are_known_to_be_long(transformers: Tokenizer, llama: LlamaTokenizer) -> None:
    assert transformers.at_least("x" * allowance.LARGE) > 1000
    assert llama.at_least("x" * allowance.LARGE) > 1000
