"""What our guards and logging cost beside bare TRL, and what packing brings: SFT of the embedded model on a CPU.

The rows are short, as those of a classifier or a quick question are: some 50 tokens each.
"""

import json
import shutil
import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.common import Measured, Peer, scratch, settings
from playground.settings import Settings
from training import recipe
from training.run import preparing, runs
from training.run.runs import Run

STEPS = 10
EPOCHS = "trainer.num_train_epochs=4"
ROWS = [
    {"instruction": f"What is {a} plus {b}?", "output": f"{a} plus {b} is {a + b}."}
    for a in range(20)
    for b in range(8)
]


def run(times: int) -> Iterator[Measured]:
    """Interleaved: bare TRL and ours on the same rows, then ours unpacked and packed."""
    home = scratch()
    try:
        chosen = Settings(data=home)
        chosen.models_dir.symlink_to(settings().models_dir)
        unpacked = _begun(chosen)
        mean = _mean_tokens(unpacked)
        rows = unpacked.recipe().effective_batch
        one_pack = ["trainer.packing=true", f"trainer.max_length={round(rows * mean)}"]
        one_pack += ["trainer.per_device_train_batch_size=1", "trainer.gradient_accumulation_steps=1"]
        packed = _begun(chosen, *one_pack)
        peers = {
            "bare": Peer("peer_sft", "bare", str(unpacked.folder)),
            "guarded": Peer("peer_sft", "guarded", str(unpacked.folder)),
            "packed": Peer("peer_sft", "packed", str(packed.folder)),
        }
        answers: dict[str, list[Any]] = {name: [] for name in peers}
        for _ in range(times):
            for name, peer in peers.items():
                answers[name].append(peer.call({"steps": STEPS}))
        for peer in peers.values():
            peer.close()
        step = {name: [statistics.median(answer["times"]) for answer in found] for name, found in answers.items()}
        speed = {name: [answer["tokens_per_s"] for answer in found] for name, found in answers.items()}
        yield Measured("a step with our guards over bare TRL's", step["guarded"], step["bare"], "<= 1.03", "s")
        yield Measured("tokens/s packed over unpacked (2 x 4)", speed["packed"], speed["guarded"], ">= 1.2", "tokens/s")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _begun(chosen: Settings, *sets: str) -> Run:
    rows = chosen.data / "short.jsonl"
    rows.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    shipped = recipe.load(recipe.find("sft"), ["data.evaluation=null", f"data.source={rows}", EPOCHS, *sets])
    prepared = preparing.look(chosen, shipped)
    made = runs.create(chosen, prepared.recipe)
    preparing.write(made, prepared)
    return made


def _mean_tokens(made: Run) -> float:
    from training.data import tokenized

    rows = tokenized.read(made.data / "train.arrow").to_pylist()
    return statistics.mean(len(row["input_ids"]) for row in rows)
