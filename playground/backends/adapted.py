"""A model with an adapter that is more than plain LoRA: PEFT's own layers over the base's own weights.

The base's modules are copied, its tensors are not, and PEFT puts its layers into the copy: what plain PEFT computes is
computed, other rows see nothing of it, and only what an adapter really changes is held twice.
"""

import copy
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from playground.catalogue.adapters import ANOTHER, AS_PLAIN, PREFIX, AdapterFiles
from playground.errors import VariantError
from playground.wording import Worded, worded

ADDED = re.compile(r"\.(token_adapter|(lora|ia3|hada|lokr|oft|hra|vera|fourierft|miss)_\w+)(\.|$)")
"""Where in a tensor's name the layer ends that it stands beside."""


def sharing(model: nn.Module, private: Iterable[str] = ()) -> Any:
    """Return a model's modules anew, over the same tensors but for those of the parameters that are named."""
    own = {id(model.get_parameter(name)) for name in private}
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors if id(tensor) not in own})


def adapted(base: nn.Module, adapter: AdapterFiles, rows: int | None) -> Any:
    """Return the base with an adapter, as `PeftModel.from_pretrained` loads it; the base itself stays as it is.

    `rows`: how many the vocabulary needs, None where the base's are right. Raises VariantError with PEFT's reason.
    """
    private = _changed(base, adapter)
    if rows is not None:
        private |= _tables(base)  # transformers writes the larger ones into them
    return with_adapter(sharing(base, private), adapter, rows).get_base_model()


def with_adapter(model: Any, adapter: AdapterFiles, rows: int | None) -> Any:
    """Return the PeftModel of a model that may be changed; VariantError with PEFT's reason where it cannot be."""
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what was not found is looked at below
            made = _loaded(model, adapter).eval().requires_grad_(False)
            _try(made)
            return made
    except (ValueError, LookupError, RuntimeError, TypeError, ImportError, AttributeError) as error:
        raise _refused(adapter, model, error) from error


def _tables(base: Any) -> set[str]:
    """Return the names of the weights of embeddings and output layer."""
    tables = [
        table.weight for table in (base.get_input_embeddings(), base.get_output_embeddings()) if table is not None
    ]
    named = base.named_parameters(remove_duplicate=False)
    return {name for name, tensor in named if any(tensor is table for table in tables)}


def _loaded(model: Any, adapter: AdapterFiles) -> Any:
    """Return the PeftModel; refuse an adapter whose tensors and layers do not all find each other."""
    from peft import PeftModel

    device = str(next(model.parameters()).device)
    renamed = getattr(model, "_checkpoint_conversion_mapping", {})
    loaded = PeftModel.from_pretrained(model, str(adapter.folder), torch_device=device)
    found = loaded.load_adapter(str(adapter.folder), "default", key_mapping=renamed, torch_device=device)
    lost = [name for name in found.unexpected_keys if "token_adapter" not in name and ADDED.search(name)]
    if lost:  # others are second copies of what wrappers hold
        name = lost[0].removeprefix(PREFIX).replace(".default", "")
        raise ValueError(f"it holds {name} for no layer of the base that its config targets")
    if found.missing_keys:
        name = found.missing_keys[0].removeprefix(PREFIX).replace(".default", "")
        raise ValueError(f"its config targets layers of the base that its file has nothing for: {name}")
    return loaded


def _try(model: Any) -> None:
    """Run one token: some load and cannot run."""
    with torch.inference_mode():
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)


def _changed(base: nn.Module, adapter: AdapterFiles) -> set[str]:
    """Return the base's parameters that loading the adapter may write into, so that it gets them for itself.

    PEFT writes embeddings and biases that stand in the file into the base's own, and some starts change the layers.
    """
    known = {name for name, _ in base.named_parameters(remove_duplicate=False)}
    plain = adapter.config["peft_type"] == "LORA" and not adapter.rewrites_base
    found = set()
    for key in adapter.tensors:
        name = key.removeprefix(PREFIX).replace(".base_layer", "")
        added = ADDED.search(name)
        if (added and plain) or adapter.replaces(name):
            continue
        name = f"{name[: added.start()]}.weight" if added else name
        if name not in known:
            return known  # transformers has renamed it, and which it is now is not told
        found.add(name)
    return found


def _refused(adapter: AdapterFiles, base: Any, error: Exception) -> VariantError:
    """Return PEFT's reason as an error: another base only where it is one."""
    said = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    if "size mismatch" in said:
        place = re.search(r"size mismatch for (?:base_model\.model\.)?(\S+?):", said)
        said = worded("adapted.other_shape", place=place[1] if place else worded("adapted.a_layer"))
        hint = worded(ANOTHER)
    elif adapter.rewrites_base:
        hint = worded(AS_PLAIN)
    else:
        trained, name = adapter.base_model, Path(str(base.config._name_or_path)).name
        same = not trained or Path(trained).name == name
        hint = worded("adapted.save_again") if same else worded(ANOTHER)
    if not isinstance(said, Worded):
        said = said.splitlines()[0][:300].rstrip(". ") if said else type(error).__name__
    return VariantError(worded("adapted.peft_cannot_load", adapter=adapter.folder.name, first=said), hint)
