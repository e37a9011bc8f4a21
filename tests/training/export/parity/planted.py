"""Faults planted in model files: a GGUF written anew with other metadata or other numbers."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

KEEP = object()
Change = Callable[["np.ndarray[Any, Any]"], "np.ndarray[Any, Any]"]


def rewrite(
    source: Path,
    target: Path,
    meta: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Change] | None = None,
    more: Mapping[str, "np.ndarray[Any, Any]"] | None = None,
) -> Path:
    """Copy a GGUF. `meta` replaces values (None drops a key), `tensors` changes data by name or by its beginning."""
    from gguf import GGUFValueType, GGUFWriter

    (fields, all_tensors), changes = read(source), dict(meta or {})
    writer = GGUFWriter(target, fields["general.architecture"][0])
    for key, (old, types) in fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = changes.pop(key, KEEP)
        if value is None:
            continue
        inner = types[-1] if types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(key, old if value is KEEP else value, types[0], inner)
    for key, value in changes.items():
        kind = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, str: GGUFValueType.STRING}[type(value)]
        writer.add_key_value(key, value, kind)
    for tensor in all_tensors:
        change = next((c for name, c in (tensors or {}).items() if tensor.name.startswith(name)), None)
        data = change(np.array(tensor.data)) if change else tensor.data
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    for name, data in (more or {}).items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@cache
def read(file: Path) -> tuple[dict[str, tuple[Any, Any]], list[Any]]:
    """Every value with its types, and every tensor; seconds for a large vocabulary, hence kept."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    return {key: (field.contents(), field.types) for key, field in reader.fields.items()}, reader.tensors


def zeros(data: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Nothing left."""
    return np.zeros_like(data)
