"""Estimates the RAM and VRAM of a model from its files, before it is loaded."""

from pathlib import Path

from playground.catalogue.files import loaded_bytes, model_files
from playground.protocol import ModelSpec
from playground.settings import Settings
from playground.system import hardware
from playground.system.hardware import GIB
from playground.values import Value

RUNTIME_BYTES = {"transformers": int(0.55 * GIB), "llama_cpp": int(0.12 * GIB), "fake": 2**20}
"""RAM of a worker before any weights: the interpreter and its engine's libraries, as measured."""
DTYPE_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0}
NF4_BYTES = 0.6
"""Bytes per weight in NF4, with its scales and the embeddings that stay in 16 bits."""


class Need(Value):
    """Bytes a model takes, estimated from its files."""

    ram: int
    vram: int = 0


def need(spec: ModelSpec) -> Need:
    """Return what loading a spec will take, from the sizes of its files (kv cache and runtime included)."""
    if spec.engine == "openai":
        return Need(ram=0)
    runtime = RUNTIME_BYTES[spec.engine]
    weights = _weights(spec)
    on_card = hardware.vram_total() > 0 and (spec.engine == "transformers" or spec.gpu_layers != 0)
    if spec.engine == "fake":
        return Need(ram=runtime)
    return _need(runtime, weights, on_card)


def foreseen(kind: str, parameters: int, file_bytes: int = 0) -> Need:
    """Return what a model on the Hub will take, about: a GGUF by its file, any other by its number of weights."""
    engine = "llama_cpp" if kind == "gguf" else "transformers"
    weights = file_bytes if kind == "gguf" else int(parameters * DTYPE_BYTES[_auto_dtype()])
    return _need(RUNTIME_BYTES[engine], weights, hardware.vram_total() > 0)


def fits(needed: Need, settings: Settings) -> bool:
    """Return whether this machine holds a model when nothing else is loaded."""
    return needed.ram <= hardware.ram_budget(settings) and needed.vram <= hardware.vram_budget(settings)


def _need(runtime: int, weights: int, on_card: bool) -> Need:
    work = int(weights * 0.1) + 64 * 2**20
    return Need(ram=runtime, vram=weights + work) if on_card else Need(ram=runtime + weights + work)


def _auto_dtype() -> str:
    return "bf16" if hardware.vram_total() or hardware.cpu_has_bf16() else "fp32"


def _weights(spec: ModelSpec) -> int:
    """Return the bytes of the weights once loaded."""
    path = Path(spec.path)
    if spec.engine == "llama_cpp":
        return sum(file.stat().st_size for file in model_files(path))
    if spec.engine == "fake":
        return 0
    if spec.load_in_4bit:
        return loaded_bytes(path, NF4_BYTES)
    dtype = spec.dtype if spec.dtype != "auto" else _auto_dtype()
    return loaded_bytes(path, DTYPE_BYTES[dtype])
