"""Four GGUF levels beside the bare calls they are made of; a 1B shape merged beside reading and writing its files."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.common import ROOT, Measured, scratch, settings
from training.export import exports, plan, preparing
from training.export.building import Builder

LEVELS = ("q4_k_m", "q5_k_m", "q6_k", "q8_0")
BARE = """
import sys, llama_cpp
source, *targets = sys.argv[1:]
for target in targets:
    level, _, path = target.partition("=")
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + level.upper())
    assert llama_cpp.llama_model_quantize(source.encode(), path.encode(), params) == 0
"""
SHAPE = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "vocab_size": 128256}
SHAPE |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True}
"""Llama 3.2 1B."""
MAKE = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig
base, adapter = sys.argv[1:3]
torch.set_default_dtype(torch.bfloat16)
model = AutoModelForCausalLM.from_config(LlamaConfig(**eval(sys.argv[3])), dtype=torch.bfloat16)
model.save_pretrained(base)
tuned = get_peft_model(model, LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
for name, parameter in tuned.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(parameter, std=0.01)
tuned.save_pretrained(adapter)
"""
MERGE = "import sys; from training.export.merge import merge; merge(*sys.argv[1:4], 'bfloat16')"
CHUNK = 16 << 20


def run(runs: int) -> list[Measured]:
    """Fewer runs than elsewhere, since each takes long."""
    runs = min(runs, 3)
    return [_levels(runs), *_merge(runs)]


def _levels(runs: int) -> Measured:
    """From merged weights to four levels, with all that an export writes, beside convert once and quantize in a row."""
    ours, peer = [], []
    chosen = settings()
    folder = scratch()
    prepared = preparing.prepare(
        chosen, "smollm2:demo", plan.parse(f"gguf:{','.join(LEVELS)}"), preparing.Options(out=folder / "ours")
    )
    builder = Builder(exports.begin(folder / "ours", prepared.asked), prepared.origin, prepared.asked, prepared.sizes)
    builder.merge(_silent)
    for _ in range(runs):
        start = time.perf_counter()
        for number, wanted in enumerate(prepared.asked.wanted):
            builder.build(wanted, _silent)
            builder.modelfile(wanted, number)
        ours.append(time.perf_counter() - start)
        for file in (*(folder / "ours").glob("*.gguf"), builder.f16):
            file.unlink()
        start = time.perf_counter()
        _bare(builder.merged, folder / "bare")
        peer.append(time.perf_counter() - start)
        shutil.rmtree(folder / "bare")
    shutil.rmtree(folder)
    return Measured("four GGUF levels / converting once and bare calls", ours, peer, "<= 1.2", "s")


def _silent(fraction: float, words: str) -> None:
    pass


def _bare(merged: Path, out: Path) -> None:
    out.mkdir()
    f16 = str(out / "f16.gguf")
    convert = [sys.executable, "-m", "convert_hf_to_gguf", str(merged), "--outfile", f16, "--outtype", "f16"]
    targets = [f"{level}={out / level}.gguf" for level in LEVELS]
    for command in (convert, [sys.executable, "-c", BARE, f16, *targets]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _merge(runs: int) -> list[Measured]:
    """In a process of its own, as an export does it: interpreter, torch and all."""
    folder = scratch()
    base, adapter, out = folder / "base", folder / "adapter", folder / "merged"
    subprocess.run([sys.executable, "-c", MAKE, base, adapter, repr(SHAPE)], check=True, cwd=ROOT, capture_output=True)
    (base / "tokenizer.json").write_text("{}")
    size = (base / "model.safetensors").stat().st_size
    walls, copies, peaks = [], [], []
    for _ in range(runs):
        wall, peak = _watched([sys.executable, "-c", MERGE, str(base), str(adapter), str(out)])
        walls.append(wall)
        peaks.append(peak / 1e9)
        shutil.rmtree(out)
        copies.append(_copy(base / "model.safetensors", folder / "copy"))
    shutil.rmtree(folder)
    return [
        Measured("merging a 1B shape: anonymous memory / 16-bit size", peaks, [size / 1e9], "<= 0.5", "GB"),
        Measured("merging a 1B shape / reading and writing its file", walls, copies, "<= 1.5", "s"),
    ]


def _watched(command: list[str]) -> tuple[float, int]:
    """Seconds and the peak of anonymous memory in bytes; what is mapped from files is the system's to drop."""
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    peak = [0]

    def watch() -> None:
        status = Path(f"/proc/{child.pid}/status")
        while child.poll() is None:
            try:
                lines = [line for line in status.read_text().splitlines() if line.startswith("RssAnon")]
            except OSError:
                return
            peak[0] = max([peak[0], *(int(line.split()[1]) * 1024 for line in lines)])
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    if child.wait():
        raise SystemExit("merging failed")
    wall = time.perf_counter() - start
    thread.join()
    return wall, peak[0]


def _copy(source: Path, target: Path) -> float:
    """Seconds to read a file and have its copy on the disk."""
    start = time.perf_counter()
    with source.open("rb") as read, target.open("wb") as written:
        while chunk := read.read(CHUNK):
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds
