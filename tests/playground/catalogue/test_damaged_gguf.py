"""GGUFs that are damaged: what the header promises is held against the file before llama.cpp sees any of it."""

import os
import struct
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import app
from playground.catalogue import gguf_files
from playground.compare import Playground
from playground.errors import VariantError
from playground.ui.models import FIELDS, add

WIDTH, WORDS, LAYERS = 64, 300, 2
Change = Callable[[bytes], bytes]


def tiny(path: Path, **left_out: bool) -> Path:
    """Write a model that llama.cpp loads and asks: a small vocabulary, two layers, half a megabyte of weights."""
    writer, random = gguf.GGUFWriter(path, "llama"), np.random.default_rng(0)
    numbers = {"block_count": LAYERS, "embedding_length": WIDTH, "context_length": 128, "feed_forward_length": 128}
    for name, number in numbers.items():
        if name == "feed_forward_length" and "same" in left_out:
            writer.add_feed_forward_length([number, 0])
        elif name not in left_out:
            writer.add_uint32(f"llama.{name}", number)
    writer.add_head_count([4, 0] if "same" in left_out else 4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    octets = [f"<0x{number:02X}>" for number in range(256)]
    words = ["<unk>", "<s>", "</s>", *octets, *(f"w{number}" for number in range(WORDS - 259))]
    writer.add_tokenizer_model("llama")
    if "tokens" not in left_out:
        writer.add_token_list(words)
    writer.add_token_scores([0.0] * (WORDS - ("scores" in left_out)))
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (WORDS - 259))
    shapes = {
        "token_embd.weight": (WORDS - ("row" in left_out), WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (WORDS, WIDTH),
    }
    sides = {"attn_norm": (), "ffn_norm": (), "attn_q": (WIDTH,), "attn_k": (32,), "attn_v": (32,)}
    sides |= {"attn_output": (WIDTH,), "ffn_gate": (128,), "ffn_up": (128,)}
    for layer in range(LAYERS - ("layer" in left_out)):
        shapes |= {f"blk.{layer}.{name}.weight": (*rows, WIDTH) for name, rows in sides.items()}
        shapes[f"blk.{layer}.ffn_down.weight"] = (WIDTH, 128)
    for name, shape in shapes.items():
        writer.add_tensor(name, random.standard_normal(shape).astype(np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


def after(name: str, skip: int, form: str, number: int) -> Change:
    """Return what writes a number so many bytes behind a key's or a tensor's name."""

    def change(raw: bytes) -> bytes:
        at = raw.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name) + skip
        new = struct.pack(form, number)
        return raw[:at] + new + raw[at + len(new) :]

    return change


def at(place: int, form: str, number: int) -> Change:
    return lambda raw: raw[:place] + struct.pack(form, number) + raw[place + struct.calcsize(form) :]


def zeros(begin: float, end: float) -> Change:
    return lambda raw: raw[: int(len(raw) * begin)] + bytes(int(len(raw) * (end - begin))) + raw[int(len(raw) * end) :]


def renamed(old: str, new: str) -> Change:
    assert len(old) == len(new)
    return lambda raw: raw.replace(old.encode(), new.encode())


EMBEDDINGS, NORM, LAST = "token_embd.weight", "output_norm.weight", "blk.1.ffn_down.weight"
"""A tensor of two sides has its type 20 bytes behind its name and its place 4 further; one of one side 8 before."""
HUGE = 2**60
DAMAGED: dict[str, tuple[Change, str]] = {
    "nothing in it": (lambda raw: b"", "is empty: it has 0 bytes"),
    "zeros alone": (lambda raw: bytes(len(raw)), "is no GGUF file"),
    "another magic": (at(0, "<I", 0x46554746), "is no GGUF file"),
    "another version": (at(4, "<I", 7), "a GGUF of version 7"),
    "cut in its fields": (lambda raw: raw[:300], "cut short or damaged inside its header"),
    "cut in its tensors": (lambda raw: raw[: raw.index(b"blk.1.ffn_up")], "cut short or damaged inside its header"),
    "cut in its weights": (lambda raw: raw[:-1000], "it is cut short"),
    "weights all gone": (lambda raw: raw[: raw.index(LAST.encode()) + 60], "it is cut short"),
    "tensors without end": (at(8, "<Q", HUGE), "tensors"),
    "fields without end": (at(16, "<Q", HUGE), "fields"),
    "more tensors than there are": (at(8, "<Q", 30), "inside its header"),
    "a key that goes on": (at(24, "<Q", HUGE), "it goes on past byte"),
    "a text that goes on": (after("general.architecture", 4, "<Q", HUGE), "it goes on past byte"),
    "a text of 2 GB": (after("general.architecture", 4, "<Q", 2**31), "it goes on past byte"),
    "a vocabulary without end": (after("tokenizer.ggml.tokens", 8, "<Q", HUGE), "it goes on past byte"),
    "a list without end": (after("tokenizer.ggml.scores", 8, "<Q", HUGE), "it goes on past byte"),
    "lists in lists": (after("tokenizer.ggml.scores", 4, "<I", 9), "a field's type is 9"),
    "a type of field that there is not": (after("llama.block_count", 0, "<I", 77), "a field's type is 77"),
    "a field twice": (renamed("tokenizer.ggml.scores", "tokenizer.ggml.tokens"), "stands twice"),
    "a tensor before the file": (after(NORM, 16, "<Q", 2**63), "is its place"),
    "a tensor beyond the file": (after(LAST, 24, "<Q", HUGE), "is its place"),
    "tensors upon each other": (after(LAST, 24, "<Q", 0), "is its place"),
    "a tensor out of line": (after(LAST, 24, "<Q", 17), "is its place"),
    "a type that there is not": (after(EMBEDDINGS, 20, "<I", 4_000), "of type 4000"),
    "a type that was given up": (after(EMBEDDINGS, 20, "<I", 4), "of type 4,"),
    "blocks wider than a row": (after(EMBEDDINGS, 20, "<I", 12), "which its type 12 cannot be"),
    "a side of nothing": (after(EMBEDDINGS, 12, "<Q", 0), "which its type 0 cannot be"),
    "sides past all numbers": (after(EMBEDDINGS, 12, "<Q", HUGE), "which its type 0 cannot be"),
    "sides that make few of many": (after(EMBEDDINGS, 4, "<Q", 2**63), "which its type 0 cannot be"),
    "a hundred sides": (after(EMBEDDINGS, 0, "<I", 100), "has 100 sides"),
    "a tensor twice": (renamed("blk.1.ffn_up.weight", "blk.0.ffn_up.weight"), "stands twice"),
    "a row less than its neighbour leaves": (after(EMBEDDINGS, 12, "<Q", WORDS - 1), "is its place"),
    "no architecture": (renamed("general.architecture", "general.architectura"), "names no architecture"),
    "no tokenizer": (renamed("tokenizer.ggml.model", "tokenizer.ggml.modal"), "has no vocabulary"),
    "an architecture without its numbers": (renamed("llama.block_count", "lxama.block_count"), "it lacks llama."),
    "layers without end": (after("llama.block_count", 4, "<I", 2**32 - 1), "its llama.block_count is 4294967295"),
    "no layers": (after("llama.block_count", 4, "<I", 0), "its llama.block_count is 0"),
    "more layers than there are": (after("llama.block_count", 4, "<I", 9), "it lacks the weights of 7 of its 9 layers"),
    "fewer layers than there are": (after("llama.block_count", 4, "<I", 1), "it has weights of layer 1"),
    "a width of its own": (after("llama.embedding_length", 4, "<I", 65), "token_embd.weight is 64 x 300"),
    "heads that share nothing": (after("llama.attention.head_count_kv", 4, "<I", 3), "cannot share 3 groups"),
    "no embeddings": (renamed(EMBEDDINGS, "tokem_embd.weight"), "it has no token_embd.weight"),
    "half of it never came": (zeros(0.5, 1.0), "nothing but zeros"),
    "a hole in its weights": (zeros(0.4, 0.6), "nothing but zeros"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("whole") / "whole.gguf")


def refused(path: Path) -> str:
    with pytest.raises(VariantError) as caught:
        gguf_files.check(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_what_is_whole_passes(whole: Path, tmp_path: Path) -> None:
    gguf_files.check(whole)


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_damaged_is_refused_for_what_it_is(kind: str, whole: Path, tmp_path: Path) -> None:
    change, said = DAMAGED[kind]
    path = tmp_path / "x.gguf"
    path.write_bytes(change(whole.read_bytes()))
    assert path.read_bytes() != whole.read_bytes()
    assert said in refused(path)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("block_count", "it lacks llama.block_count"),
        ("context_length", "it lacks llama.context_length"),
        ("tokens", "it lacks tokenizer.ggml.tokens"),
        ("scores", "tokenizer.ggml.scores has 299 entries of type 6 for 300 tokens"),
        ("row", "token_embd.weight is 64 x 299, and its vocabulary and width say 64 x 300"),
        ("layer", "it lacks the weights of 1 of its 2 layers, 1 the first"),
    ],
)
def test_what_was_never_written_is_missed(gone: str, said: str, tmp_path: Path) -> None:
    assert said in refused(tiny(tmp_path / "x.gguf", **{gone: True}))


def test_a_layer_that_the_model_skips_is_not_missing(tmp_path: Path) -> None:
    """As Nemotron-Ultra has them, with neither attention nor neurons: each layer has its numbers there."""
    gguf_files.check(tiny(tmp_path / "x.gguf", layer=True, same=True))


def test_holes_of_a_sparse_file_are_found_without_reading_it(whole: Path, tmp_path: Path) -> None:
    """As a downloader leaves it that takes the room first: of the right size, and most of it was never written."""
    path = tmp_path / "x.gguf"
    raw = whole.read_bytes()
    with path.open("wb") as file:
        file.write(raw[: len(raw) // 2])
        file.truncate(len(raw))
    assert "nothing but zeros" in refused(path)


def test_a_header_larger_than_any_costs_no_memory(tmp_path: Path) -> None:
    """A sparse file of a terabyte whose one text says that it is as long."""
    path = tmp_path / "x.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 2**39))
        file.truncate(2**40)
    assert "inside its header" in refused(path)


def test_a_shard_is_held_to_its_header_as_well(whole: Path, tmp_path: Path, model_files: Any) -> None:
    shards = model_files.gguf_shards(tmp_path)
    gguf_files.check(shards[0])
    raw = shards[1].read_bytes()
    shards[1].write_bytes(after("blk.0.ffn_up.weight", 24, "<Q", HUGE)(raw))
    with pytest.raises(VariantError, match="is its place"):
        gguf_files.check(shards[0])


def test_the_terminal_refuses_them_in_two_lines(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.gguf"
    for number, (change, said) in enumerate([*DAMAGED.values()][::5]):
        path.write_bytes(change(whole.read_bytes()))
        os.utime(path, ns=(0, number))
        assert app.main(["--data", str(tmp_path), "models", "add", "x", str(path), "--kind", "gguf"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert [line.split(":")[0] for line in lines] == ["error", "hint"]
        assert said in lines[0]
    assert not (tmp_path / "variants.toml").exists()


def test_the_page_refuses_what_is_damaged(whole: Path, tmp_path: Path, playground: Playground) -> None:
    row = {"name": "x", "kind": "gguf"}
    for kind in ("cut in its weights", "a hole in its weights", "lists in lists", "no layers"):
        path = tmp_path / f"{kind}.gguf"
        path.write_bytes(DAMAGED[kind][0](whole.read_bytes()))
        found = add(playground, dict.fromkeys(set().union(*FIELDS.values())) | row | {"source": str(path)})
        assert escape(DAMAGED[kind][1]) in found.html
    assert "x" not in playground.catalogue.names
