"""Tokens as bytes: joined, they are the text, in every kind of vocabulary; and any tokens can be said."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerFast

from playground.answer_text import AnswerText
from playground.backends.torch_tokenizer import Pieces
from playground.backends.transformers import TransformersBackend
from playground.protocol import ModelSpec

TEXTS = ["안녕 👩‍👩‍👧 마당 🎉 end", "hello world", " two  spaces ", "ㅎ\n힣", "a"]
WORDS = ["▁", "a", "b", "▁a", "마", "당", "▁마", "▁hello", "o"]
FIRST_BYTE = 3


def falling_back(prefix: bool = True) -> PreTrainedTokenizerFast:
    """Llama's kind of vocabulary: a few words, and for all else a token a byte."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
    raw = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, [("▁", "a")], byte_fallback=True))
    space = normalizers.Replace(" ", "▁")
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space] if prefix else [space])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def spread(text: str) -> list[int]:
    return [FIRST_BYTE + byte for byte in text.encode()]


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_bytes_add_up_to_the_text_of_a_vocabulary_that_falls_back(text: str, prefix: bool) -> None:
    words = falling_back(prefix)
    pieces = Pieces(words)
    ids = words.encode(text, add_special_tokens=False)
    assert b"".join(map(pieces.answer_bytes, ids)).decode() == " " * prefix + text
    assert b"".join(map(pieces.spelled, [1, *ids, 2])).decode() == "<s>" + " " * prefix + text + "</s>"
    assert pieces.answer_bytes(1) == b""


def test_what_broke_the_librarys_stream_reads_on() -> None:
    """A newline, half a character, a word: the run of byte tokens is no text, and the stream has shown some of it."""
    words = falling_back()
    ids = [*spread("\n"), *spread("한")[:2], words.convert_ids_to_tokens(list(range(300))).index("▁a"), *spread("한")]
    stream, raw = DecodeStream(skip_special_tokens=True), words.backend_tokenizer
    with pytest.raises(Exception, match="Invalid prefix"):
        [stream.step(raw, token) for token in ids]
    decoder, pieces = AnswerText(), Pieces(words)
    shown = [decoder.feed(pieces.answer_bytes(token)) for token in ids]
    assert shown == ["\n", "", "", "\ufffd a", "", "", "한"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2 + 256 + len(WORDS)), max_size=30))
def test_any_tokens_can_be_said(ids: list[int]) -> None:
    words = falling_back()
    decoder, pieces = AnswerText(), Pieces(words)
    shown = "".join(decoder.feed(pieces.answer_bytes(token)) for token in ids)
    whole = words.decode([ids[0], *ids] if ids else ids, skip_special_tokens=True)
    if ids and "\ufffd" not in whole and "\ufffd" not in shown:
        said_twice = b"".join(map(pieces.answer_bytes, [ids[0], *ids])).decode(errors="ignore")
        assert said_twice.removeprefix(" ") == whole


def test_an_answer_in_byte_tokens_never_ends_its_worker(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("llama"), tmp_path / "bytes")
    words = falling_back()
    words.chat_template = "{{ messages[-1].content }}"
    words.save_pretrained(folder)
    backend = TransformersBackend(ModelSpec(engine="transformers", name="b", path=str(folder), dtype="fp32"))
    decoder = AnswerText()
    ids = [*spread("👩"), *spread("\n"), *spread("한")[:2], *spread("글\n")]
    assert "".join(decoder.feed(backend.tokenizer().answer_bytes(token)) for token in ids) == "👩\n\ufffd글\n"


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_vocabularies(text: str, tiny: Callable[[str], Path]) -> None:
    backend = TransformersBackend(ModelSpec(engine="transformers", name="t", path=str(tiny("llama")), dtype="fp32"))
    ids = backend.tokenizer().encode(text)
    assert b"".join(map(backend.tokenizer().piece, ids)).decode() == text
    assert backend.tokenizer().piece(backend.tokenizer().encode("<|im_end|>")[0]) == b"<|im_end|>"
    assert backend.tokenizer().piece(10**6) == b""


def test_an_added_word_spells_itself_and_is_said_unless_it_controls() -> None:
    words = falling_back()
    words.add_tokens(["<생각>"])
    words.add_special_tokens({"additional_special_tokens": ["<끝>"]})
    pieces = Pieces(words)
    thought, end = words.convert_tokens_to_ids(["<생각>", "<끝>"])
    assert (pieces.answer_bytes(thought).decode(), pieces.spelled(end).decode(), pieces.answer_bytes(end)) == (
        "<생각>",
        "<끝>",
        b"",
    )


def test_other_decoders_keep_the_space_between_words() -> None:
    names = ["[UNK]", "a", "court", "##yard", "마", "##당"]
    raw = Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    pieces = Pieces(PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]"))
    assert b"".join(map(pieces.answer_bytes, [1, 2, 3, 4, 5])).decode() == " a courtyard 마당"
    meta = Tokenizer(models.BPE({"▁a": 0, "▁": 1, "a": 2, "당": 3}, [("▁", "a")]))
    meta.pre_tokenizer, meta.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    pieces = Pieces(PreTrainedTokenizerFast(tokenizer_object=meta))
    assert b"".join(map(pieces.answer_bytes, [0, 3, 0])).decode() == " a당 a"
