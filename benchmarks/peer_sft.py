"""Trains a few steps of SFT on the embedded model and times each: `bare` TRL, ours (`guarded`), ours with packing.

python -m benchmarks.peer_sft bare|guarded|packed RUN
"""

import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import serve_peer
from training.data import tokenized
from training.run.runs import Run
from training.trainer import loading, trainers

HOW, RUN = sys.argv[1], Run(Path(sys.argv[2]))


def clock() -> Any:
    """A callback that remembers when each step began and ended."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.times: list[float] = []
            self._begun = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            if not self._begun:
                self._begun = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.times.append(time.perf_counter() - self._begun)
            self._begun = 0.0

        def on_log(self, *args: Any, **kwargs: Any) -> None:
            """Logging belongs to a step, on either side: it ends with the next one's begin."""

    return Clock()


def trainer(steps: int) -> Any:
    """A fresh model in a fresh trainer."""
    recipe, plan = RUN.recipe(), RUN.plan()
    recipe = recipe.model_copy(update={"trainer": recipe.trainer | {"max_steps": steps, "save_strategy": "no"}})
    loaded = loading.load("peft", recipe, RUN.model(), plan, on_card=False)
    if HOW != "bare":
        return trainers.build(RUN, recipe, plan, loaded, on_card=False)
    from datasets import Dataset
    from trl import SFTTrainer

    table = tokenized.cut(tokenized.read(RUN.data / "train.arrow"), plan.max_length).drop_columns(["row"])
    arguments = trainers.config(RUN, recipe, plan, on_card=False, evaluated=False)
    return SFTTrainer(
        loaded.model,
        args=arguments,
        train_dataset=Dataset(table),
        processing_class=loaded.tokenizer,
        peft_config=loaded.lora,
    )


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """Train; seconds of each step but the first two, and tokens (padding left out) of all of them together."""
    made, timed = trainer(request["steps"]), clock()
    made.add_callback(timed)
    began = time.perf_counter()
    made.train()
    wall = time.perf_counter() - began
    seen = made.state.log_history[-2]["num_tokens"]
    return {"times": timed.times[2:], "tokens_per_s": seen / wall, "steps": len(timed.times)}


if __name__ == "__main__":
    serve_peer(handle)
