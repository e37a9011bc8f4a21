"""Check the blocks `lora:` and `trainer:` against the classes that will read them: names, types and values.

Imports peft and trl, which takes seconds, inside its functions.
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pydantic import TypeAdapter, ValidationError

from playground.errors import ConfigError
from playground.settings import set_defaults
from training.methods import METHODS
from training.recipe import Recipe

OURS = {
    "trainer": {
        "output_dir": "runs have a folder of their own",
        "seed": "give `seed` at the top of the recipe",
        "data_seed": "give `seed` at the top of the recipe",
        "resume_from_checkpoint": "use madang train --resume",
        "deepspeed": "give `deepspeed: zero2` or `zero3` at the top of the recipe",
        "use_cpu": "the device is chosen by what this machine has",
        "completion_only_loss": "give `data.answers_only`",
        "assistant_only_loss": "give `data.answers_only`",
        "dataset_kwargs": "the data is tokenized before the trainer sees it",
        "dataset_text_field": "give `data.columns`",
        "chat_template_path": "give `data.prompt_format`",
        "model_init_kwargs": "give `dtype` or `load_in_4bit` at the top of the recipe",
        "trust_remote_code": "code that comes with a model is never run",
        "padding_free": "give `packing`, which implies it",
        "remove_unused_columns": "the data is tokenized before the trainer sees it",
        "push_to_hub": "push the finished adapter instead",
        "load_best_model_at_end": "it is always so where `data.evaluation` is given",
        "sync_ref_model": "the reference is the base without the adapter, which stays as it is",
        "generate_during_eval": "ask the adapter in Chat, beside its base",
        "max_completion_length": "give `max_length`: rows are cut at the ends of their answers",
        "auto_find_batch_size": "the guards do that, and keep the effective batch",
        "logging_nan_inf_filter": "the guards stop at a loss that is not finite",
    },
    "lora": {
        "task_type": "it is always CAUSAL_LM",
        "peft_type": "it is always LORA",
        "base_model_name_or_path": "give `model` at the top of the recipe",
        "inference_mode": "an adapter that trains is never in it",
        "alora_invocation_tokens": "adapters that switch on within a prompt cannot be served here",
        "arrow_config": "routers between adapters cannot be served here",
    },
}
CALLED_NOW = {
    "warmup_ratio": "write warmup_steps: 0.1 (below 1 it is the ratio)",
    "max_seq_length": "it is called max_length",
    "max_prompt_length": "prompts are never cut; give max_length for both together",
    "evaluation_strategy": "it is called eval_strategy",
    "no_cuda": "the device is chosen by what this machine has",
    "rank": "it is called r",
    "alpha": "it is called lora_alpha",
    "dropout": "it is called lora_dropout",
    "batch_size": "it is called per_device_train_batch_size",
    "epochs": "it is called num_train_epochs",
    "lr": "it is called learning_rate",
}
LEAST = {
    "r": 1,
    "lora_alpha": 1,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "save_steps": 1,
    "eval_steps": 1,
    "logging_steps": 1,
    "save_total_limit": 2,  # the newest may be half written when a run dies
    "max_length": 16,
    "warmup_steps": 0,
    "weight_decay": 0,
    "desirable_weight": 0,
    "undesirable_weight": 0,
}
POSITIVE = ("learning_rate", "num_train_epochs", "beta", "max_grad_norm")
KEEPS_BASE = (True, False, "gaussian", "orthogonal", "loftq")
"""Beginnings of an adapter that leave the base as it is; LoftQ in the form of loading.py."""
WITHOUT_KL = "apo_zero_unpaired"
"""The loss of KTO that compares no batch with itself."""
KTO_LOSSES = ("kto", WITHOUT_KL)
TRACKERS = {"wandb": "wandb", "tensorboard": "tensorboard", "trackio": "trackio"}


def check(recipe: Recipe) -> None:
    """Raise one ConfigError with every fault of both blocks. Takes the recipe as written, or as resolved."""
    faults = [*_faults("lora", recipe.lora, lora_config()), *_faults("trainer", recipe.trainer, trainer_config(recipe))]
    faults += _tracker_faults(recipe.trainer.get("report_to", "none"))
    if recipe.trainer.get("use_liger_kernel") and find_spec("liger_kernel") is None:
        faults.append("trainer.use_liger_kernel: it is not installed; pip install liger-kernel.")
    faults = faults or [*_refusals(recipe), *_compared_faults(recipe), *_kto_faults(recipe)]
    if recipe.lora.get("init_lora_weights") == "loftq" and not recipe.load_in_4bit:
        faults.append("lora.init_lora_weights = 'loftq': it makes up for a 4-bit base; say load_in_4bit: true, too.")
    if faults:
        raise ConfigError(
            f"The recipe has faults: {' '.join(faults)}",
            "lora takes the fields of PEFT's LoraConfig, trainer those of TRL's "
            f"{trainer_config(recipe).__name__}, by their own names.",
        )


def _compared_faults(recipe: Recipe) -> Iterator[str]:
    """Yield what is asked for where trainers that compare answers pass over it without a word."""
    if not METHODS[recipe.method].compares:
        return
    dropout = recipe.lora.get("lora_dropout")
    if dropout and recipe.trainer.get("disable_dropout", True):
        yield f"lora.lora_dropout = {dropout}: {recipe.method} trains without it, unless disable_dropout is false."
    if smoothing := recipe.trainer.get("label_smoothing_factor"):
        yield f"trainer.label_smoothing_factor = {smoothing}: the loss of {recipe.method} has none; leave it out."
    if not recipe.data.answers_only:
        yield f"data.answers_only = false: {recipe.method} holds answers against each other; leave it out."


def _kto_faults(recipe: Recipe) -> Iterator[str]:
    """Yield what TRL's KTO trainer refuses after the start: it pairs each prompt with its neighbour's answer."""
    trainer = recipe.trainer
    loss = trainer.get("loss_type", KTO_LOSSES[0])
    if recipe.method != "kto" or loss == WITHOUT_KL:
        return
    if loss not in KTO_LOSSES:
        yield f"trainer.loss_type = {loss!r}: KTO knows {' and '.join(KTO_LOSSES)}."
        return
    otherwise = f"or say loss_type: {WITHOUT_KL}."
    batch = trainer.get("per_device_train_batch_size")
    if batch is not None and int(batch) < METHODS["kto"].least_batch:
        yield f"trainer.per_device_train_batch_size = {batch}: KTO's KL term needs 2 rows at once, {otherwise}"
    if trainer.get("train_sampling_strategy", "sequential") != "sequential":
        yield f"trainer.train_sampling_strategy: KTO's KL term needs sequential (rows are shuffled before), {otherwise}"


def coerced(recipe: Recipe) -> Recipe:
    """Return the same recipe, with numbers that were written as text read as numbers."""
    blocks = {"lora": (recipe.lora, lora_config()), "trainer": (recipe.trainer, trainer_config(recipe))}
    update = {
        block: {name: _read(name, value, kind) for name, value in row.items()} for block, (row, kind) in blocks.items()
    }
    return recipe.model_copy(update=update)


def lora_config() -> type[Any]:
    """Return PEFT's LoraConfig."""
    from peft import LoraConfig

    return typing.cast(type[Any], LoraConfig)


def trainer_config(recipe: Recipe) -> type[Any]:
    """Return TRL's config class for the recipe's method."""
    set_defaults(TRL_EXPERIMENTAL_SILENCE="1")  # ORPO lies there, and there is no other
    module, _, name = METHODS[recipe.method].config.partition(":")
    return typing.cast(type[Any], getattr(import_module(module), name))


def _refusals(recipe: Recipe) -> Iterator[str]:
    """Yield what the classes themselves refuse once every field is right alone."""
    for block, kind in (("lora", lora_config()), ("trainer", trainer_config(recipe))):
        fields = {name: _read(name, value, kind) for name, value in getattr(recipe, block).items()}
        if fields.get("init_lora_weights") == "loftq":  # LoraConfig wants more then; loading.py goes another way
            fields["init_lora_weights"] = True
        given = fields if block == "lora" else {"use_cpu": not fields.get("bf16"), "output_dir": "."} | fields
        try:
            kind(**given)
        except (ValueError, TypeError, ImportError) as error:
            yield f"{block}: {str(error).strip().splitlines()[0].rstrip('.')}."


def _faults(block: str, row: Mapping[str, Any], kind: type[Any]) -> Iterator[str]:
    known = [field.name for field in dataclasses.fields(kind) if field.init and field.name not in OURS[block]]
    for name, value in row.items():
        if name in OURS[block]:
            yield f"{block}.{name} = {value!r}: not given here; {OURS[block][name]}."
        elif name not in known:
            near = get_close_matches(name, known, n=2, cutoff=0.6)
            guess = f"did you mean {' or '.join(near)}?" if near else f"not in {kind.__name__}."
            means = f"{CALLED_NOW[name]}." if name in CALLED_NOW else guess
            yield f"{block}.{name}: there is no such field; {means}"
        else:
            yield from _value_faults(f"{block}.{name}", name, value, kind)


def _value_faults(place: str, name: str, value: Any, kind: type[Any]) -> Iterator[str]:
    try:
        read = _read(name, value, kind)
    except ValidationError as error:
        yield f"{place} = {value!r}: {error.errors()[0]['msg'].lower()}."
        return
    number = isinstance(read, int | float) and not isinstance(read, bool)
    if number and name in LEAST and read < LEAST[name]:
        yield f"{place} = {value!r}: it must be {LEAST[name]} or more."
    if number and name in POSITIVE and read <= 0:
        yield f"{place} = {value!r}: it must be above 0."
    if name == "init_lora_weights" and value not in KEEPS_BASE:
        yield f"{place} = {value!r}: it rewrites the base's own weights, and the adapter would fit no plain base."
    if name == "lora_dropout" and not 0 <= read < 1:
        yield f"{place} = {value!r}: it lies between 0 and 1."


def _read(name: str, value: Any, kind: type[Any]) -> Any:
    hint = typing.get_type_hints(kind).get(name, Any)
    if value is None or name == "init_lora_weights":  # its annotation leaves spellings out that it takes
        return value
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config={"arbitrary_types_allowed": True})
    except Exception:  # noqa: BLE001 - some hints are beyond pydantic; the class itself will look at the value
        return value
    read = adapter.validate_python(value)
    if isinstance(value, int) and isinstance(read, float):  # 50 steps stay 50: as 50.0 they would be no number of steps
        return value
    return value if dataclasses.is_dataclass(read) or hasattr(read, "value") else read


def _tracker_faults(asked: Any) -> Iterator[str]:
    for name in [asked] if isinstance(asked, str) else asked or []:
        if name == "none":
            continue
        if name not in TRACKERS:
            yield f"trainer.report_to = {name!r}: known are none, {', '.join(TRACKERS)}."
        elif find_spec(TRACKERS[name]) is None:
            yield f"trainer.report_to = {name!r}: it is not installed; pip install {TRACKERS[name]}."
