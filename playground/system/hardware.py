"""What this process may use of the machine: cores, RAM and VRAM, cut by containers and by settings."""

import os
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from playground.settings import Settings, child_environment

MIB, GIB = 2**20, 2**30


def usable_cores() -> int:
    """Count the cores this process may use: its affinity, cut by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(int(quota) / int(period))))


def usable_ram() -> int:
    """Return the bytes of RAM this process may ever hold: the machine's, cut by a container's limit."""
    total = psutil.virtual_memory().total
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no such container, or its limit is `max`
        return total
    return min(total, limit)


def usable_files() -> int:
    """Return how many files, connections among them, this process may hold open at once."""
    try:
        from resource import RLIMIT_NOFILE, getrlimit
    except ImportError:  # Windows
        return 2048
    soft, _ = getrlimit(RLIMIT_NOFILE)
    return soft if 0 < soft < 2**20 else 2**20


@cache
def cpu_has_bf16() -> bool:
    """Tell whether the CPU multiplies in bf16 itself (AVX512-BF16, AMX or Arm's BF16); emulated, fp32 is faster."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().replace("\n", " ").split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def cards() -> tuple[tuple[int, int], ...]:
    """Return the free and the total bytes of each NVIDIA card; empty without one. Asks the driver, never torch."""
    command = ["nvidia-smi", "--query-gpu=memory.free,memory.total", "--format=csv,noheader,nounits"]
    found = []
    with suppress(OSError, subprocess.SubprocessError):
        answer = _said(command)
        for line in answer.splitlines():
            with suppress(ValueError):  # `[N/A]`: a card that has no memory of its own
                free, total = map(int, line.split(","))
                found.append((free * MIB, total * MIB))
    return tuple(found)


@cache
def capability() -> float:
    """Return the lowest compute capability of the NVIDIA cards (8.0: A100, 9.0: H100); 0 without one."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        answer = _said(command)
        return min(map(float, answer.split()), default=0.0)
    return 0.0


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=child_environment({}))
    return done.stdout


@cache
def vram_total() -> int:
    """Return the bytes of memory on all NVIDIA cards together; 0 without one."""
    return sum(total for _, total in cards())


def ram_budget(settings: Settings) -> int:
    """Return the bytes of RAM for all loaded models: the setting, else 80 % of what is usable."""
    return int(settings.ram_budget_gb * GIB) if settings.ram_budget_gb else int(usable_ram() * 0.8)


def vram_budget(settings: Settings) -> int:
    """Return the bytes of VRAM for all loaded models: the setting, else 90 % of the cards."""
    return int(settings.vram_budget_gb * GIB) if settings.vram_budget_gb else int(vram_total() * 0.9)
