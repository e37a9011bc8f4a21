"""Load a base to be trained: through Unsloth where it runs, through transformers and PEFT everywhere else.

Runs in the trainer's own process: Unsloth must be imported before transformers, which it patches.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from playground.catalogue.architectures import auto_class
from playground.errors import ConfigError, SetupError, VariantError
from playground.settings import ChildEnvironment, set_defaults
from playground.system import hardware
from training.methods import METHODS
from training.recipe import Recipe
from training.run.runs import Model, Plan

UNSLOTH_FIELDS = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "bias",
    "target_modules",
    "use_rslora",
    "modules_to_save",
    "init_lora_weights",
    "layers_to_transform",
    "layers_pattern",
    "target_parameters",
)
"""Fields of LoraConfig that Unsloth's get_peft_model takes."""


@dataclass(frozen=True)
class Loaded:
    """A model, its tokenizer, and the LoRA still to be put on it (None: it is on)."""

    model: Any
    tokenizer: Any
    lora: Any = None


def engine(recipe: Recipe) -> str:
    """Return unsloth or peft: what the recipe asks for, else Unsloth where card, package and one device are there."""
    has = find_spec("unsloth") is not None
    if METHODS[recipe.method].rewarded:  # Unsloth replaces TRL's way of generating and of scoring
        if recipe.engine == "unsloth":
            raise SetupError("method: grpo trains with PEFT and TRL alone.", "Say engine: auto, or leave it out.")
        return "peft"
    card = hardware.vram_total() > 0
    if recipe.engine == "unsloth" and not (has and card):
        lacks = "no NVIDIA GPU" if not card else "no package unsloth"
        raise SetupError(
            f"The recipe asks for engine: unsloth, and this machine has {lacks}.",
            "Install it with EXTRAS=unsloth on a machine with a GPU, or say engine: auto.",
        )
    if recipe.engine == "auto":
        plain = set(recipe.lora) <= set(UNSLOTH_FIELDS) and recipe.dtype in ("auto", "bf16")
        return "unsloth" if has and card and recipe.devices == 1 and recipe.deepspeed is None and plain else "peft"
    return recipe.engine


def prepare(chosen: str, scratch: Path) -> None:
    """Do what must happen before transformers is imported; `scratch` takes the code that Unsloth compiles."""
    if chosen == "unsloth":
        set_defaults(UNSLOTH_COMPILE_LOCATION=str(scratch), UNSLOTH_DISABLE_STATISTICS="1")
        import unsloth  # noqa: F401 - it patches transformers and TRL


def load(chosen: str, recipe: Recipe, model: Model, plan: Plan, on_card: bool) -> Loaded:
    """Return the base with its adapter, or with the adapter's config for TRL to put on."""
    if chosen == "unsloth":
        return _unsloth(recipe, model, plan)
    return _peft(recipe, model, plan, on_card)


def _unsloth(recipe: Recipe, model: Model, plan: Plan) -> Loaded:
    from unsloth import FastLanguageModel

    unknown = set(recipe.lora) - set(UNSLOTH_FIELDS)
    if unknown:
        raise ConfigError(
            f"Unsloth does not take lora.{', lora.'.join(sorted(unknown))}.", "Say engine: peft, or leave it out."
        )
    base, tokenizer = FastLanguageModel.from_pretrained(
        model.folder,
        max_seq_length=plan.max_length,
        load_in_4bit=recipe.load_in_4bit,
        dtype=None,
        local_files_only=True,
    )
    lora = recipe.lora | {"r": plan.rank}
    loftq = lora.get("init_lora_weights") == "loftq"
    wrapped = FastLanguageModel.get_peft_model(
        base,
        use_gradient_checkpointing="unsloth" if plan.checkpointing else False,
        random_state=recipe.seed,
        **(lora | {"init_lora_weights": True} if loftq else lora),
    )
    if loftq:
        _loftq(wrapped, model)
    return Loaded(wrapped, tokenizer)


def _peft(recipe: Recipe, model: Model, plan: Plan, on_card: bool) -> Loaded:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(model.folder, trust_remote_code=False)
    how = _how(recipe, on_card) | {"attn_implementation": "sdpa", "output_loading_info": True}
    base, report = auto_class(config).from_pretrained(model.folder, config=config, trust_remote_code=False, **how)
    if (missing := sorted(report["missing_keys"])) and recipe.deepspeed is None:
        raise VariantError(
            f"{model.folder} lacks {len(missing)} of the weights of a {type(base).__name__}, {missing[0]} first.",
            "Download or copy the model again; training would begin from random numbers there.",
        )
    base.config.use_cache = False
    tokenizer = AutoTokenizer.from_pretrained(model.folder, trust_remote_code=False)
    fields = recipe.lora | {"r": plan.rank}
    if fields.get("init_lora_weights") != "loftq":
        return Loaded(base, tokenizer, LoraConfig(task_type="CAUSAL_LM", **fields))
    wrapped = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **(fields | {"init_lora_weights": True})))
    _loftq(wrapped, model)
    return Loaded(wrapped, tokenizer)


def _how(recipe: Recipe, on_card: bool) -> dict[str, Any]:
    """Return dtype, device and quantization to load with; float32 on a CPU, where bf16 learns little per step."""
    import torch

    names = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    if recipe.dtype == "auto":
        half = torch.bfloat16 if on_card and torch.cuda.is_bf16_supported() else torch.float16
        dtype = half if on_card else torch.float32
    else:
        dtype = names[recipe.dtype]
    how: dict[str, Any] = {"dtype": dtype}
    if recipe.load_in_4bit:
        how["quantization_config"] = _nf4(dtype, on_card)
    if on_card and recipe.deepspeed is None:
        how["device_map"] = {"": ChildEnvironment().local_rank}
    return how


def _nf4(dtype: Any, on_card: bool) -> Any:
    from transformers import BitsAndBytesConfig

    if not on_card or find_spec("bitsandbytes") is None:
        lacks = "an NVIDIA GPU" if not on_card else "the package bitsandbytes"
        raise SetupError(
            f"load_in_4bit needs {lacks}.", "Leave it out, or install with EXTRAS=cuda on a machine with a GPU."
        )
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def _loftq(wrapped: Any, model: Model) -> None:
    """Set LoftQ's first A and B from the unquantized weights; the base stays as every other adapter has it."""
    from peft import replace_lora_weights_loftq

    folder = Path(model.folder)
    single = folder / "model.safetensors"
    if not single.is_file():
        raise ConfigError(
            f"LoftQ reads one model.safetensors, and {folder} has shards.",
            "Save the base in one file, or leave lora.init_lora_weights out.",
        )
    replace_lora_weights_loftq(wrapped, model_path=str(single))
