"""An adapter that needs PEFT's own layers (DoRA) against PEFT's `generate`, and the memory that it adds to its base."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import PROMPT, ROOT, Measured, Peer, ask, open_playground, settings, source
from playground.compare import Playground
from playground.settings import Settings

TOKENS = 24
BASE = "smollm2"
MAKE = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
torch.manual_seed(7)
layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
config = LoraConfig(r=16, lora_alpha=32, target_modules=layers, use_dora=sys.argv[3] == "dora", task_type="CAUSAL_LM")
model = get_peft_model(AutoModelForCausalLM.from_pretrained(sys.argv[1]), config)
for name, parameter in model.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(parameter, std=0.005)
model.save_pretrained(sys.argv[2])
"""
ROWS = """
[[variant]]
name = "bare"
kind = "base"
source = "{base}"
[[variant]]
name = "adapted"
kind = "adapter"
base = "bare"
source = "{folder}"
"""


def run(runs: int) -> list[Measured]:
    """Tokens/s from the question to the end of the answer; memory after an answer, beside that of the base alone."""
    scratch = Path(tempfile.mkdtemp(prefix="madang-bench-"))
    try:
        return [*_kind("dora", scratch, runs, ">= 0.9"), *_kind("plain", scratch, runs, "-")]
    finally:
        shutil.rmtree(scratch)


def _kind(kind: str, scratch: Path, runs: int, goal: str) -> list[Measured]:
    chosen, folder = settings(), scratch / kind
    base = source(BASE, chosen)
    own = Settings(data=scratch / f"{kind}-data")  # a catalogue of its own
    own.data.mkdir()
    own.catalogue.write_text(ROWS.format(base=base, folder=folder), encoding="utf-8")
    subprocess.run([sys.executable, "-c", MAKE, base, str(folder), kind], check=True, cwd=ROOT, capture_output=True)
    peer = Peer("peer_generate", base, str(folder))
    ours, theirs = [], []
    with open_playground(own) as playground:
        ask(playground, ["bare"], 8)
        alone = _held(playground)
        for number in range(runs + 1):
            answer = ask(playground, ["adapted"], TOKENS)["adapted"]
            said = peer.call({"prompt": PROMPT, "tokens": TOKENS})
            if number:
                ours.append(answer.tokens / answer.wall_s)
                theirs.append(said["tokens"] / said["wall_s"])
            time.sleep(0.3)
        both = _held(playground)
    peer.close()
    return [
        Measured(f"{kind} adapter / PeftModel.generate", ours, theirs, goal, "tokens/s"),
        Measured(f"worker with a {kind} adapter / without, memory", [both], [alone], "<= 1.25", "MB"),
    ]


def _held(playground: Playground) -> float:
    return sum(row.memory.ram for row in playground.pool.loaded()) / 2**20
