"""HF tokenizer = our Q4_K_M's = the package's own GGUF, id by id, and the same rendered chat."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from training.demo.prepare import BASE, GGUF, GGUF_FILE
from training.demo.unpack import package_gguf

pytestmark = pytest.mark.models

# Characters that a wrong pre-tokenizer, decoder or special-token table treats differently.
ALPHABETS = {
    "korean": [chr(c) for c in range(0xAC00, 0xD7A4, 37)] + list("ㄱㅎㅏㅣ ᄀ ᅡ ᆨ ·…「」"),
    "emoji": ["👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇰🇷", "❤️", "😀", "\u200d", "\ufe0f", " "],
    "english": list("abcdefghijklmnopqrstuvwxyzABCXYZ'-.,!? \n\t"),
    "digits": list("0123456789") + ["٣", "½", "²", "Ⅻ", "１", ".", ",", " ", "%"],
    "code": [*"{}[]()<>=+-*/\\\"'`#;:_ ", "def ", "return", "\n    ", "\n\t", "\r\n", "0x1F", "->"],
    "white": [" ", "  ", "   ", "\t", "\n", "\r", "\u3000", "\u00a0", "\u200b", "a"],
    "control": ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<file_sep>", "<|im_", "start|>", "user\n", "가", " "],
}
WRITTEN = [
    "",
    " ",
    "Hello, world!",
    "  two spaces before and after  ",
    "안녕하세요, 반갑습니다. 오늘 날씨가 참 좋네요!",
    "가족 👨‍👩‍👧‍👦 셋이 2026년 11월 24일 12:30에 만나요 🙂",
    "café naïve e\u0301 Straße Ελλάδα Привет 日本語 العربية 🇰🇷🇺🇸",
    "def f(x):\n\treturn x ** 2  # 제곱\n",
    "<|im_start|>user\n안녕<|im_end|>\n<|im_start|>assistant\n",
    "I'll they've WE'RE don't 3rd 1,234.56 10^-3",
    "\x00\x01\x7f\ufeff\ufffd",
    "ａｂｃ ﬁ Å \U0001d54f \U00020000",
]


def strings() -> list[str]:
    """The written ones, and 40 random ones from each alphabet and from all of them at once."""
    rng = random.Random(7)
    pools = [*ALPHABETS.values(), [piece for pool in ALPHABETS.values() for piece in pool]]
    return WRITTEN + ["".join(rng.choices(pool, k=rng.randint(1, 40))) for pool in pools for _ in range(40)]


@pytest.fixture(scope="module")
def hf(demo_models: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(demo_models / BASE)


@pytest.fixture(scope="module", params=["ours", "package"])
def gguf(request: pytest.FixtureRequest, demo_models: Path) -> Iterator[Any]:
    from llama_cpp import Llama

    file = demo_models / GGUF / GGUF_FILE if request.param == "ours" else package_gguf()
    model = Llama(str(file), vocab_only=True, verbose=False)
    yield model
    model.close()


def gguf_ids(gguf: Any, text: str) -> list[int]:
    ids: list[int] = gguf.tokenize(text.encode(), add_bos=False, special=True)
    return ids


def test_ids_agree(hf: Any, gguf: Any) -> None:
    wrong = [text for text in strings() if hf(text)["input_ids"] != gguf_ids(gguf, text)]
    assert wrong == []


def test_bytes_come_back(hf: Any, gguf: Any) -> None:
    for text in strings():
        ids = hf(text)["input_ids"]
        assert hf.decode(ids) == text
        assert gguf.detokenize(ids, special=True).decode() == text


def test_control_tokens_are_one_id_and_are_skipped_on_request(hf: Any) -> None:
    assert hf("<|im_start|><|im_end|><|endoftext|>")["input_ids"] == [1, 2, 0]
    assert hf.decode(hf("<|im_start|>가<|im_end|>")["input_ids"], skip_special_tokens=True) == "가"
    assert (hf.bos_token_id, hf.eos_token_id, hf.unk_token_id, hf.pad_token_id) == (1, 2, 0, 2)


def test_special_ids_agree(hf: Any, gguf: Any) -> None:
    assert (gguf.token_bos(), gguf.token_eos()) == (hf.bos_token_id, hf.eos_token_id)
    assert gguf.metadata["tokenizer.ggml.pre"] == "smollm"
    assert int(gguf.metadata["tokenizer.ggml.padding_token_id"]) == hf.pad_token_id


CHATS = [
    [{"role": "user", "content": "안녕?"}],
    [{"role": "system", "content": "짧게."}, {"role": "user", "content": "Hi 🙂"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": " c\n"}],
]


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("generate", [True, False])
def test_the_chat_renders_the_same(hf: Any, gguf: Any, chat: list[dict[str, str]], generate: bool) -> None:
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    render = Jinja2ChatFormatter(
        gguf.metadata["tokenizer.chat_template"], "<|im_end|>", "<|im_start|>", add_generation_prompt=generate
    )
    ours = hf.apply_chat_template(chat, tokenize=False, add_generation_prompt=generate)
    assert render(messages=chat).prompt == ours
    tokens = hf.apply_chat_template(chat, add_generation_prompt=generate)["input_ids"]
    assert tokens == gguf_ids(gguf, ours)


def test_without_a_system_message_the_template_adds_its_own(hf: Any) -> None:
    text = hf.apply_chat_template(CHATS[0], tokenize=False)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")


@pytest.mark.slow
def test_the_adapters_base_is_the_same_tokenizer_after_merging(demo_models: Path, tmp_path: Path) -> None:
    """The GGUF came from the merged folder: its metadata says what the package's says."""
    from gguf import GGUFReader

    ours, theirs = GGUFReader(demo_models / GGUF / GGUF_FILE), GGUFReader(package_gguf())
    for key in ("tokens", "merges", "token_type"):
        name = f"tokenizer.ggml.{key}"
        assert ours.fields[name].contents() == theirs.fields[name].contents()


def test_this_file_reads_as_utf8() -> None:
    """A guard for the strings above: an editor that normalised them would make the test easier."""
    assert "e\u0301" in WRITTEN[6]
    assert os.fsencode("👨‍👩‍👧‍👦").count(b"\xe2\x80\x8d") == 3
