"""What this process may use: cores, RAM and VRAM, and what a model will need of them before it is loaded."""

import os
import subprocess
from functools import cache
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from playground.files import safetensors_bytes
from playground.protocol import ModelSpec
from playground.settings import Settings

GIB = 2**30
RUNTIME_BYTES = {"transformers": int(0.55 * GIB), "llama_cpp": int(0.12 * GIB), "fake": 2**20}
"""RAM of a worker before any weights: the interpreter and its engine's libraries (measured by benchmarks/memory.py)."""
DTYPE_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0}
NF4_BYTES = 0.6
"""Bytes a weight in NF4 with its scales, embeddings left in 16 bits included."""


class Need(BaseModel):
    """Bytes a model takes, estimated from its files."""

    model_config = ConfigDict(frozen=True)

    ram: int
    vram: int = 0


def usable_cores() -> int:
    """Cores this process may use: its affinity, cut by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(int(quota) / int(period))))


def usable_ram() -> int:
    """Bytes of RAM this process may ever hold: the machine's, cut by a container's limit."""
    total = psutil.virtual_memory().total
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no such container, or its limit is `max`
        return total
    return min(total, limit)


@cache
def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies in bf16 itself (AVX512-BF16, AMX or Arm's BF16); emulated, it is slower than fp32."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().replace("\n", " ").split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


@cache
def vram_total() -> int:
    """Bytes of memory on all NVIDIA cards together; 0 without one. Asks the driver, never torch."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(int(line) * 2**20 for line in answer.split() if line.isdigit())


def ram_budget(settings: Settings) -> int:
    """Bytes of RAM for all loaded models: the setting, else 80 % of what is usable."""
    return int(settings.ram_budget_gb * GIB) if settings.ram_budget_gb else int(usable_ram() * 0.8)


def vram_budget(settings: Settings) -> int:
    """Bytes of VRAM for all loaded models: the setting, else 90 % of the cards."""
    return int(settings.vram_budget_gb * GIB) if settings.vram_budget_gb else int(vram_total() * 0.9)


def need(spec: ModelSpec) -> Need:
    """What loading a spec will take, from the sizes of its files (kv cache and runtime included)."""
    if spec.engine == "openai":
        return Need(ram=0)
    runtime = RUNTIME_BYTES[spec.engine]
    weights = _weights(spec)
    on_card = vram_total() > 0 and (spec.engine == "transformers" or spec.gpu_layers != 0)
    if spec.engine == "fake":
        return Need(ram=runtime)
    work = int(weights * 0.1) + 64 * 2**20
    return Need(ram=runtime, vram=weights + work) if on_card else Need(ram=runtime + weights + work)


def _weights(spec: ModelSpec) -> int:
    """Bytes the weights take once loaded."""
    path = Path(spec.path)
    if spec.engine == "llama_cpp":
        return path.stat().st_size
    if spec.engine == "fake":
        return 0
    parameters_at_16_bit = safetensors_bytes(path)
    if spec.load_in_4bit:
        return int(parameters_at_16_bit / 2 * NF4_BYTES)
    dtype = spec.dtype if spec.dtype != "auto" else "bf16" if vram_total() or cpu_has_bf16() else "fp32"
    return int(parameters_at_16_bit / 2 * DTYPE_BYTES[dtype])
