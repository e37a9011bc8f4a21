"""Find the shape of a model and how many parameters an adapter trains, both without any weights.

`Shape.from_config` is plain Python and knows models built like Llama. `count` asks transformers and PEFT themselves, on
the meta device: seconds and about half a gigabyte of RAM, whatever the model's size. It imports torch, so the page
calls it in a process of its own.
"""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from playground.catalogue.architectures import auto_class
from playground.catalogue.files import read_json
from playground.errors import ConfigError, VariantError

PACKED = ("quantization_config", "auto_map")
"""Keys of a config that change how weights are stored or who builds the model, never how many there are."""
INIT_ONLY = ("init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config")
"""Options of LoraConfig that read the weights to fill the adapter. They change no shape."""


@dataclass(frozen=True)
class Linear:
    """Linear layers of one name and size inside the decoder; the output head is none of them."""

    name: str
    count: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Shape:
    """What memory depends on. Counts are parameters; `ffn` is the width a token passes, over all experts it uses."""

    hidden: int
    layers: int
    ffn: int
    vocab: int
    linears: tuple[Linear, ...]
    embedding: int
    other: int

    @property
    def linear(self) -> int:
        """Return the parameters that 4 bits would shrink: the weights of the decoder's linear layers."""
        return sum(layer.count * layer.inputs * layer.outputs for layer in self.linears)

    @property
    def widest(self) -> int:
        """Return the parameters of the largest linear layer."""
        return max((layer.inputs * layer.outputs for layer in self.linears), default=0)

    @property
    def total(self) -> int:
        """Return the parameters of the base model, tied embeddings once."""
        return self.linear + self.embedding + self.other

    def lora(self, rank: int, names: tuple[str, ...] = ()) -> int:
        """Count the parameters of a plain LoRA on the linear layers of these names, or on all. Not DoRA."""
        chosen = [layer for layer in self.linears if not names or layer.name in names]
        return sum(layer.count * rank * (layer.inputs + layer.outputs) for layer in chosen)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Shape":
        """Read the shape of a model built like Llama (Mistral, Qwen, Gemma, Phi-3: within 0.1 %), or VariantError."""
        config = config.get("text_config") or config
        try:
            hidden, layers, ffn = (int(config[k]) for k in ("hidden_size", "num_hidden_layers", "intermediate_size"))
            heads, vocab = int(config["num_attention_heads"]), int(config["vocab_size"])
            head = int(config.get("head_dim") or hidden // heads)
            keys = int(config.get("num_key_value_heads") or heads) * head
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise VariantError(
                f"This config.json is not built like Llama's: {error!r}.", "Use parameters.count."
            ) from error
        if any("expert" in key for key in config):
            raise VariantError("This model is a mixture of experts.", "Use parameters.count.")
        sizes = {"q_proj": (hidden, heads * head), "k_proj": (hidden, keys), "v_proj": (hidden, keys)}
        sizes |= {"o_proj": (heads * head, hidden), "gate_proj": (hidden, ffn), "up_proj": (hidden, ffn)}
        sizes["down_proj"] = (ffn, hidden)
        linears = tuple(Linear(name, layers, *size) for name, size in sizes.items())
        tied = config.get("tie_word_embeddings", str(config.get("model_type")).startswith("gemma"))
        embedding = vocab * hidden * (1 if tied else 2)
        return cls(hidden, layers, ffn, vocab, linears, embedding, other=(2 * layers + 1) * hidden)


@dataclass(frozen=True)
class Parameters:
    """How many parameters a run trains, of how many (base and adapter together), and the base's shape."""

    trainable: int
    total: int
    shape: Shape
    head: bool = False
    """Whether the output layer is trained through the adapter: its logits are then made whole."""
    untied: int = 0
    """Parameters that a merged model has more, since what the base ties, embeddings and output layer, parts there."""

    @property
    def share(self) -> float:
        """Return trainable over total, from 0 to 1."""
        return self.trainable / self.total


def count(config: Mapping[str, Any] | Path, lora: Mapping[str, Any]) -> Parameters:
    """Build the model and its adapter without weights and count. `config`: a config.json's content, or its folder.

    `lora` goes to PEFT's LoraConfig as it stands. Errors: VariantError for a config transformers does not know,
    ConfigError for modules the model lacks and for whatever else PEFT refuses.
    """
    model = _empty_model(read_json(config / "config.json") if isinstance(config, Path) else dict(config))
    shape = _shape(model)
    _check_names(model, shape, lora)
    tied = bool(model.config.get_text_config().tie_word_embeddings)
    model = _with_adapter(model, shape, lora)
    numbers = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    own = [any(parameter.requires_grad for parameter in table.parameters()) for table in tables if table is not None]
    parts = tied and any(own) and not lora.get("ensure_weight_tying") and not lora.get("trainable_token_indices")
    return Parameters(
        trainable=sum(n for n, trained in numbers if trained),
        total=sum(n for n, _ in numbers),
        shape=shape,
        head=_is_adapted(tables[1]),
        untied=shape.embedding if parts else 0,
    )


def _is_adapted(layer: Any) -> bool:
    """Return whether PEFT's own layer stands in a layer's place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(layer, BaseTunerLayer)


def _empty_model(config: dict[str, Any]) -> Any:
    """Build the architecture on the meta device; code that comes with a model is never run."""
    import torch
    from transformers import AutoConfig

    plain = {key: value for key, value in config.items() if key not in PACKED}
    kind = plain.pop("model_type", None)
    try:
        with torch.device("meta"):
            made = AutoConfig.for_model(kind, **plain)
            return auto_class(made).from_config(made)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise VariantError(
            f"transformers cannot build a language model of the type {kind!r}: {_first_line(error)}",
            "Give the config.json of a causal language model that this version of transformers supports.",
        ) from error


def _shape(model: Any) -> Shape:
    """Return the shape of a built model, whatever its architecture."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head, config = model.get_output_embeddings(), model.config.get_text_config()
    sizes: Counter[tuple[str, int, int]] = Counter()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not head:
            rows, columns = module.weight.shape
            inputs, outputs = (columns, rows) if isinstance(module, nn.Linear) else (rows, columns)
            sizes[name.rpartition(".")[2], inputs, outputs] += 1
    linears = tuple(Linear(name, n, inputs, outputs) for (name, inputs, outputs), n in sizes.items())
    ends = {id(m.weight): m.weight.numel() for m in (model.get_input_embeddings(), head) if m is not None}
    embedding = sum(ends.values())
    rest = sum(parameter.numel() for parameter in model.parameters()) - embedding
    shape = Shape(
        config.hidden_size, config.num_hidden_layers, _ffn(config), config.vocab_size, linears, embedding, other=0
    )
    return replace(shape, other=rest - shape.linear)


def _ffn(config: Any) -> int:
    """Return the width of the feed-forward part that a token passes: one dense layer, or all its experts."""
    dense = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    if not (used := getattr(config, "num_experts_per_tok", None)):
        return int(dense)
    return int(used * (getattr(config, "moe_intermediate_size", None) or dense))


def _check_names(model: Any, shape: Shape, lora: Mapping[str, Any]) -> None:
    """Refuse modules that the model lacks, all at once: PEFT passes over one in silence as long as another matches."""
    modules = [name for name, _ in model.named_modules()]
    faults, near = [], []
    for option in ("target_modules", "modules_to_save"):
        wanted = lora.get(option) or ()
        for name in () if isinstance(wanted, str) else map(str, wanted):  # a text is a pattern, or `all-linear`
            if not any(module == name or module.endswith(f".{name}") for module in modules):
                faults.append(f"{name!r} ({option})")
                known = {module.rpartition(".")[2] for module in modules}
                near += get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    if faults:
        meant = f"Did you mean {' or '.join(dict.fromkeys(near))}? " if near else ""
        raise ConfigError(f"The model has no module {', '.join(faults)}.", meant + _layers(shape))


def _layers(shape: Shape) -> str:
    """Return a sentence with the names that a LoRA can aim at."""
    return f"The model's linear layers are {', '.join(dict.fromkeys(layer.name for layer in shape.linears))}."


def _with_adapter(model: Any, shape: Shape, lora: Mapping[str, Any]) -> Any:
    """Return the model with the adapter that PEFT builds, still without weights."""
    import torch
    from peft import LoraConfig, get_peft_model

    options = {key: value for key, value in lora.items() if key not in INIT_ONLY}
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tied tables the dry run says what will be done
            adapter = LoraConfig(task_type="CAUSAL_LM", **options)
            return get_peft_model(model, adapter, low_cpu_mem_usage=True)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        raise ConfigError(
            f"PEFT refuses the recipe's `lora` block: {_first_line(error)}",
            f"It takes the options of PEFT's LoraConfig, r a whole number from 1 on. {_layers(shape)}",
        ) from error


def _first_line(error: Exception) -> str:
    """Return the start of a library's message, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
