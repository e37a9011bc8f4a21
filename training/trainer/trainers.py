"""Build TRL's own trainer from a recipe, with rows that are tokenized already and guards that see every step.

Runs in the trainer's process: torch, transformers, peft and trl are at home here.
"""

from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from trl import pack_dataset

from playground.errors import ConfigError
from training.data import tokenized
from training.methods import METHODS
from training.passthrough import OURS, WITHOUT_KL, trainer_config
from training.recipe import Recipe
from training.run.runs import Plan, Run
from training.trainer.guarded import GuardedDPO, GuardedKTO, GuardedSFT
from training.trainer.guards import Overfitting, Recorder, Watch
from training.trainer.loading import Loaded

if TYPE_CHECKING:
    import pyarrow as pa

OFFLOADED = {"device": "cpu", "pin_memory": True}
DEEPSPEED: dict[str, dict[str, Any]] = {
    "zero2": {"stage": 2, "offload_optimizer": OFFLOADED, "overlap_comm": True, "contiguous_gradients": True},
    "zero3": {"stage": 3, "offload_optimizer": OFFLOADED, "stage3_gather_16bit_weights_on_model_save": True},
}


def build(run: Run, recipe: Recipe, plan: Plan, loaded: Loaded, on_card: bool) -> Any:
    """Return the trainer of a run, ready to train."""
    datasets = {split: _rows(run, recipe, plan, split) for split in ("train", "evaluation")}
    if datasets["train"] is None or not len(datasets["train"]):
        raise ConfigError("No row is left to train on.", "Raise trainer.max_length; `madang data check` shows why.")
    if datasets["evaluation"] is not None and not len(datasets["evaluation"]):
        raise ConfigError("No row is left to evaluate on.", "Raise trainer.max_length, or hold out other rows.")
    arguments = config(run, recipe, plan, on_card, datasets["evaluation"] is not None)
    recorder, rewarded = Recorder(run), METHODS[recipe.method].rewarded
    callbacks = [recorder]
    if datasets["evaluation"] is not None:
        callbacks.append(Overfitting(run, recipe.guards.patience, "reward" if rewarded else "loss"))
    scored = {"reward_funcs": _rewards(recipe, datasets["train"])} if rewarded else {}
    trainer = _guarded(recipe.method)(
        model=loaded.model,
        args=arguments,
        train_dataset=datasets["train"],
        eval_dataset=datasets["evaluation"],
        processing_class=loaded.tokenizer,
        peft_config=loaded.lora,
        callbacks=callbacks,
        **scored,
    )
    trainer.data_collator = trainer.with_rows(trainer.data_collator)
    trainer.watch, trainer.recorder = Watch(run, scaled=bool(arguments.fp16)), recorder
    return trainer


def _guarded(method: str) -> type[Any]:
    """Return the trainer of a method. ORPO's, which TRL keeps apart as an experiment, is imported for ORPO alone."""
    if method == "orpo":
        from training.trainer.orpo import GuardedORPO

        return GuardedORPO
    if method == "grpo":
        from training.trainer.grpo import GuardedGRPO

        return GuardedGRPO
    return {"dpo": GuardedDPO, "kto": GuardedKTO}.get(method, GuardedSFT)


def _rewards(recipe: Recipe, rows: Dataset) -> list[Any]:
    from training.trainer.grpo import rewards

    return rewards(recipe, rows)


def config(run: Run, recipe: Recipe, plan: Plan, on_card: bool, evaluated: bool) -> Any:
    """Return TRL's config: the recipe's block, what the plan says of memory, and what is not the recipe's business."""
    fields = {name: value for name, value in recipe.trainer.items() if name not in OURS["trainer"]}
    fields |= {
        "per_device_train_batch_size": plan.batch,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_checkpointing": plan.checkpointing,
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
    figure = "reward" if METHODS[recipe.method].rewarded else "loss"
    if figure == "loss":
        fields["max_length"] = plan.max_length
    fields |= _precision(fields, on_card)
    if plan.whole_logits:
        fields.setdefault("loss_type", "nll")
    if not METHODS[recipe.method].compares:
        fields["dataset_kwargs"] = {"skip_prepare_dataset": True}
    if recipe.deepspeed:
        fields["deepspeed"] = deepspeed(recipe.deepspeed)
    if evaluated:
        fields |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": f"eval_{figure}",
            "greater_is_better": figure == "reward",
            "eval_on_start": not run.whole_checkpoints(),
        }
    else:
        fields["eval_strategy"] = "no"
    return trainer_config(recipe)(**fields)


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
    if METHODS[recipe.method].rewarded:
        from training.trainer.grpo import prompts

        return prompts(table)
    if METHODS[recipe.method].compares:
        table = tokenized.cut_pairs(table, plan.max_length)
        return _dataset(_neighbours(table, recipe, plan, split) if recipe.method == "kto" else table)
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


def _neighbours(table: "pa.Table", recipe: Recipe, plan: Plan, split: str) -> "pa.Table":
    """Return rated rows in the order in which KTO sees them, each with a neighbour's answer for the KL term."""
    batch = plan.batch
    if split == "evaluation":
        batch = int(recipe.trainer.get("per_device_eval_batch_size") or batch)
    table = tokenized.shuffled(table, recipe.seed)
    return table if recipe.trainer.get("loss_type") == WITHOUT_KL else tokenized.with_neighbours(table, batch)


def _dataset(table: "pa.Table") -> Dataset:
    from datasets.table import InMemoryTable

    return Dataset(InMemoryTable(table))
