"""Train the demo's adapter again, from the shipped examples: `python -m training.demo.train`.

It takes about three and a half minutes on two idle cores. On the same machine and versions it gives the same bytes
again; other processors round differently and give an adapter that is as good. Anything that is not the demo is trained
from a recipe instead.
"""

import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import typer

from playground.settings import Settings
from playground.system.atomic import replacing
from training.demo.examples import Message, train_conversations
from training.demo.prepare import BASE, SHIPPED_ADAPTER, prepare_base
from training.demo.unpack import UPSTREAM

CONFIG, WEIGHTS, SUMS = "adapter_config.json", "adapter_model.safetensors", "SHA256SUMS"

SEED = 20
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA: dict[str, Any] = {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none", "target_modules": LINEAR}
TRAINER: dict[str, Any] = {
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "max_length": 512,
    "logging_steps": 5,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": True,  # in matrix products only: half the time of float32 here
    "seed": SEED,
}


def train(base_dir: Path, out_dir: Path) -> None:
    """Fit a LoRA to the shipped examples and write it, as F16 and without this machine's paths, to `out_dir`."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(2)
    set_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(base_dir)
    model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model,
            args=SFTConfig(output_dir=scratch, **TRAINER),
            train_dataset=Dataset.from_list(turns(train_conversations())),
            processing_class=tokenizer,
            peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA),
        )
        trainer.train()
        trainer.model.save_pretrained(scratch)
        _ship(Path(scratch), out_dir)


def turns(conversations: list[list[Message]]) -> list[dict[str, list[Message]]]:
    """Return one row per answer: what was said before it as the prompt, and the answer, which alone is learnt."""
    return [
        {"prompt": messages[:i], "completion": [message]}
        for messages in conversations
        for i, message in enumerate(messages)
        if message["role"] == "assistant"
    ]


def _ship(trained: Path, out_dir: Path) -> None:
    """Write the adapter in F16: half the bytes, and finer than what training leaves certain."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(trained / WEIGHTS)
    halves = {name: tensor.to(torch.float16).contiguous() for name, tensor in weights.items()}
    with replacing(out_dir / WEIGHTS) as part:
        save_file(halves, part, metadata={"format": "pt"})
    config = json.loads((trained / CONFIG).read_text(encoding="utf-8"))
    # PEFT writes where the base lay on this machine, and sets in any order.
    config |= {"base_model_name_or_path": UPSTREAM, "target_modules": LINEAR}
    (out_dir / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    sums = [f"{hashlib.sha256((out_dir / name).read_bytes()).hexdigest()}  {name}\n" for name in (CONFIG, WEIGHTS)]
    (out_dir / SUMS).write_text("".join(sums), encoding="utf-8")


def main(out: Path = SHIPPED_ADAPTER) -> None:
    """Train the demo adapter again, into the shipped one's folder or into the one given."""
    models_dir = Settings().models_dir
    prepare_base(models_dir)
    began = time.monotonic()
    train(models_dir / BASE, out)
    sys.stdout.write(f"Trained {out} in {time.monotonic() - began:.0f} s.\n")


if __name__ == "__main__":
    typer.run(main)
