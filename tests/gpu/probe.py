"""Asks a model and its adapter something through one engine, in a process of its own: Unsloth patches all it touches.

python -m tests.gpu.probe loss peft|unsloth ADAPTER ROWS     mean loss over tokenized rows
python -m tests.gpu.probe packing peft|unsloth BASE          how far packed logits are from those of rows alone
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.data import tokenized

ENGINE = sys.argv[2]
if ENGINE == "unsloth":
    import unsloth  # noqa: F401 - before transformers

import torch  # noqa: E402


def load(folder: str) -> Any:
    if ENGINE == "unsloth":
        from unsloth import FastLanguageModel

        model, _ = FastLanguageModel.from_pretrained(folder, max_seq_length=1024, dtype=None, load_in_4bit=False)
        return model.eval()
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    file = Path(folder) / "adapter_config.json"
    base = json.loads(file.read_text())["base_model_name_or_path"] if file.is_file() else folder
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, attn_implementation="sdpa").cuda()
    return (PeftModel.from_pretrained(model, folder) if file.is_file() else model).eval()


def loss(adapter: str, rows: str) -> dict[str, float]:
    model, total, count = load(adapter), 0.0, 0
    for row in tokenized.read(Path(rows)).to_pylist():
        ids, labels = (torch.tensor([row[name]], device="cuda") for name in ("input_ids", "labels"))
        with torch.no_grad():
            logits = model(input_ids=ids).logits.float()
        each = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:].long(), reduction="sum")
        total, count = total + float(each), count + int((labels[0, 1:] >= 0).sum())
    return {"loss": total / count}


def packing(base: str) -> dict[str, float]:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    model = load(base)
    if ENGINE == "unsloth":  # the leak would be in training's forward pass
        from unsloth import FastLanguageModel

        model = FastLanguageModel.get_peft_model(model, r=8, use_gradient_checkpointing=False)
    model.train()
    torch.manual_seed(0)
    rows = [torch.randint(1000, 20000, (length,)).tolist() for length in (37, 52, 21)]
    item = {"input_ids": sum(rows, []), "labels": sum(rows, []), "seq_lengths": [len(row) for row in rows]}
    batch = DataCollatorForLanguageModeling(pad_token_id=2, padding_free=True)([item])
    extra: dict[str, Any] = {}
    if ENGINE == "unsloth":
        extra["packed_seq_lengths"] = torch.tensor(item["seq_lengths"], dtype=torch.int32)
    inputs = {"input_ids": batch["input_ids"].cuda(), "position_ids": batch["position_ids"].cuda(), **extra}

    def logits(**given: Any) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            found: torch.Tensor = model(use_cache=False, **given).logits[0].float()
            return found

    import os

    os.environ["UNSLOTH_RETURN_LOGITS"] = "1"
    packed = logits(**inputs)
    alone = torch.cat([logits(input_ids=torch.tensor([row], device="cuda")) for row in rows])
    joined = logits(input_ids=inputs["input_ids"])
    return {
        "packed": float((packed - alone).abs().mean()),
        "joined": float((joined - alone).abs().mean()),
    }


if __name__ == "__main__":
    probes: dict[str, Callable[..., Any]] = {"loss": loss, "packing": packing}
    found = probes[sys.argv[1]](*sys.argv[3:])
    sys.stdout.write("\n" + json.dumps(found) + "\n")
