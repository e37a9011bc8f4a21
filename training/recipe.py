"""Read recipes: what a fine-tune is, as one typed Recipe in YAML; all faults in one error. Loads no engine.

`lora:` and `trainer:` hold the fields of PEFT's LoraConfig and TRL's config of the method by their own names: they are
not declared again here. What they may be is checked against those very classes, in passthrough.py.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from playground.catalogue.names import PromptFormat, readable
from playground.errors import ConfigError, UnknownNameError
from playground.system import documents
from playground.system.paths import refuse_special
from playground.values import Value
from training.methods import METHODS, Method

FOLDER = Path(__file__).with_name("recipes")
Trained = Literal["system", "user", "assistant", "tool"]
Engine = Literal["auto", "unsloth", "peft"]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

LORA: dict[str, Any] = {"r": 16, "lora_alpha": 16, "lora_dropout": 0.0, "bias": "none", "target_modules": LINEAR}
TRAINER: dict[str, Any] = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "learning_rate": 2e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 5,
    "weight_decay": 0.01,
    "max_grad_norm": 0.3,
    "logging_steps": 1,
    "save_steps": 100,
    "save_total_limit": 3,
    "report_to": "none",
}
ON_CARD: dict[str, Any] = {"optim": "adamw_8bit", "gradient_checkpointing": True}
ON_CPU: dict[str, Any] = {"optim": "adamw_torch", "gradient_checkpointing": False, "bf16": False, "fp16": False}
EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 50}


class Source(Value):
    """Rows from somewhere: a file, a folder, or a dataset of the Hub."""

    source: str = Field(min_length=1, description="file, folder, or Hub dataset (owner/name)")
    split: str = Field(default="train", description="which part of a Hub dataset")
    format: str = Field(default="auto", description="auto, or a format of the guide: alpaca, messages …")
    columns: dict[str, str] = Field(default={}, description="what a column is called there: {instruction: 질문}")
    limit: int | None = Field(default=None, gt=0, description="only the first rows")


class Mix(Source):
    """General rows mixed in, against forgetting."""

    share: float = Field(default=0.2, gt=0, lt=1, description="of all rows; 0.2 is the guide's 80/20")


class DataPart(Source):
    """What is trained on, how much of it is held out, and how it is rendered."""

    evaluation: float | str | None = Field(default=None, description="share held out, or a file of its own")
    mix: Mix | None = None
    answers_only: bool = Field(default=True, description="loss on the answers alone")
    roles_to_train: tuple[Trained, ...] = Field(default=("assistant",), description="whose turns carry loss")
    prompt_format: PromptFormat = Field(default=None, description="named format for models without a chat template")

    @field_validator("roles_to_train")
    @classmethod
    def _with_answers_only(cls, roles: tuple[Trained, ...], info: ValidationInfo) -> tuple[Trained, ...]:
        if roles != ("assistant",) and not info.data.get("answers_only", True):
            raise ValueError("answers_only: false has every role learnt; leave one of the two out")
        return roles

    @field_validator("evaluation")
    @classmethod
    def _a_share(cls, value: float | str | None) -> float | str | None:
        if isinstance(value, float | int) and not 0 < value < 1:
            raise ValueError("a share lies between 0 and 1; a file is given by its path")
        return value


class Guards(Value):
    """What may be changed to save a run that runs out of memory, and when to stop one that learns by heart."""

    shorten: bool = Field(default=False, description="out of memory: may rows be cut shorter?")
    lower_rank: bool = Field(default=False, description="out of memory: may it start afresh at half the rank?")
    patience: int = Field(default=3, ge=1, description="evaluations without a better loss before it stops")


class Recipe(Value):
    """One fine-tune. Every field but method, model and data has a default; `resolved` writes them out."""

    method: Method
    model: str = Field(min_length=1, description="a base of the catalogue, a folder, or a Hub id")
    data: DataPart
    name: str = Field(default="", description="what the adapter is called: model:name")
    engine: Engine = "auto"
    load_in_4bit: bool = Field(default=False, description="NF4 base (QLoRA); needs an NVIDIA GPU")
    reward: tuple[str, ...] = Field(default=(), description="GRPO: file.py:function that scores answers; or a list")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    lora: dict[str, Any] = Field(default={}, description="fields of PEFT's LoraConfig")
    trainer: dict[str, Any] = Field(
        default={}, description="fields of TRL's SFTConfig, DPOConfig, KTOConfig, ORPOConfig or GRPOConfig"
    )
    guards: Guards = Guards()
    devices: int = Field(default=1, ge=1, le=64, description="GPUs (or CPU processes) of this machine")
    deepspeed: Literal["zero2", "zero3"] | None = None
    kobest: bool = Field(default=False, description="KoBEST's quick sample before and after")
    seed: int = Field(default=3407, ge=0)

    @field_validator("name")
    @classmethod
    def _readable_name(cls, name: str) -> str:
        return readable(name) if name else name

    @field_validator("reward", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("lora", "trainer", mode="before")
    @classmethod
    def _empty_block(cls, value: Any) -> Any:
        """Read `lora:` with nothing under it, which YAML reads as None, as an empty block."""
        return {} if value is None else value

    @property
    def effective_batch(self) -> int:
        """Return the rows of one optimizer step, on all devices together."""
        trainer = self.trainer
        return int(trainer["per_device_train_batch_size"] * trainer["gradient_accumulation_steps"] * self.devices)

    @property
    def answered(self) -> int:
        """Return the answers that GRPO generates at once, on all devices together."""
        return int(self.trainer.get("generation_batch_size") or self.effective_batch)


def names() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(name: str) -> Path:
    """Return a recipe's file, by its path or by the name of a shipped one."""
    refuse_special(Path(name))
    if Path(name).is_file():
        return Path(name)
    if name in names():
        return FOLDER / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        raise ConfigError(f"There is no recipe {name}.", f"Check the path, or use one of: {', '.join(names())}.")
    raise UnknownNameError("recipe", name, names(), "Give a YAML file, or copy one of these from training/recipes.")


def load(path: Path, sets: Sequence[str] = ()) -> Recipe:
    """Read a recipe, with `name=value` changes from the command line on top; every fault in one ConfigError.

    Fields of `lora` and `trainer` are only known to be mappings here; passthrough.check looks into them.
    """
    row = documents.read_fields(path, "recipe", FOLDER)
    for pair in sets:
        _set(row, pair)
    return parse(row, path)


def parse(row: Mapping[str, Any], path: Path) -> Recipe:
    """Return a recipe from its fields; relative paths are looked for beside `path`, then in the working folder."""
    try:
        recipe = Recipe.model_validate(row)
    except ValidationError as error:
        faults = " ".join(_fault(fault) for fault in error.errors())
        raise ConfigError(f"{path.name} has faults: {faults}", f"The recipes in {FOLDER} show the fields.") from error
    placed = {"source": _placed(recipe.data.source, path.parent)}
    if isinstance(recipe.data.evaluation, str):
        placed["evaluation"] = _placed(recipe.data.evaluation, path.parent)
    data = recipe.data.model_copy(update=placed)
    if data.mix:
        source = _placed(data.mix.source, path.parent)
        data = data.model_copy(update={"mix": data.mix.model_copy(update={"source": source})})
    reward = tuple(":".join((_placed(file, path.parent), name)) for file, _, name in map(_split, recipe.reward))
    return recipe.model_copy(update={"data": data, "name": recipe.name or path.stem, "reward": reward})


def resolved(recipe: Recipe, on_card: bool) -> Recipe:
    """Return the recipe with every default written out for this kind of machine; what it says itself wins."""
    device = ON_CARD if on_card else ON_CPU
    evaluated = EVALUATED if recipe.data.evaluation is not None else {}
    often = recipe.trainer.get("save_steps", 0)
    if evaluated and often % evaluated["eval_steps"]:  # it is meant: what is kept is evaluated first
        evaluated = evaluated | {"eval_steps": often}
    trainer = TRAINER | device | METHODS[recipe.method].defaults | evaluated | recipe.trainer
    # ours, not the recipe's: passthrough.py refuses those
    if evaluated and not often and trainer["save_steps"] % trainer["eval_steps"]:
        trainer["save_steps"] += trainer["eval_steps"] - trainer["save_steps"] % trainer["eval_steps"]
    if evaluated and METHODS[recipe.method].rewarded:  # a batch of whole groups, as TRL asks for
        group = trainer.get("num_generations_eval") or trainer["num_generations"]
        trainer.setdefault("per_device_eval_batch_size", group)
    if recipe.lora.get("target_modules") is None:
        lora = LORA | {name: value for name, value in recipe.lora.items() if name != "target_modules"}
    else:
        lora = LORA | recipe.lora
    if "r" in recipe.lora and "lora_alpha" not in recipe.lora:
        lora["lora_alpha"] = recipe.lora["r"]  # the guide: alpha = r
    return recipe.model_copy(update={"lora": lora, "trainer": trainer})


def dump(recipe: Recipe) -> str:
    """Return the recipe as YAML that `load` reads."""
    row = recipe.model_dump(mode="json")
    text: str = yaml.safe_dump(row, allow_unicode=True, sort_keys=False, width=100)
    return text


def _placed(source: str, folder: Path) -> str:
    """Return the absolute path of a source that is a file here; any other may be a dataset of the Hub."""
    path = Path(source).expanduser()
    for found in (folder / path, path):
        if found.exists():
            return str(found.resolve())
    return source


def _split(reward: str) -> tuple[str, str, str]:
    return reward.rpartition(":")


def _set(row: dict[str, Any], pair: str) -> None:
    """Apply a change such as `trainer.max_steps=20`; the value is read as YAML."""
    name, equals, value = pair.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {pair} names no value.", "Write --set trainer.max_steps=20.")
    *parents, last = name.strip().split(".")
    place = row
    for parent in parents:
        if not isinstance(place.get(parent), dict):
            place[parent] = {}
        place = place[parent]
    try:
        place[last] = documents.parse(value, "YAML")
    except ValueError as error:
        raise ConfigError(
            f"--set {name}={value[:60]}: not valid YAML: {error}.", "Quote it, or write a number."
        ) from error


def _fault(fault: Any) -> str:
    """Return a pydantic fault as `field = value: what is wrong.`, with the near matches of an unknown field."""
    place = ".".join(str(part) for part in fault["loc"])
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        near = get_close_matches(str(fault["loc"][-1]), _fields(fault["loc"][:-1]), n=2, cutoff=0.5)
        return f"{place}: there is no such field{'; did you mean ' + ' or '.join(near) + '?' if near else '.'}"
    value = "" if fault["type"] == "missing" or isinstance(fault["input"], dict) else f" = {fault['input']!r}"
    return f"{place}{value}: {message[:1].lower()}{message[1:]}."


def _fields(loc: tuple[Any, ...]) -> list[str]:
    parts: dict[tuple[Any, ...], type[BaseModel]] = {(): Recipe, ("data",): DataPart, ("guards",): Guards}
    return list(parts.get(loc, Mix).model_fields)
