"""What this process may use, inside containers too, and what a model will need."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground.protocol import ModelSpec
from playground.settings import Settings
from playground.system import hardware
from playground.system.hardware import GIB
from playground.workers import memory

CGroup = Callable[..., None]


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CGroup:
    """Files of /sys/fs/cgroup with this content; the others do not exist."""
    real = Path

    def place(**files: str) -> None:
        for name, content in files.items():
            (tmp_path / name.replace("_", ".")).write_text(content)

        def path(name: str) -> Path:
            return tmp_path / real(name).name if str(name).startswith(("/sys/fs/cgroup", "/proc/")) else real(name)

        monkeypatch.setattr(hardware, "Path", path)

    return place


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8)],
)
def test_cores_are_cut_by_a_quota(quota: str, cores: int, cgroup: CGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    cgroup(cpu_max=quota + "\n")
    assert hardware.usable_cores() == cores


def test_without_a_cgroup(cgroup: CGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    cgroup()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert hardware.usable_cores() == 5
    assert hardware.usable_ram() == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("limit", "gib"), [("max", 16), (str(4 * GIB), 4), (str(64 * GIB), 16), ("9223372036854771712", 16), ("", 16)]
)
def test_ram_is_cut_by_a_limit(limit: str, gib: int, cgroup: CGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    total = psutil.virtual_memory()._replace(total=16 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: total)
    cgroup(memory_max=limit + "\n")
    assert hardware.usable_ram() == gib * GIB


def test_budgets_are_the_settings_or_a_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "usable_ram", lambda: 10 * GIB)
    monkeypatch.setattr(hardware, "vram_total", lambda: 10 * GIB)
    plain = Settings(data=tmp_path)
    assert (hardware.ram_budget(plain), hardware.vram_budget(plain)) == (8 * GIB, 9 * GIB)
    set_ = Settings(data=tmp_path, ram_budget_gb=1.5, vram_budget_gb=0.5)
    assert (hardware.ram_budget(set_), hardware.vram_budget(set_)) == (1.5 * GIB, 0.5 * GIB)


@pytest.mark.parametrize(("flags", "has"), [("fpu avx512_bf16", True), ("fpu amx_bf16", True), ("fpu avx2", False)])
def test_bf16_is_a_flag_of_the_cpu(flags: str, has: bool, cgroup: CGroup) -> None:
    cgroup(cpuinfo=f"processor\t: 0\nflags\t\t: {flags}\n")
    hardware.cpu_has_bf16.cache_clear()
    assert hardware.cpu_has_bf16() is has
    hardware.cpu_has_bf16.cache_clear()


@pytest.mark.parametrize(
    ("answer", "mib"), [("100, 24576\n0, 24576\n", 49152), ("[N/A], [N/A]\n", 0), ("", 0), (None, 0)]
)
def test_cards_are_asked_of_the_driver(answer: str | None, mib: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: Any) -> Any:
        assert command[0] == "nvidia-smi"
        if answer is None:
            raise FileNotFoundError
        return subprocess.CompletedProcess(command, 0, stdout=answer)

    monkeypatch.setattr(subprocess, "run", run)
    hardware.vram_total.cache_clear()
    assert hardware.vram_total() == mib * 2**20
    hardware.vram_total.cache_clear()


SHAPES = {"model.embed_tokens.weight": (1024, 1024), "lm_head.weight": (1024, 1024)}
PARAMETERS = 2 * 2**20


@pytest.mark.parametrize(
    ("vram", "bf16", "fields", "ram_bytes", "vram_bytes"),
    [
        (0, False, {}, 4.0, 0),
        (0, True, {}, 2.0, 0),
        (0, False, {"dtype": "fp16"}, 2.0, 0),
        (8, False, {}, 0, 2.0),
        (8, False, {"load_in_4bit": True}, 0, memory.NF4_BYTES),
    ],
)
def test_what_a_base_needs(  # noqa: PLR0913
    vram: int,
    bf16: bool,
    fields: dict[str, Any],
    ram_bytes: float,
    vram_bytes: float,
    tmp_path: Path,
    model_files: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "vram_total", lambda: vram * GIB)
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: bf16)
    folder = model_files.base(tmp_path / "b", SHAPES, "BF16")
    need = memory.need(ModelSpec(engine="transformers", name="b", path=str(folder), **fields))
    work = 64 * 2**20
    weights_in_ram, weights_on_card = PARAMETERS * ram_bytes, PARAMETERS * vram_bytes
    runtime = memory.RUNTIME_BYTES["transformers"]
    assert need.ram == pytest.approx(runtime + (weights_in_ram * 1.1 + work if ram_bytes else 0), rel=0.01)
    assert need.vram == pytest.approx(weights_on_card * 1.1 + work if vram_bytes else 0, rel=0.01)


def test_what_a_gguf_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + bytes(2**20))
    monkeypatch.setattr(hardware, "vram_total", lambda: 0)
    spec = ModelSpec(engine="llama_cpp", name="g", path=str(path), gpu_layers=0)
    size = path.stat().st_size
    assert memory.need(spec).ram >= memory.RUNTIME_BYTES["llama_cpp"] + size
    assert memory.need(spec).vram == 0
    monkeypatch.setattr(hardware, "vram_total", lambda: GIB)
    assert memory.need(spec).vram == 0  # no layers on the card
    assert memory.need(spec.model_copy(update={"gpu_layers": "auto"})).vram >= size


def test_a_fake_needs_next_to_nothing() -> None:
    assert memory.need(ModelSpec(engine="fake", name="f", path="fake:x")).ram < 2**21
