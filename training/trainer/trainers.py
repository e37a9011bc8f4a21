"""Build TRL's own trainer from a recipe, with rows that are tokenized already and guards that see every step.

Runs in the trainer's process: torch, transformers, peft and trl are at home here.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer, pack_dataset

from playground.errors import ConfigError, SetupError
from playground.system.atomic import disk_full
from training.data import tokenized
from training.passthrough import OURS
from training.recipe import Recipe
from training.run.runs import Plan, Run, mark_whole
from training.trainer.guards import Overfitting, Recorder, Watch
from training.trainer.loading import Loaded

if TYPE_CHECKING:
    import pyarrow as pa

OFFLOADED = {"device": "cpu", "pin_memory": True}
DEEPSPEED: dict[str, dict[str, Any]] = {
    "zero2": {"stage": 2, "offload_optimizer": OFFLOADED, "overlap_comm": True, "contiguous_gradients": True},
    "zero3": {"stage": 3, "offload_optimizer": OFFLOADED, "stage3_gather_16bit_weights_on_model_save": True},
}


class _Guarded:
    """Mixed into TRL's trainers: the rows of each batch are known, and a checkpoint is whole or not there."""

    watch: Watch
    recorder: Recorder

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss without `rows`, which no model takes."""
        inputs.pop("rows", None)
        return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Take one micro-batch; its rows are remembered until the step is known to be good."""
        rows = inputs.pop("rows", None)
        mask = inputs.get("attention_mask")
        self.recorder.count(mask.sum() if mask is not None else inputs["input_ids"].numel())
        loss = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        self.watch.saw(rows, loss)
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient's norm, which decides whether the optimizer may step."""
        norm = super()._get_grad_norm(*args, **kwargs)  # type: ignore[misc]
        self.watch.step(self.state.global_step, norm)  # type: ignore[attr-defined]
        return norm

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save TRL's checkpoint with a mark that it is complete; remove one that the disk had no room for."""
        step = self.state.global_step  # type: ignore[attr-defined]
        folder = Path(self.args.output_dir) / f"checkpoint-{step}"  # type: ignore[attr-defined]
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self.accelerator.wait_for_everyone()  # type: ignore[attr-defined]
            if self.args.should_save:  # type: ignore[attr-defined]
                mark_whole(folder)
        except Exception as error:
            if not disk_full(error):
                raise
            shutil.rmtree(folder, ignore_errors=True)
            raise SetupError(
                f"The disk is full: the checkpoint of step {step} could not be written to {folder.parent}.",
                "Free some space there, then `madang train --resume`: the last good checkpoint is kept.",
            ) from error


class GuardedSFT(_Guarded, SFTTrainer):  # type: ignore[misc]
    """TRL's SFTTrainer, guarded; for continued pre-training, too."""


class GuardedDPO(_Guarded, DPOTrainer):  # type: ignore[misc]
    """TRL's DPOTrainer, guarded, with pairs that are tokenized already."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


class _WithRows:
    """A collator that adds `rows` [batch, rows of the widest]: which source rows each item holds; -1 pads."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._collate = collate

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        held = [sorted(set(item["rows"])) if "rows" in item else [item["row"]] for item in items]
        batch = self._collate(items)
        width = max(map(len, held))
        batch["rows"] = torch.tensor([rows + [-1] * (width - len(rows)) for rows in held])
        return batch


def build(run: Run, recipe: Recipe, plan: Plan, loaded: Loaded, on_card: bool) -> Any:
    """Return the trainer of a run, ready to train."""
    datasets = {split: _rows(run, recipe, plan, split) for split in ("train", "evaluation")}
    if datasets["train"] is None or not len(datasets["train"]):
        raise ConfigError("No row is left to train on.", "Raise trainer.max_length; `madang data check` shows why.")
    arguments = config(run, recipe, plan, on_card, datasets["evaluation"] is not None)
    kind = GuardedDPO if recipe.method == "dpo" else GuardedSFT
    recorder = Recorder(run)
    callbacks = [recorder]
    if datasets["evaluation"] is not None:
        callbacks.append(Overfitting(run, recipe.guards.patience))
    trainer = kind(
        model=loaded.model,
        args=arguments,
        train_dataset=datasets["train"],
        eval_dataset=datasets["evaluation"],
        processing_class=loaded.tokenizer,
        peft_config=loaded.lora,
        callbacks=callbacks,
    )
    trainer.data_collator = _WithRows(trainer.data_collator)
    trainer.watch, trainer.recorder = Watch(run, scaled=bool(arguments.fp16)), recorder
    return trainer


def config(run: Run, recipe: Recipe, plan: Plan, on_card: bool, evaluated: bool) -> Any:
    """Return TRL's config: the recipe's block, what the plan says of memory, and what is not the recipe's business."""
    fields = {name: value for name, value in recipe.trainer.items() if name not in OURS["trainer"]}
    fields |= {
        "per_device_train_batch_size": plan.batch,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_checkpointing": plan.checkpointing,
        "max_length": plan.max_length,
        "output_dir": str(run.checkpoints),
        "run_name": recipe.trainer.get("run_name") or run.name,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": not on_card,
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "save_strategy": "steps",
        "ddp_find_unused_parameters": False,
    }
    fields.setdefault("per_device_eval_batch_size", plan.batch)
    fields |= _precision(fields, on_card)
    if plan.whole_logits:
        fields.setdefault("loss_type", "nll")
    if recipe.method != "dpo":
        fields["dataset_kwargs"] = {"skip_prepare_dataset": True}
    if recipe.deepspeed:
        fields["deepspeed"] = deepspeed(recipe.deepspeed)
    if evaluated:
        fields |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
            "eval_on_start": not run.whole_checkpoints(),
        }
    else:
        fields["eval_strategy"] = "no"
    return (DPOConfig if recipe.method == "dpo" else SFTConfig)(**fields)


def deepspeed(stage: str) -> dict[str, Any]:
    """Return DeepSpeed's configuration; `auto` takes batch sizes and precision from the trainer."""
    return {
        "zero_optimization": DEEPSPEED[stage],
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
    }


def _precision(fields: dict[str, Any], on_card: bool) -> dict[str, bool]:
    """Return bf16 where the card has it, else fp16, unless the recipe chose."""
    if not on_card or fields.get("bf16") is not None or fields.get("fp16") is not None:
        return {}
    half = torch.cuda.is_bf16_supported()
    return {"bf16": half, "fp16": not half}


def _rows(run: Run, recipe: Recipe, plan: Plan, split: str) -> Dataset | None:
    """Return the tokenized rows of a split, cut and packed as the plan says; None where the recipe has none."""
    path = run.data / f"{split}.arrow"
    if not path.exists():
        return None
    table = tokenized.read(path)
    if recipe.method == "dpo":
        return _dataset(tokenized.cut_pairs(table, plan.max_length))
    packed = bool(recipe.trainer.get("packing"))
    strategy = recipe.trainer.get("packing_strategy") or "bfd"
    if not (packed and strategy != "bfd"):
        table = tokenized.cut(table, plan.max_length)
    if not packed:
        return _dataset(table)
    made = pack_dataset(
        _dataset(tokenized.with_row_of_each_token(table)), plan.max_length, strategy, {"keep_in_memory": True}
    )
    return made


def _dataset(table: "pa.Table") -> Dataset:
    from datasets.table import InMemoryTable

    return Dataset(InMemoryTable(table))
