"""The peak RAM of short training runs of the embedded model on the CPU, beside what training.run.memory says of them.

TRL's own trainer in fp32, each setting in a process of its own. Linux alone: it reads the process's high-water mark.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import Measured, settings
from playground.system.hardware import GIB
from training.run import memory
from training.run.parameters import Shape

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SETTINGS: list[dict[str, Any]] = [
    {"batch": 1, "length": 256, "checkpointing": True},
    {"batch": 2, "length": 512, "checkpointing": True},
    {"batch": 2, "length": 512, "checkpointing": True, "lean_heap": True},
    {"batch": 2, "length": 512, "checkpointing": False},
    {"batch": 1, "length": 512, "checkpointing": True, "method": "dpo"},
    {"batch": 2, "length": 512, "checkpointing": True, "method": "kto"},
    {"batch": 1, "length": 512, "checkpointing": True, "method": "orpo"},
]


def run(runs: int) -> Iterator[Measured]:
    """A line a setting: what was said and what was held, once each, since peaks hardly vary."""
    folder = settings().models_dir / "smollm2"
    for setting in SETTINGS:
        said, held = estimated(folder, setting).ram, measured(folder, setting)["trained"]
        words = ", ".join(f"{key} {value}" for key, value in setting.items())
        yield Measured(f"RAM said, held: {words}", [said / GIB], [held / GIB], "0.8 to 1.2", "GiB")


def estimated(folder: Path, setting: dict[str, Any]) -> memory.Estimate:
    """What we say of a setting."""
    shape = Shape.from_config(json.loads((folder / "config.json").read_text()))
    fields = {key: value for key, value in setting.items() if key not in ("rank", "loss")}
    plan = memory.Plan(
        trainable=shape.lora(setting.get("rank", 16)),
        device="cpu",
        bits=32,
        optimizer="adamw_torch",
        full_logits=True if setting.get("loss") == "nll" else None,
        **fields,
    )
    return memory.estimate(shape, plan)


def high_water() -> int:
    """Bytes of RAM this process held at most since it began, or since `forget_high_water`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_high_water() -> None:
    """Let the high-water mark of this process start anew."""
    Path("/proc/self/clear_refs").write_text("5")


def train(folder: str, setting: dict[str, Any]) -> dict[str, int]:
    """Three steps of a run in this process, on random rows of full length; peaks in bytes."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    imported = high_water()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loaded = high_water()
    forget_high_water()
    lora = LoraConfig(task_type="CAUSAL_LM", r=setting.get("rank", 16), lora_alpha=16, target_modules=TARGETS)
    with tempfile.TemporaryDirectory() as out:
        trainer(model, tokenizer, lora, setting, out).train()
    return {"imported": imported, "loaded": loaded, "trained": high_water()}


def trainer(model: Any, tokenizer: Any, lora: Any, setting: dict[str, Any], out: str) -> Any:
    """TRL's trainer of a setting, its defaults kept but for fp32 and the CPU."""
    import torch
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    common = {
        "output_dir": out, "per_device_train_batch_size": setting["batch"], "max_length": setting["length"],
        "gradient_checkpointing": setting["checkpointing"], "use_cpu": True, "bf16": False, "max_steps": 3,
        "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip
    rows = torch.randint(1000, 40000, (3 * setting["batch"], setting["length"])).tolist()
    kinds = {"dpo": (DPOTrainer, DPOConfig), "kto": (KTOTrainer, KTOConfig), "orpo": (ORPOTrainer, ORPOConfig)}
    if (method := setting.get("method")) in kinds:
        kind, config = kinds[method]
        text, half = tokenizer.decode, setting["length"] // 2  # answers too long, so that every row is cut to length
        if method == "orpo":  # which does not cut them so
            rows, text = [row[:half] for row in rows], lambda ids: tokenizer.decode(ids[: half - 1])
        pairs = [{"prompt": text(row[:half]), "chosen": text(row), "rejected": text(row[::-1])} for row in rows]
        data = Dataset.from_list(pairs)
        return kind(model, args=config(**common), train_dataset=data, processing_class=tokenizer, peft_config=lora)
    data = Dataset.from_dict({"input_ids": rows})
    sft = SFTConfig(dataset_kwargs={"skip_prepare_dataset": True}, loss_type=setting.get("loss"), **common)
    return SFTTrainer(model, args=sft, train_dataset=data, processing_class=tokenizer, peft_config=lora)


def measured(folder: Path, setting: dict[str, Any]) -> dict[str, int]:
    """The peaks of a setting, from a fresh process."""
    command = [sys.executable, "-m", "benchmarks.train_memory", "--child", str(folder), json.dumps(setting)]
    lean = memory.LEAN_HEAP if setting.get("lean_heap") else {}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=os.environ | lean)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    peaks: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return peaks


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(train(sys.argv[2], json.loads(sys.argv[3]))))
