"""The process that trains: `python -m training.trainer.process RUN`. supervise.py starts one per try and device.

It writes its outcome into the run's folder: its exit code alone says too little, since native code can end it at once.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Literal

from playground.errors import MadangError, SetupError, disk_full, refused
from playground.settings import ChildEnvironment
from playground.system.atomic import no_room, replacing
from playground.system.processes import ProcessId
from playground.values import Value
from playground.wording import Wording
from training.run.runs import Run
from training.trainer import loading

NO_ROOM = 28
"""The exit code where the disk was too full for an outcome."""


class Outcome(Value):
    """How a try ended. `died`, which only the supervisor says: the process ended before it could write anything."""

    status: Literal["out_of_memory", "not_finite", "error", "stopped", "done", "died"]
    message: Wording = ""
    hint: Wording = ""
    step: int = 0
    engine: str = ""


def main(folder: str) -> int:
    """Train the run of a folder; return 0 when that ended as it should, whether done or stopped."""
    run = Run(Path(folder))
    rank = ChildEnvironment().rank
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor asks through a file, so that a checkpoint is kept
    _die_with_supervisor()
    try:
        outcome = train(run)
    except Exception as error:  # noqa: BLE001 - this is the edge: what is raised here is written down
        traceback.print_exc()
        outcome = _failed(error)
    try:
        with replacing(run.folder / f"outcome-{rank}.json") as part:
            part.write_text(outcome.model_dump_json(exclude_unset=True), encoding="utf-8")
    except OSError as error:
        if not disk_full(error):
            raise
        return NO_ROOM
    return 0 if outcome.status in ("done", "stopped") else 3


def train(run: Run) -> Outcome:
    """Load, train from the last whole checkpoint on, and save the adapter; raise what went wrong."""
    recipe, plan, model = run.recipe(), run.plan(), run.model()
    chosen = loading.engine(recipe)
    loading.prepare(chosen, run.folder / "unsloth")
    import torch
    from transformers import set_seed

    from training.trainer import trainers

    on_card = torch.cuda.is_available()
    torch.set_num_threads(ChildEnvironment().omp_num_threads or torch.get_num_threads())
    set_seed(recipe.seed)
    arguments = trainers.config(run, recipe, plan, on_card, False) if recipe.deepspeed == "zero3" else None
    if arguments is not None:
        import deepspeed

        deepspeed.init_distributed()  # ZeRO 3 shards the weights while they are loaded, and has to know among how many
    loaded = loading.load(chosen, recipe, model, plan, on_card)
    del arguments
    trainer = trainers.build(run, recipe, plan, loaded, on_card)
    done = run.whole_checkpoints()
    try:
        trainer.train(resume_from_checkpoint=str(done[-1]) if done else None)
    except Exception as error:
        _keep_step(run, trainer, error)
        raise
    if run.stop_file.exists() and trainer.state.global_step < trainer.state.max_steps:
        return Outcome(status="stopped", step=trainer.state.global_step)
    _save(run, trainer, model.source)
    return Outcome(status="done", step=trainer.state.global_step, engine=chosen)


def _keep_step(run: Run, trainer: Any, error: Exception) -> None:
    """Save the weights of the step before one that ran out of memory, where they can be saved."""
    import torch

    from training.trainer.guards import is_out_of_memory

    step, kept = trainer.state.global_step, run.whole_checkpoints()
    saved = any(path.name == f"checkpoint-{step}" for path in kept)
    if not is_out_of_memory(error) or not step or saved or trainer.accelerator.num_processes > 1:
        return
    trainer.model.zero_grad(set_to_none=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        trainer._save_checkpoint(trainer.model, None)
    except (RuntimeError, OSError, MadangError):
        traceback.print_exc()  # the checkpoint before it is whole all the same


def _save(run: Run, trainer: Any, source: str) -> None:
    """Save the adapter as plain PEFT loads it, naming its base by the name that others know it by."""
    state = trainer.accelerator.get_state_dict(trainer.deepspeed) if trainer.is_deepspeed_enabled else None
    if not trainer.is_world_process_zero():
        return
    unwrapped = trainer.accelerator.unwrap_model(trainer.model)
    try:
        with replacing(run.adapter) as part:
            unwrapped.save_pretrained(part, selected_adapters=["default"], state_dict=state)
            file = part / "adapter_config.json"
            config = json.loads(file.read_text(encoding="utf-8")) | {"base_model_name_or_path": source}
            config["target_modules"] = sorted(config["target_modules"] or []) or None  # PEFT writes a set in any order
            file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except Exception as error:
        if not no_room(error, run.folder):
            raise
        raise SetupError(
            f"The disk is full: the adapter could not be written to {run.folder}.",
            "Free some space there, then `madang train --resume`: the last checkpoint is kept.",
        ) from error


def _failed(error: Exception) -> Outcome:
    from training.trainer.guards import NotFinite, is_out_of_memory

    if isinstance(error, NotFinite):
        return Outcome(status="not_finite", message=error.message, hint=error.hint)
    if is_out_of_memory(error):
        return Outcome(status="out_of_memory", message=str(error).strip().splitlines()[0])
    told = error if isinstance(error, MadangError) else refused(error)
    if told:
        return Outcome(status="error", message=told.message, hint=told.hint)
    return Outcome(status="error", message=f"{type(error).__name__}: {error}", hint="The log has the whole story.")


def _die_with_supervisor() -> None:
    """Watch the process that started the run, and end with it: a second trainer would spoil the folder."""
    told = ChildEnvironment().madang_supervisor
    if not told:
        return
    pid, _, born = told.partition(":")
    supervisor = ProcessId(int(pid), float(born))

    def watch() -> None:
        while supervisor.alive:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
