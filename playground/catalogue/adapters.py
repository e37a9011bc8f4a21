"""What an adapter is, told from its files: the one reader that engines, exports and training ask.

It follows PEFT (`tuners_utils.check_target_module_exists`, `utils.other.get_pattern_key`) without importing it: a check
takes milliseconds. Plain LoRA, A and B beside a linear layer, is computed here; everything else is left to PEFT itself.
"""

import filecmp
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from playground.catalogue import gguf_files
from playground.catalogue.files import read_json, safetensors_header, weight_files
from playground.errors import VariantError
from playground.prompts import own_template
from playground.wording import worded

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"
HEAD = "lm_head"
EMBEDDINGS = (
    "model.embed_tokens",
    "model.language_model.embed_tokens",
    "language_model.model.embed_tokens",
    "embed_tokens",
    "transformer.wte",
    "wte",
)
"""What the embeddings of a base are called; a tied output layer has as many rows and columns."""
TABLES = (*EMBEDDINGS, HEAD, "embed_out", "output")
SPELLINGS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")
"""Files that hold a vocabulary."""
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*")
"""Files that a tokenizer and its chat template are made of."""
ANOTHER = "adapters.another_base"
AS_PLAIN = "adapters.as_plain"
PEFT_KINDS = frozenset(
    {"LORA", "ADALORA", "IA3", "LOHA", "LOKR", "OFT", "HRA", "VERA", "FOURIERFT", "LN_TUNING", "MISS"}
)
"""Kinds of adapters that stand inside the layers of a model, so that one cache and one tokenizer serve them.

BOFT is none of them: PEFT compiles code for it when it loads."""
TASKS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
UNSERVED = {
    "alora_invocation_tokens": "adapters.unserved_alora",
    "arrow_config": "adapters.unserved_arrow",
}
BEYOND = {
    "use_dora": "adapters.uses_dora",
    "modules_to_save": "adapters.replaces_whole_modules",
    "fan_in_fan_out": "adapters.its_base_stores",
    "target_parameters": "adapters.changes_parameters_are",
    "trainable_token_indices": "adapters.trains_single_tokens",
    "layer_replication": "adapters.repeats_layers",
    "bias": "adapters.trains_biases",
    "lora_bias": "adapters.trains_biases",
}
"""Options of LoraConfig that make an adapter more than A and B beside a linear layer, in words."""
PLAIN = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "runtime_config", "megatron_core", "lora_dropout", "r", "lora_alpha", "use_rslora"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern"),
    *("init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size"),
}
"""Options that leave an adapter plain, or are read here."""
PLAIN_STARTS = ("gaussian", "eva", "orthogonal")
"""Starts of A and B that leave the base as it is."""
LOST_STARTS = ("pissa_niter", "corda", "lora_ga")
"""Starts that rewrite the base in a way that its own files do not tell: PEFT itself cannot repeat them."""


@dataclass(frozen=True)
class Pair:
    """The LoRA of one linear layer: W x + scale B A x, with A [rank, in] and B [out, rank]."""

    rank: int
    scale: float


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter's folder. `tensors`: names as in its file, with dtype and shape."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Any]

    @property
    def rank(self) -> int:
        """Return the rank that its config names, PEFT's default where it names none; 0 where that is no number."""
        rank = self.config.get("r", 8)
        return rank if isinstance(rank, int) else 0

    @property
    def ranks(self) -> list[int]:
        """Return every rank that a layer of it may have."""
        pattern = self.config.get("rank_pattern") or {}
        return [self.rank, *(rank for rank in pattern.values() if isinstance(rank, int))]

    @property
    def base_model(self) -> str:
        """Return what it says it was trained on: a Hub id, or a path of the machine it was trained on."""
        return str(self.config.get("base_model_name_or_path") or "")

    @property
    def start(self) -> str:
        """Return how A and B began, in small letters; empty for PEFT's default."""
        start = self.config.get("init_lora_weights", True)
        return start.lower() if isinstance(start, str) else ""

    @property
    def rewrites_base(self) -> bool:
        """Return whether its start takes something out of the base's own weights (PiSSA, OLoRA, LoftQ)."""
        return bool(self.start) and self.start not in PLAIN_STARTS

    @cached_property
    def beyond_plain(self) -> str:
        """Return what makes it more than A and B beside linear layers; empty where it is just that."""
        if self.config.get("peft_type") != "LORA":
            return worded("adapters.beyond_kind", value=self.config.get("peft_type"))
        if option := next((name for name, value in self.config.items() if _says(name, value)), ""):
            return worded("adapters.beyond", what=worded(BEYOND.get(option, "adapters.beyond_other")), option=option)
        if self.rewrites_base:
            return worded("adapters.beyond_start", start=self.start)
        for name, row in self.tensors.items():
            if not (name.startswith(PREFIX) and name.endswith((A, B))):
                return f"it holds {name}"
            if len(row["shape"]) != 2:
                return f"it changes layers that are not linear ({name})"
        odd = next((name for name in self._modules if not targets(self.config, name)), "")
        return f"its file holds {odd}, which its config does not target" if odd else ""

    @cached_property
    def _modules(self) -> list[str]:
        """Return the modules with a pair; a lone half is a broken adapter."""
        halves = [{_module(name, side) for name in self.tensors if name.endswith(side)} for side in (A, B)]
        if lone := halves[0] ^ halves[1]:
            raise VariantError(
                worded("adapters.adapter_holds_one", name=self.folder.name, lone=min(lone)),
            )
        return sorted(halves[0])

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        """Return rank and scale of every linear layer that plain LoRA changes, by the layer's name in the base."""
        return {module: self._pair(module) for module in self._modules}

    def _pair(self, module: str) -> Pair:
        rank = of_pattern(self.config.get("rank_pattern"), module, self.rank)
        alpha = of_pattern(self.config.get("alpha_pattern"), module, self.config.get("lora_alpha", 8))
        held = int(self.tensors[f"{PREFIX}{module}{A}"]["shape"][0])
        if not held == self.tensors[f"{PREFIX}{module}{B}"]["shape"][1] == rank:
            raise VariantError(
                worded("adapters.adapter_says_rank", name=self.folder.name, rank=rank, module=module, held=held),
            )
        return Pair(rank, alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank))

    @cached_property
    def rows(self) -> int | None:
        """Return the rows of the vocabulary that its tensors fit; None where they do not tell."""
        sizes = [size for name, row in self.tensors.items() if (size := _vocabulary(name, row["shape"]))]
        return max(sizes, default=None)

    @property
    def new_rows(self) -> set[int]:
        """Return the token ids that it trains one by one (trainable_token_indices)."""
        wanted = self.config.get("trainable_token_indices") or []
        lists = wanted.values() if isinstance(wanted, dict) else [wanted]
        return {int(index) for indices in lists for index in indices}

    def replaces(self, name: str) -> bool:
        """Return whether a tensor belongs to a module that it brings whole (modules_to_save)."""
        return _saved_whole(self.config, name)

    @property
    def has_tokenizer(self) -> bool:
        """Return whether it brings a whole tokenizer of its own."""
        spelled = any((self.folder / name).is_file() for name in SPELLINGS)
        whole = (self.folder / "tokenizer.json").is_file()  # transformers needs no config beside it
        return whole or (spelled and (self.folder / "tokenizer_config.json").is_file())

    @property
    def template(self) -> str | None:
        """Return the chat template that it brings."""
        return folder_template(self.folder)

    def same_tokenizer(self, base: Path) -> bool:
        """Return whether every file of its tokenizer is the base's own, byte by byte."""
        own = {file.name for pattern in TOKENIZER for file in self.folder.glob(pattern) if file.is_file()}
        return all((base / name).is_file() and filecmp.cmp(self.folder / name, base / name) for name in own)


def folder_template(folder: Path) -> str | None:
    """Return the chat template that a folder's own files bring."""
    config = folder / "tokenizer_config.json"
    return own_template(folder, read_json(config) if config.is_file() else {})


def read(folder: Path, base: Path | None = None) -> AdapterFiles:
    """Return what an adapter's files say; refuse a broken one, and one that no engine here can serve.

    `base` is the base's folder where that is on this machine: then every LoRA shape is held against its layer.
    """
    _check_form(folder)
    if not folder.is_dir():
        raise VariantError(worded("adapters.not_folder", folder=folder))
    config = read_json(folder / CONFIG)
    weights = folder / WEIGHTS
    if not weights.exists():
        kind = (
            worded("adapters.pickled_alone")
            if any(folder.glob("*.bin"))
            else worded("adapters.no_weights", weights=WEIGHTS)
        )
        raise VariantError(worded("adapters.holds", folder=folder, kind=kind))
    tensors = safetensors_header(weights)
    if not tensors:
        raise VariantError(worded("adapters.holds_no_tensors", weights=weights))
    found = AdapterFiles(folder, config | {"peft_type": str(config.get("peft_type") or "").upper() or None}, tensors)
    _check_kind(found)
    if base is not None:
        _check_shapes(found, base)
    _check_values(found)
    return found


def _check_form(path: Path) -> None:
    """Refuse what is no folder as PEFT saves it but a single file, or a GGUF, by what that is."""
    if path.is_file() or not (path / CONFIG).exists():
        for file in [path] if path.is_file() else gguf_files.inside(path)[:1]:
            if gguf_files.is_gguf(file):
                gguf_files.check(file)
            raise VariantError(worded("adapters.file_no_adapter", file=file, config=CONFIG))


def _check_kind(adapter: AdapterFiles) -> None:
    """Refuse what has no place inside the layers of a model that answers, or whose base cannot be known any more."""
    name, config = adapter.folder.name, adapter.config
    if config["peft_type"] not in PEFT_KINDS:
        raise VariantError(
            worded(
                "adapters.adapter_kind_madang",
                name=name,
                peft_type=config["peft_type"],
                peft_kinds=", ".join(sorted(PEFT_KINDS)),
            ),
        )
    if config.get("task_type") in TASKS:
        raise VariantError(
            worded("adapters.adapter_trained_classify", name=name, task_type=config["task_type"]),
        )
    if option := next((option for option in UNSERVED if config.get(option)), None):
        raise VariantError(
            worded("adapters.adapter_cannot_served", name=name, unserved=worded(UNSERVED[option]), option=option)
        )
    if adapter.start.startswith(LOST_STARTS):
        raise VariantError(
            worded("adapters.adapter_began_init", name=name, start=adapter.start),
            worded(AS_PLAIN),
        )


def _check_values(adapter: AdapterFiles) -> None:
    """Refuse options that are no numbers, names or expressions where PEFT wants them: it would stop at them, too."""
    try:
        with suppress(VariantError):  # ranks are held against each other where it is loaded
            _ = adapter.beyond_plain or adapter.pairs
        _ = adapter.new_rows, adapter.ranks, adapter.replaces("")
    except (re.error, TypeError, ValueError, AttributeError) as error:
        raise VariantError(
            worded("adapters.holds_value_peft", adapter=adapter.folder / CONFIG, error=error),
        ) from error


def targets(config: dict[str, Any], module: str) -> bool:
    """Return whether a LoraConfig targets a module, as PEFT decides it; modules that are saved whole are no targets."""
    if _named(config.get("exclude_modules"), module):
        return False
    if _saved_whole(config, module):
        return False
    wanted = config.get("target_modules")
    if wanted == "all-linear":
        return module.rpartition(".")[2] not in _LEAVES
    return _named(wanted, module) and (isinstance(wanted, str) or _in_layers(config, module))


def _saved_whole(config: dict[str, Any], name: str) -> bool:
    return any(re.match(rf"(^|.*\.){module}($|\..*)", name) for module in config.get("modules_to_save") or ())


def _named(wanted: Any, module: str) -> bool:
    """Return whether an expression or one of a list of names means a module."""
    if isinstance(wanted, str):
        return re.fullmatch(wanted, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in wanted or ())


def _in_layers(config: dict[str, Any], module: str) -> bool:
    """Return whether a module stands in one of the layers that `layers_to_transform` names, if it names any."""
    wanted = config.get("layers_to_transform")
    if wanted is None or wanted == []:
        return True
    names = config.get("layers_pattern") or ()
    lists = [rf"(?:^|.*?\.){name}" for name in ([names] if isinstance(names, str) else names)] or [r".*?\.[^.]*"]
    matches = (re.match(rf"{one}\.(?P<index>\d+)\.", module) for one in lists)
    found = next((int(match["index"]) for match in matches if match), None)
    return found is not None and found in ([wanted] if isinstance(wanted, int) else wanted)


def of_pattern(pattern: Any, module: str, otherwise: Any) -> Any:
    """Return the value of the first key of a rank or alpha pattern that means a module: its end, as an expression."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return otherwise


def _says(option: str, value: Any) -> bool:
    """Return whether an option makes an adapter more than plain."""
    return option not in PLAIN and bool(value) and (option, value) != ("bias", "none")


def _module(name: str, side: str) -> str:
    return name.removeprefix(PREFIX).removesuffix(side)


def _vocabulary(name: str, shape: list[int]) -> int:
    """Return how many tokens a tensor of an adapter has rows for; 0 where it belongs to no vocabulary."""
    module, _, last = name.removeprefix(PREFIX).replace(".base_layer", "").partition(".lora_")
    if last == "embedding_A" and len(shape) == 2:
        return shape[1]
    table = module.removesuffix(".weight")
    whole = not last and module.endswith(".weight") and table.rpartition(".")[2] in _LEAVES
    head = last == "B.weight" and table.rpartition(".")[2] in _LEAVES
    return shape[0] if (whole or head) and len(shape) == 2 else 0


_LEAVES = frozenset(name.rpartition(".")[2] for name in TABLES)


def _check_shapes(adapter: AdapterFiles, base: Path) -> None:
    """Hold every pair against its layer: refuse another width, and a layer where the base has fewer of them.

    Other names that the base's files lack may have been renamed since: the engine decides, which knows how.
    """
    layers = {name: row for path in weight_files(base) for name, row in safetensors_header(path).items()}
    known = set() if adapter.config.get("layer_replication") else {_unnumbered(name) for name in layers}
    for name, row in adapter.tensors.items():
        side = 1 if name.endswith(A) else 0 if name.endswith(B) else None
        if side is None:
            continue
        layer = _module(name, A if side else B)
        found = _layer(layers, layer)
        fault = ""
        if found is None and _unnumbered(f"{layer}.weight") in known:
            fault = worded("adapters.layer_not_there", layer=layer)
        elif found is not None and found["dtype"] != "U8" and not _fits(row["shape"], found["shape"], side):
            fault = worded("adapters.layer_other_shape", layer=layer, shape=found["shape"], shape2=row["shape"])
        if fault and not (side == 0 and _vocabulary(name, row["shape"])):
            raise VariantError(
                worded("adapters.adapter_trained_another", adapter=adapter.folder.name, base=base.name, fault=fault),
                worded(ANOTHER),
            )


def _unnumbered(name: str) -> str:
    return re.sub(r"\.\d+(?=\.)", ".*", name)


def _layer(layers: dict[str, Any], module: str) -> Any:
    """Find a layer of the base by an adapter's name for it; a tied output layer's are the embeddings."""
    names = [module, module.removeprefix("model."), *(EMBEDDINGS if module == HEAD else ())]
    return next((layers[f"{name}.weight"] for name in names if f"{name}.weight" in layers), None)


def _fits(lora: list[int], layer: list[int], side: int) -> bool:
    """Return whether a LoRA matrix's outer side is as wide as its layer: [out, in], or [in, out] in GPT-2's Conv1D."""
    return len(lora) > side and lora[side] in (layer[side : side + 1] if len(layer) != 2 else layer)
