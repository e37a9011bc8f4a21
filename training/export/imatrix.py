"""Which inputs of each layer matter, measured on a text: llama.cpp's importance matrix, without its command line.

For every linear layer the mean of its squared inputs, column by column, which is what llama.cpp's own tool collects.
Only the layers that a GGUF names after a linear module are measured; mixtures of experts are quantized without.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.catalogue.architectures import auto_class
from playground.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import torch

LENGTH = 512
MOST_TOKENS = 64 * LENGTH
FEWEST_TOKENS = 64


def measure(merged: str, text_file: str, out_file: str) -> None:
    """Read the text with the merged model and write an .npz: GGUF tensor name -> float32 [inputs]."""
    import numpy as np
    import torch
    from transformers import AutoConfig, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(merged)(Path(text_file).read_text(encoding="utf-8"))["input_ids"][:MOST_TOKENS]
    if len(ids) < FEWEST_TOKENS:
        raise ConfigError(f"{text_file} holds {len(ids)} tokens, too few to measure on.", "Give some pages of text.")
    config, dtype = AutoConfig.from_pretrained(merged), torch.bfloat16 if _large(merged) else torch.float32
    model = auto_class(config).from_pretrained(merged, config=config, dtype=dtype)
    sums: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(_adding(name, sums))
    with torch.inference_mode():
        for begin in range(0, len(ids), LENGTH):
            model(torch.tensor([ids[begin : begin + LENGTH]]), logits_to_keep=1)
    named = _gguf_names(merged, model.config)
    found = {named(name): (total / len(ids)).numpy() for name, total in sums.items() if named(name)}
    with Path(out_file).open("wb") as file:
        np.savez(file, allow_pickle=False, **found)


def read(file: str) -> "dict[str, np.ndarray[Any, np.dtype[np.float32]]]":
    """Return what `measure` wrote."""
    import numpy as np

    with np.load(file) as rows:
        return {name: np.ascontiguousarray(rows[name], dtype=np.float32) for name in rows.files}


def _adding(name: str, sums: "dict[str, torch.Tensor]") -> Callable[..., None]:
    def hook(module: object, inputs: "tuple[torch.Tensor, ...]") -> None:
        squares = inputs[0].float().flatten(0, -2).square().sum(0)
        sums[name] = sums[name] + squares if name in sums else squares

    return hook


def _gguf_names(merged: str, config: Any) -> Callable[[str], str]:
    """Return the converter's own names for this architecture's modules; empty for one it does not have."""
    import gguf

    get_model_class = import_module("conversion").get_model_class

    kind = get_model_class(config.architectures[0])
    table = gguf.get_tensor_name_map(kind.model_arch, config.get_text_config().num_hidden_layers)

    def named(module: str) -> str:
        name = table.get_name(module)
        return f"{name}.weight" if name else ""

    return named


def _large(merged: str) -> bool:
    """Return whether a model is too large to be loaded in float32."""
    return sum(file.stat().st_size for file in Path(merged).glob("*.safetensors")) > 4 << 30
