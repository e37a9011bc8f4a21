"""A base's safetensors written anew, some rows of a tensor at a time: file names and index stay, memory too."""

import json
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from playground.catalogue.files import DTYPE_SIZE, read_json, safetensors_header, weight_files
from playground.errors import SetupError, VariantError

if TYPE_CHECKING:
    import torch

ROWS = 256
"""Rows at once: few enough for the caches and for memory to be used again; a multiple of every matrix kernel's tile, so
that a product by rows has the bits of the whole one."""
INDEX = "model.safetensors.index.json"
QUANT_STATE = ".quant_state.bitsandbytes__"
FLOATS = ("F64", "F32", "F16", "BF16")
NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}

Change = Callable[[str, "torch.Tensor", int], "torch.Tensor"]
"""Tensor name, rows as stored, number of the first row -> the rows to write, in any float type."""


def rewrite(base: Path, out: Path, dtype: str, change: Change) -> None:
    """Write every weight file of `base` into `out`, floats as `dtype`; 4-bit tensors come out dequantized."""
    with _one_thread():
        _rewrite(base, out, dtype, change)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have torch work alone: on some rows at a time its threads wait for one another longer than they work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rewrite(base: Path, out: Path, dtype: str, change: Change) -> None:
    places: dict[str, str] = {}
    total = 0
    for file in weight_files(base):
        with ExitStack() as stack:
            shard = _Shard(file, stack)
            with (out / file.name).open("wb") as written:
                total += _write(shard, written, dtype, change)
            places |= dict.fromkeys(shard.shapes, file.name)
    if (base / INDEX).exists():
        metadata = read_json(base / INDEX).get("metadata") or {}
        index = {"metadata": metadata | {"total_size": total}, "weight_map": places}
        (out / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def is_4bit(base: Path) -> bool:
    """Return whether a checkpoint holds weights that bitsandbytes packed into 4 bits; any other packing is refused."""
    config = read_json(base / "config.json").get("quantization_config") or {}
    if not config:
        return False
    if config.get("quant_method") == "bitsandbytes" and (config.get("load_in_4bit") or config.get("_load_in_4bit")):
        return True
    raise VariantError(
        f"The base {base.name} is quantized ({config.get('quant_method', 'no method named')}): nothing merges into it.",
        "Name the 16-bit model that it was made from as the adapter's base.",
    )


def own_dtype(base: Path) -> str:
    """Return what most of a checkpoint's weights are kept in, as safetensors names it."""
    held: dict[str, int] = {}
    for file in weight_files(base):
        for row in safetensors_header(file).values():
            begin, end = row["data_offsets"]
            held[row["dtype"]] = held.get(row["dtype"], 0) + end - begin
    return max(held, key=lambda name: held[name], default="F16")


def bytes_16bit(base: Path) -> int:
    """Return what the weights of `base` take in 16 bits, packed ones unpacked; from headers alone."""
    total = 0
    for file in weight_files(base):
        header = safetensors_header(file)
        packed = _packed(header)
        for name in _own(header, packed):
            begin, end = header[name]["data_offsets"]
            width = DTYPE_SIZE[header[name]["dtype"]]
            total += (end - begin) * (4 if name in packed else 2 / width if header[name]["dtype"] in FLOATS else 1)
    return int(total)


def _packed(header: dict[str, Any]) -> dict[str, str]:
    """Return the names of 4-bit tensors, and of what says how each is packed."""
    return {name.partition(QUANT_STATE)[0]: name for name in header if QUANT_STATE in name}


def _own(header: dict[str, Any], packed: dict[str, str]) -> list[str]:
    """Return the tensors that are weights rather than part of a packed one, as they lie in the file."""
    own = [name for name in header if not any(name.startswith(f"{one}.") for one in packed)]
    return sorted(own, key=lambda name: header[name]["data_offsets"])


class _Shard:
    """One open weight file: its tensors as they will be written, and their rows."""

    def __init__(self, file: Path, stack: ExitStack) -> None:
        from safetensors import safe_open

        header = safetensors_header(file)
        self._stored: Any = stack.enter_context(safe_open(file, framework="pt"))
        self._states = _packed(header)
        own = _own(header, self._states)
        self.metadata = self._stored.metadata() or {}
        self.dtypes = {name: "F32" if name in self._states else str(header[name]["dtype"]) for name in own}
        self.shapes = {name: self._shape(name, header) for name in own}

    def rows(self, name: str) -> "Iterator[tuple[int, torch.Tensor]]":
        """Yield the tensor's rows, with the number of the first of each batch."""
        if not self.shapes[name]:
            yield 0, self._stored.get_tensor(name)
            return
        source = self._unpacked(name) if name in self._states else self._stored.get_slice(name)
        for begin in range(0, self.shapes[name][0], ROWS):
            yield begin, source[begin : begin + ROWS]

    def _shape(self, name: str, header: dict[str, Any]) -> list[int]:
        if name in self._states:
            return list(json.loads(bytes(self._stored.get_tensor(self._states[name]).tolist()))["shape"])
        return list(header[name]["shape"])

    def _unpacked(self, name: str) -> "torch.Tensor":
        """Return a 4-bit tensor in the type it was packed from."""
        import torch

        try:
            from bitsandbytes.functional import QuantState, dequantize_4bit
        except ImportError as error:
            raise no_bitsandbytes() from error
        parts = {key: self._stored.get_tensor(key) for key in self._stored.keys() if key.startswith(f"{name}.")}  # noqa: SIM118
        state = QuantState.from_dict(parts, device=torch.device("cpu"))
        unpacked: torch.Tensor = dequantize_4bit(self._stored.get_tensor(name), state)
        return unpacked


def no_bitsandbytes() -> SetupError:
    """Return what to say where a 4-bit base cannot be unpacked."""
    return SetupError(
        "The base is stored in 4 bits, and the package bitsandbytes, which unpacks it, is not installed.",
        'Install it (pip install "madang[cuda]"), or name the 16-bit model that it was made from as the base.',
    )


def _write(shard: _Shard, written: BinaryIO, dtype: str, change: Change) -> int:
    """Write one file, header first; return the bytes of its tensors."""
    import torch

    wanted = getattr(torch, dtype)
    types = {name: NAMES[dtype] if kept in FLOATS else kept for name, kept in shard.dtypes.items()}
    order = sorted(types, key=lambda name: -DTYPE_SIZE[types[name]])  # wide ones first, so that each lies aligned
    header, end = _header(shard, types, order)
    written.write(header)
    for name in order:
        for begin, stored in shard.rows(name):
            rows = stored
            if types[name] == NAMES[dtype]:
                rows = change(name, stored, begin).to(wanted)
            if rows is not stored:
                _check_finite(name, rows, stored)
            written.write(rows.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    if written.tell() != len(header) + end:
        raise VariantError(f"{written.name} came out {written.tell() - len(header) - end:+} bytes long.")
    return end


def _check_finite(name: str, rows: "torch.Tensor", stored: "torch.Tensor") -> None:
    """Refuse rows that hold no numbers any more: a broken adapter, or values beyond float16's range."""
    import torch

    if not rows.numel() or torch.isfinite(torch.stack(torch.aminmax(rows))).all():  # ten times isfinite(rows)
        return
    if stored.abs().max() > torch.finfo(rows.dtype).max:
        raise VariantError(
            f"{name} holds values beyond what {str(rows.dtype).removeprefix('torch.')} can hold.",
            "Export with --dtype bf16.",
        )
    raise VariantError(
        f"{name} comes out as infinity or no number at all.", "The adapter is broken: look at its training."
    )


def _header(shard: _Shard, types: dict[str, str], order: list[str]) -> tuple[bytes, int]:
    rows: dict[str, Any] = {"__metadata__": {"format": "pt"} | shard.metadata}
    end = 0
    for name in order:
        shape = shard.shapes[name]
        size = DTYPE_SIZE[types[name]] * math.prod(shape)
        rows[name] = {"dtype": types[name], "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(rows, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, end
