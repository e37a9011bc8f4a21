"""Reading files against the libraries that wrote them: safetensors in three types, packed four bits, GGUF."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from playground.errors import VariantError
from training.export.parity.weights import FolderWeights, GgufWeights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_safetensors_in_every_type(dtype: torch.dtype, tmp_path: Path) -> None:
    matrix, vector = torch.randn(6, 8).to(dtype), torch.randn(5).to(dtype)
    save_file({"m.weight": matrix, "v": vector}, tmp_path / "model.safetensors")
    read = FolderWeights.of_model(tmp_path)
    assert read.shape("m.weight") == (6, 8)
    assert np.array_equal(read.rows("m.weight", slice(2, 5)), matrix[2:5].float().numpy())
    assert np.array_equal(read.rows("m.weight", np.array([5, 0])), matrix[[5, 0]].float().numpy())
    assert np.array_equal(read.rows("v", slice(None)), vector[None].float().numpy())


@pytest.mark.parametrize("symmetric", [True, False])
def test_packed_four_bits(symmetric: bool, tmp_path: Path) -> None:
    """As compressed-tensors packs them: eight to a word, first in the lowest bits, offset by eight."""
    rng = np.random.default_rng(3)
    values, zeros = rng.integers(-8, 8, (16, 64)), np.zeros((16, 2), dtype=np.int64)
    if not symmetric:
        zeros = rng.integers(-8, 8, (16, 2))
    scales = rng.random((16, 2)).astype(np.float32)

    def packed(rows: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> torch.Tensor:
        words = sum((((rows + 8)[:, place::8]) << (4 * place)) for place in range(8))
        return torch.from_numpy(np.asarray(words, dtype=np.uint32).view(np.int32))

    tensors = {"a.weight_packed": packed(values), "a.weight_scale": torch.from_numpy(scales)}
    tensors["a.weight_shape"] = torch.tensor([16, 64])
    if not symmetric:
        tensors["a.weight_zero_point"] = packed(zeros.T).T.contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    read = FolderWeights.of_model(tmp_path)
    want = (values - zeros.repeat(32, axis=1)) * scales.repeat(32, axis=1)
    assert (read.names(), read.kind("a.weight"), read.shape("a.weight")) == (["a.weight"], "INT4", (16, 64))
    assert np.allclose(read.rows("a.weight", slice(None)), want)
    assert np.allclose(read.rows("a.weight", np.array([3, 9])), want[[3, 9]])


def test_a_gguf_reads_as_its_library_reads_it(tmp_path: Path) -> None:
    from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize

    weights = np.random.default_rng(4).normal(size=(8, 64)).astype(np.float32)
    coarse = quantize(weights, GGMLQuantizationType.Q8_0)
    writer = GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_token_list(["가", "b"])
    writer.add_tensor("a.weight", coarse, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.add_tensor("b.weight", weights[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = GgufWeights(tmp_path / "x.gguf")
    assert (read.arch, read.tokens, read.kind("a.weight"), read.shape("a.weight")) == (
        "llama",
        ["가", "b"],
        "Q8_0",
        (8, 64),
    )
    assert np.array_equal(read.rows("a.weight", slice(2, 4)), dequantize(coarse, GGMLQuantizationType.Q8_0)[2:4])
    assert np.array_equal(read.rows("b.weight", slice(0, 1)), weights[:1])


def test_what_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUFnonsense")
    with pytest.raises(VariantError, match=r"x.gguf \(12 bytes\) is cut short or damaged"):
        GgufWeights(tmp_path / "x.gguf")
