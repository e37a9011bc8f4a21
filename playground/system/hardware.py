"""What this process may use of the machine: cores, RAM and VRAM, cut by containers and by settings."""

import os
import subprocess
from functools import cache
from pathlib import Path

import psutil

from playground.settings import Settings

GIB = 2**30


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
