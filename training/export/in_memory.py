"""What PEFT alone can merge, merged by it with the model in memory, in float32; what came out is held against it.

The adapter is loaded as PEFT loads it, tied layers tied. Before the merge they are parted, since what is added to one
must not reach the other, and afterwards they are one again if they are the same still.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.catalogue import adapters
from playground.catalogue.adapters import AdapterFiles
from playground.catalogue.architectures import auto_class
from playground.errors import VariantError
from training.export.deltas import UNMERGED
from training.export.vocabulary import rows

if TYPE_CHECKING:
    import torch

SHOWN = 24
"""Tokens that are read before and after the merge."""
ALIKE = 1e-3
"""How far log-probabilities may move: float32 sums in another order stay ten times below."""


def merged(base_dir: Path, adapter_dir: Path) -> Any:
    """Return the model with the adapter in its weights; VariantError where it does not load or cannot be merged."""
    import torch
    from transformers import AutoConfig

    from playground.backends.adapted import with_adapter

    files = adapters.read(adapter_dir, base_dir)
    config = AutoConfig.from_pretrained(base_dir)
    base = auto_class(config).from_pretrained(base_dir, config=config, dtype=torch.float32)
    tied = bool(base.config.get_text_config().tie_word_embeddings)
    model = with_adapter(base, files, rows(files, base_dir))
    said = _said(model, files)
    _part(model)
    try:
        whole = model.merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError, LookupError, NotImplementedError, AttributeError, TypeError) as error:
        said_why = str(error).strip().splitlines() or [type(error).__name__]
        raise VariantError(f"PEFT cannot merge the adapter {adapter_dir.name}: {said_why[0]}.", UNMERGED) from error
    _check(files, said, _said(whole, files))
    if tied:
        _settle(whole)
    return whole


def _said(model: Any, files: AdapterFiles) -> "torch.Tensor":
    """Return log-probabilities over some tokens, those among them that the adapter trains one by one."""
    import torch

    size = model.get_input_embeddings().weight.shape[0]
    ids = [*sorted(files.new_rows)[:SHOWN], *range(0, size, max(1, size // SHOWN))]
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.tensor([[number % size for number in ids]])).logits
    return logits.float().log_softmax(-1)


def _check(files: AdapterFiles, unmerged: "torch.Tensor", whole: "torch.Tensor") -> None:
    """Refuse a merge that answers otherwise than the adapter did beside its base."""
    gap = float((unmerged - whole).abs().max()) if unmerged.shape == whole.shape else float("inf")
    if not gap <= ALIKE:
        raise VariantError(
            f"The adapter {files.folder.name} answers otherwise once PEFT has merged it: log-probabilities move by "
            f"{gap:.3g}.",
            UNMERGED,
        )


def _part(model: Any) -> None:
    """Give the output layer weights of its own, if they are the embeddings'."""
    import torch

    inputs, head = _bare(model.get_input_embeddings()), _bare(model.get_output_embeddings())
    if inputs is not None and head is not None and inputs.weight is head.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)


def _bare(layer: Any) -> Any:
    """Return the base's own layer below what PEFT has put around it."""
    while True:
        inner = getattr(layer, "base_layer", None) or getattr(layer, "original_module", None)
        if inner is None:
            return layer
        layer = inner


def _settle(model: Any) -> None:
    """Store embeddings and output layer once if they are the same still; where they differ, say so in the config."""
    import torch

    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    same = torch.equal(inputs.weight, outputs.weight)
    if same:
        outputs.weight = inputs.weight
    model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = same
