"""Weights in files, read by name a few rows at a time as float32: safetensors folders and GGUF files. No torch."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from playground.catalogue.files import safetensors_header, weight_files
from playground.errors import VariantError

F32 = NDArray[np.float32]
Rows = slice | NDArray[np.int64]
NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}
FLOATS = ("F64", "F32", "F16", "BF16")
PACKED = ".weight_packed"
NIBBLES = 8
"""Four-bit values in one 32-bit word."""


class Weights(Protocol):
    """Named tensors seen as rows: the last axis is a row, the others are counted through."""

    def names(self) -> list[str]:
        """Return every tensor of numbers."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a shape, rows first, as torch has it."""
        ...

    def kind(self, name: str) -> str:
        """Return the type that it is stored in."""
        ...

    def rows(self, name: str, which: Rows) -> F32:
        """Return some rows, as float32 [rows, columns]; a vector is one row."""
        ...


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies in a safetensors file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


class FolderWeights:
    """The safetensors of a model or adapter folder. Four-bit groups of compressed-tensors read as their `.weight`."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._stored: dict[str, Stored] = {}
        for file in files:
            header = safetensors_header(file)
            with file.open("rb") as stream:
                data = 8 + int(struct.unpack("<Q", stream.read(8))[0])
            for name, row in header.items():
                place = data + row["data_offsets"][0]
                self._stored[name] = Stored(file, row["dtype"], tuple(row["shape"]), place)

    @classmethod
    def of_model(cls, folder: Path) -> "FolderWeights":
        """Read the weights of a model folder, all shards; refuses missing and truncated ones."""
        return cls(weight_files(folder))

    def names(self) -> list[str]:
        """Return every tensor of numbers, packed ones by the name they had."""
        names = [name for name, stored in self._stored.items() if stored.dtype in FLOATS and not _belongs(name)]
        return names + [name.removesuffix(PACKED) + ".weight" for name in self._stored if name.endswith(PACKED)]

    @property
    def unreadable(self) -> list[str]:
        """Return the tensors in a type that is not read here (four-bit bytes of bitsandbytes, say)."""
        return [name for name, stored in self._stored.items() if stored.dtype not in NUMPY_TYPES]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a shape, rows first; of a packed tensor what it had before."""
        if (packed := self._packed(name)) is None:
            return self._stored[name].shape
        sizes = self._raw(packed + "_shape") if packed + "_shape" in self._stored else None
        if sizes is not None:
            return int(sizes[0]), int(sizes[1])
        rows, words = self._stored[packed + "_packed"].shape
        return rows, words * NIBBLES

    def kind(self, name: str) -> str:
        """Return the dtype, or INT4."""
        return "INT4" if self._packed(name) else self._stored[name].dtype

    def rows(self, name: str, which: Rows) -> F32:
        """Return some rows as float32."""
        if (packed := self._packed(name)) is not None:
            return self._unpacked(packed, which)
        raw, stored = self._raw(name), self._stored[name]
        chosen = raw.reshape(-1, raw.shape[-1] if raw.ndim > 1 else raw.size)[which]
        if stored.dtype == "BF16":
            return (chosen.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(chosen, dtype=np.float32)

    def _packed(self, name: str) -> str | None:
        plain = name.endswith(".weight") and name not in self._stored and f"{name}_packed" in self._stored
        return name if plain else None

    def _raw(self, name: str) -> NDArray[Any]:
        stored = self._stored[name]
        if not all(stored.shape):
            return np.zeros(stored.shape, dtype=NUMPY_TYPES[stored.dtype])
        return np.memmap(stored.file, NUMPY_TYPES[stored.dtype], "r", stored.offset, stored.shape or (1,))

    def _unpacked(self, name: str, which: Rows) -> F32:
        """Unpack four bits, eight to a word, times one scale per group: `pack-quantized`, symmetric or not."""
        columns = self.shape(name)[1]
        values = _nibbles(self._raw(f"{name}_packed")[which])[:, :columns].astype(np.float32) - 8
        scales = self.rows(f"{name}_scale", which)
        groups = np.arange(columns) // (columns // scales.shape[1])
        if f"{name}_g_idx" in self._stored:
            groups = np.asarray(self._raw(f"{name}_g_idx"))
        if f"{name}_zero_point" in self._stored:
            zeros = _nibbles(np.asarray(self._raw(f"{name}_zero_point")).T).T[which].astype(np.float32) - 8
            values -= zeros[:, groups]
        return np.asarray(values * scales[:, groups], dtype=np.float32)


def _belongs(name: str) -> bool:
    """Return whether a tensor is part of a packed one."""
    return name.endswith((".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_g_idx"))


def _nibbles(words: NDArray[Any]) -> NDArray[Any]:
    unpacked = (words[..., None].astype(np.uint32) >> (4 * np.arange(NIBBLES, dtype=np.uint32))) & 0xF
    return unpacked.reshape(*words.shape[:-1], -1)


def _reader(file: Path) -> Any:
    from gguf import GGUFReader

    class Reader(GGUFReader):  # type: ignore[misc]  # untyped
        """Reads through a plain view: a slice of a memmap costs five times as much, and a vocabulary takes 250,000."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value.view(np.ndarray) if name == "data" else value)

    return Reader(file)


class GgufWeights:
    """The tensors and the metadata of a GGUF file, through the `gguf` package."""

    def __init__(self, file: Path) -> None:
        try:
            self._reader = _reader(file)
            self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
            self.arch = str(self.meta("general.architecture"))
        except (ValueError, KeyError, IndexError, TypeError, OverflowError, OSError) as error:
            raise VariantError(
                f"{file.name} ({file.stat().st_size:,} bytes) is cut short or damaged: {error}.",
                "Export it again.",
            ) from error

    def meta(self, key: str) -> Any:
        """Return a metadata value; None where the file has none. `{arch}` stands for the architecture."""
        field = self._reader.get_field(key.replace("{arch}", getattr(self, "arch", "")))
        return field.contents() if field is not None else None

    def names(self) -> list[str]:
        """Return every tensor."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a shape, rows first: GGUF itself counts from the other end."""
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def kind(self, name: str) -> str:
        """Return the GGML type."""
        return str(self._tensors[name].tensor_type.name)

    def size(self, name: str) -> int:
        """Return its bytes in the file."""
        return int(self._tensors[name].n_bytes)

    def rows(self, name: str, which: Rows) -> F32:
        """Return some rows, dequantized by the `gguf` package."""
        from gguf import dequantize

        tensor = self._tensors[name]
        data = tensor.data.reshape(-1, tensor.data.shape[-1]) if len(tensor.shape) > 1 else tensor.data.reshape(1, -1)
        return np.asarray(dequantize(data[which], tensor.tensor_type), dtype=np.float32)

    @cached_property
    def tokens(self) -> list[str]:
        """Return the vocabulary by id."""
        return list(self.meta("tokenizer.ggml.tokens") or [])
