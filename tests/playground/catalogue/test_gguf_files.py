"""GGUF files by their headers and names: models whole or in shards, and everything that is no model."""

import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import pytest

from playground.catalogue import files, gguf_files, gguf_header
from playground.errors import VariantError


def refusal(check: Callable[[], object]) -> str:
    with pytest.raises(VariantError) as caught:
        check()
    assert caught.value.hint
    return f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is empty: it has 0 bytes"),
        (b"GG", "begins with b'GG'"),
        (b"GGUF", "cut short after 4 bytes"),
        (b"GGUF\x03\0\0\0\0", "cut short after 9 bytes"),
        (b"ggjt" + bytes(60), "begins with b'ggjt'"),
        (b"tjgg" + bytes(60), "came before GGUF"),
        (b"algg" + bytes(60), "a LoRA adapter in a form"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!doctype html><html>", "a web page"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "of version 1"),
        (b"GGUF" + struct.pack("<IQQ", 99, 0, 0), "of version 99"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    ],
)
def test_what_is_no_gguf(raw: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(raw)
    assert said in refusal(lambda: gguf_files.check(path))


def test_models_pass(tmp_path: Path, model_files: Any) -> None:
    for version in (2, 3):
        gguf_files.check(model_files.gguf(tmp_path / f"{version}.gguf", version))
    assert "does not exist" in refusal(lambda: gguf_files.check(tmp_path / "none.gguf"))
    assert "is no file" in refusal(lambda: gguf_files.check(tmp_path))


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "projector": ({"general.type": "mmproj", "general.architecture": "clip"}, "a projector (mmproj)"),
    "projector of old": ({"general.architecture": "clip"}, "a projector (mmproj)"),
    "adapter": ({"general.type": "adapter", "general.architecture": "llama"}, "a LoRA adapter as GGUF"),
    "imatrix": ({"general.type": "imatrix"}, "an importance matrix"),
    "control vector": ({"general.architecture": "controlvector"}, "a control vector"),
    "bert": ({"general.architecture": "bert", "bert.attention.causal": False}, "a model for embeddings (bert)"),
    "encoder": ({"general.architecture": "t5encoder"}, "an encoder"),
    "diffusion": ({"general.architecture": "dream"}, "a diffusion model"),
    "draft": ({"general.architecture": "eagle3"}, "a draft model"),
    "embedder": ({"general.architecture": "gemma-embedding"}, "a model for embeddings (gemma-embedding)"),
    "nameless": ({"general.name": "x"}, "names no architecture"),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_what_is_no_model_is_refused_by_what_it_is(kind: str, tmp_path: Path, model_files: Any) -> None:
    fields, said = FIELDS[kind]
    path = model_files.gguf(tmp_path / "x.gguf", fields=fields)
    assert said in refusal(lambda: gguf_files.check(path))


def test_a_vocabulary_alone_is_no_model(tmp_path: Path, model_files: Any) -> None:
    assert "a vocabulary" in refusal(lambda: gguf_files.check(model_files.gguf(tmp_path / "v.gguf", tensors={})))


def test_an_importance_matrix_in_its_old_form(tmp_path: Path) -> None:
    path = tmp_path / "Model.imatrix.dat"
    path.write_bytes(struct.pack("<ii", 1, 5) + b"blk.0" + bytes(64))
    assert "an importance matrix" in refusal(lambda: gguf_files.check(path))


def test_every_length_of_a_cut_file_is_refused(tmp_path: Path, model_files: Any) -> None:
    whole = model_files.gguf(tmp_path / "x.gguf").read_bytes()
    for length in range(len(whole) - 31):  # what pads the last tensor may be missing
        path = tmp_path / f"{length}.gguf"
        path.write_bytes(whole[:length])
        refusal(lambda: gguf_files.check(path))  # noqa: B023
    path.write_bytes(whole[:-40])
    assert "should be" in refusal(lambda: gguf_files.check(path))


@pytest.mark.parametrize("place", range(8, 200, 4))
def test_lengths_that_lie_end_soon(place: int, tmp_path: Path, model_files: Any) -> None:
    raw = bytearray(model_files.gguf(tmp_path / "x.gguf").read_bytes())
    for lie in (b"\xff" * 8, struct.pack("<Q", 2**40), struct.pack("<Q", 2**24)):
        raw[place : place + 8] = lie
        path = tmp_path / "lies.gguf"
        path.write_bytes(raw)
        os.utime(path, ns=(0, place * 1000 + len(lie)))
        began = time.perf_counter()
        with suppress(VariantError):
            gguf_files.check(path)
        assert time.perf_counter() - began < 1


def test_sizes_of_types_are_those_of_ggml() -> None:
    theirs = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert theirs == gguf_header.TYPES


def test_a_large_vocabulary_is_read_in_milliseconds(tmp_path: Path, model_files: Any) -> None:
    words = [f"word {number}" for number in range(128_000)]
    path = model_files.gguf(
        tmp_path / "x.gguf",
        fields={"general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": words},
    )
    began = time.perf_counter()
    gguf_files.check(path)
    first = time.perf_counter() - began
    began = time.perf_counter()
    gguf_files.check(path)
    assert (first < 0.5, time.perf_counter() - began < 0.02) == (True, True)


def test_a_header_as_the_converter_writes_it(tmp_path: Path) -> None:
    import numpy as np

    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_chat_template("{{ messages }}")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "한"])
    writer.add_float32("llama.rope.freq_base", 1e4)
    writer.add_array("llama.odd", [1, 2, 3])
    writer.add_bool("llama.attention.causal", True)
    writer.add_tensor("token_embd.weight", np.zeros((3, 5), dtype=np.float16))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    header = gguf_header.read(tmp_path / "x.gguf")
    assert header.text("tokenizer.chat_template") == "{{ messages }}"
    assert (header.tensors, header.text("llama.odd")) == (1, "")
    assert header.size <= (tmp_path / "x.gguf").stat().st_size < header.size + 32


def test_shards_are_one_model(tmp_path: Path, model_files: Any) -> None:
    shards = model_files.gguf_shards(tmp_path)
    gguf_files.check(shards[0])
    assert gguf_files.chosen(tmp_path, None) == shards[0]
    assert [gguf_files.shards(shard) for shard in shards] == [shards] * 3
    assert files.model_files(shards[0]) == shards
    assert "a model is named by its first. Name x-00001-of-00003.gguf" in refusal(lambda: gguf_files.check(shards[1]))


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_missing_shard_is_named(gone: int, tmp_path: Path, model_files: Any) -> None:
    shards = model_files.gguf_shards(tmp_path)
    shards[gone].unlink()
    for path in (gguf_files.chosen(tmp_path, None), *shards):
        said = refusal(lambda: gguf_files.check(path))  # noqa: B023
        assert f"lacks 1 of the 3 shards of one model: {shards[gone].name}." in said


def test_a_shard_that_is_cut_short_or_was_renamed(tmp_path: Path, model_files: Any) -> None:
    shards = model_files.gguf_shards(tmp_path)
    named = shards[0].rename(tmp_path / "model.gguf")
    said = refusal(lambda: gguf_files.check(named))
    assert "shard 1 of 3 by its header" in said
    assert "call it …-00001-of-00003.gguf again" in said
    named.rename(shards[0])
    shards[2].write_bytes(shards[2].read_bytes()[:-100])
    assert f"{shards[2]} is" in refusal(lambda: gguf_files.check(shards[0]))


def test_shards_in_capital_letters_are_renamed_before_llama_cpp_refuses_them(tmp_path: Path, model_files: Any) -> None:
    for shard in model_files.gguf_shards(tmp_path):
        shard.rename(shard.with_suffix(".GGUF"))
    said = refusal(lambda: gguf_files.check(gguf_files.chosen(tmp_path, None)))
    assert "Rename all 3 of them: …-00001-of-00003.gguf" in said


@pytest.mark.parametrize(
    ("names", "models"),
    [
        (["a.gguf"], ["a.gguf"]),
        (["a.gguf", "b.gguf"], ["a.gguf", "b.gguf"]),
        (["a.gguf", "._a.gguf", "sub/._b.gguf", "README.md"], ["a.gguf"]),
        (["a.gguf", "mmproj-a-F16.gguf", "x/mmproj.gguf", "a.mmproj-Q8_0.gguf"], ["a.gguf"]),
        (["a.gguf", "a.imatrix.gguf", "imatrix.gguf", "a-imatrix.dat"], ["a.gguf"]),
        (["Llama-imatrix-Q4_K_M.gguf"], ["Llama-imatrix-Q4_K_M.gguf"]),  # made with one, and a model
        (["q/a-00001-of-00002.gguf", "q/a-00002-of-00002.gguf", "b.gguf"], ["b.gguf", "q/a-00001-of-00002.gguf"]),
        (["a-00002-of-00002.gguf"], ["a-00001-of-00002.gguf"]),
        (["a-00001-of-00000.gguf"], ["a-00001-of-00000.gguf"]),
        (["a-1-of-2.gguf"], ["a-1-of-2.gguf"]),
    ],
)
def test_choices(names: list[str], models: list[str]) -> None:
    assert list(gguf_files.choices(names)) == models


def test_a_folder_offers_its_models_alone(tmp_path: Path, model_files: Any) -> None:
    one = model_files.gguf(tmp_path / "one.gguf")
    model_files.gguf(tmp_path / "reads pictures.gguf", fields={"general.architecture": "clip"})
    (tmp_path / "._one.gguf").write_bytes(b"\0\5\x16\7")
    assert gguf_files.chosen(tmp_path, None) == one
    model_files.gguf_shards(tmp_path, "two")
    assert "one.gguf, two-00001-of-00003.gguf in 3 shards." in refusal(lambda: gguf_files.chosen(tmp_path, None))
    one.unlink()
    assert gguf_files.chosen(tmp_path, None).name == "two-00001-of-00003.gguf"


def test_a_folder_without_a_model_says_what_it_holds(tmp_path: Path, model_files: Any) -> None:
    path = model_files.gguf(tmp_path / "adapter.gguf", fields=FIELDS["adapter"][0])
    assert gguf_files.chosen(tmp_path, None) == path
    assert gguf_files.is_gguf(tmp_path)
    path.rename(tmp_path / "mmproj.gguf")
    model_files.gguf(tmp_path / "mmproj-b.gguf", fields=FIELDS["projector"][0])
    assert "mmproj-b.gguf, mmproj.gguf" in refusal(lambda: gguf_files.chosen(tmp_path, None))
    (tmp_path / "model.safetensors").touch()
    assert not gguf_files.is_gguf(tmp_path)  # a base that comes with a projector
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").touch()
    model_files.gguf(tmp_path / "base" / "gguf" / "x.gguf")
    assert not gguf_files.is_gguf(tmp_path / "base")  # or with builds of it


def test_a_blob_without_an_ending_is_told_by_its_start(tmp_path: Path, model_files: Any) -> None:
    assert gguf_files.is_gguf(model_files.gguf(tmp_path / "sha256-0123"))
    (tmp_path / "x").write_text("x")
    assert not gguf_files.is_gguf(tmp_path / "x")
    assert not gguf_files.is_gguf(tmp_path / "none")


def test_shards_that_do_not_belong_together(tmp_path: Path, model_files: Any) -> None:
    shards = model_files.gguf_shards(tmp_path)
    other = model_files.gguf_shards(tmp_path / "other", count=4)
    shards[2].write_bytes(other[2].read_bytes())
    assert "is no shard 3 of 3 by its header" in refusal(lambda: gguf_files.check(shards[0]))
    fields = {"split.no": 2, "split.count": 3}
    model_files.gguf(shards[2], fields=fields, tensors={"a": (2,), "b": (2,)})
    assert "hold 4 tensors, and the first says 3" in refusal(lambda: gguf_files.check(shards[0]))


def test_shards_in_a_folder_of_their_own(tmp_path: Path, model_files: Any) -> None:
    """As a repository of the Hub lies on the disk that keeps every quantization in a folder."""
    shards = model_files.gguf_shards(tmp_path / "repo" / "Q4_K_M")
    assert gguf_files.is_gguf(tmp_path / "repo")
    assert gguf_files.chosen(tmp_path / "repo", None) == shards[0]
    assert gguf_files.chosen(tmp_path / "repo", "Q4_K_M/x-00001-of-00003.gguf") == shards[0]
    model_files.gguf_shards(tmp_path / "repo" / "Q8_0")
    said = refusal(lambda: gguf_files.chosen(tmp_path / "repo", None))
    assert "Q4_K_M/x-00001-of-00003.gguf in 3 shards, Q8_0/x-00001-of-00003.gguf in 3 shards" in said
