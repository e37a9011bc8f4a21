"""SentencePiece tokenizers as transformers 5 saves them: what llama.cpp's converter reads is put back, nothing else."""

import json
from pathlib import Path
from typing import Any

from training.export.pieces import complete, is_lost

WORDS = {"<s>": 0, "▁a": 1, "<start_of_turn>": 2}
ADDED = [{"id": 2, "content": "<start_of_turn>", "special": True, "normalized": False}]


def saved(folder: Path, words: dict[str, int], model: bool, **config: Any) -> Path:
    """A tokenizer; `model`: with its pieces."""
    folder.mkdir()
    row = {"model": {"type": "BPE", "byte_fallback": True, "vocab": words}, "added_tokens": ADDED}
    (folder / "tokenizer.json").write_text(json.dumps(row))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>"} | config))
    if model:
        (folder / "tokenizer.model").write_bytes(b"pieces")
    return folder


def listed(folder: Path) -> Any:
    return json.loads((folder / "tokenizer_config.json").read_text()).get("added_tokens_decoder")


def test_control_tokens_are_listed_again(tmp_path: Path) -> None:
    folder = saved(tmp_path / "out", WORDS, model=True)
    complete(folder, folder)
    assert listed(folder) == {"2": {"content": "<start_of_turn>", "special": True, "normalized": False}}


def test_a_list_that_is_there_stays(tmp_path: Path) -> None:
    folder = saved(tmp_path / "out", WORDS, model=True, added_tokens_decoder={"9": {"content": "x"}})
    before = (folder / "tokenizer_config.json").read_bytes()
    complete(folder, folder)
    assert (folder / "tokenizer_config.json").read_bytes() == before


def test_the_pieces_come_from_the_base_where_its_tokens_have_the_same_numbers(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", WORDS, model=True)
    folder = saved(tmp_path / "out", WORDS | {"<new>": 3}, model=False)
    assert is_lost(folder)
    complete(folder, base)
    assert (folder / "tokenizer.model").read_bytes() == b"pieces"
    assert not is_lost(folder)
    other = saved(tmp_path / "other", {"<s>": 1, "▁a": 0, "<start_of_turn>": 2}, model=False)
    complete(other, base)
    assert is_lost(other)


def test_what_is_no_sentencepiece_stays_byte_for_byte(tmp_path: Path) -> None:
    folder = saved(tmp_path / "out", WORDS, model=False)
    before = (folder / "tokenizer_config.json").read_bytes()
    complete(folder, tmp_path)
    complete(tmp_path, tmp_path)
    assert (folder / "tokenizer_config.json").read_bytes() == before
