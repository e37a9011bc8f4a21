"""TRL's ORPO trainer, guarded. It is one of TRL's experiments: what is done here in its place is said beside it."""

from typing import Any

import torch
from datasets import Dataset
from peft import get_peft_model
from trl.experimental.orpo import ORPOTrainer

from training.data.tokenizing import IGNORED
from training.trainer.guarded import Collate, Guarded, WithRows


class GuardedORPO(Guarded, ORPOTrainer):  # type: ignore[misc]
    """TRL's ORPOTrainer with pairs that are tokenized already.

    The loss is TRL's, and the paper's: the chosen conversation is learnt whole, prompt included, and the odds of its
    answer are held against those of the other.
    """

    def __init__(self, model: Any, processing_class: Any, peft_config: Any = None, **fields: Any) -> None:
        if processing_class.pad_token is None:  # TRL's other trainers do the same
            processing_class.pad_token = processing_class.eos_token
        if peft_config is not None and getattr(model, "is_loaded_in_4bit", False):
            model, peft_config = _put_on(model, peft_config), None
        for name in ("train_dataset", "eval_dataset"):
            if fields.get(name) is not None:
                fields[name] = _Ready(fields[name].data)
        super().__init__(model=model, processing_class=processing_class, peft_config=peft_config, **fields)

    def with_rows(self, collate: Collate) -> Collate:
        """Return TRL's collator, given what it takes: both conversations with their labels."""
        return WithRows(lambda items: collate([_sides(item, self.max_length) for item in items]))


class _Ready(Dataset):  # type: ignore[misc]
    """Rows that are tokenized already, and stay so where TRL would render and tokenize them."""

    def map(self, *args: Any, **kwargs: Any) -> Dataset:
        return self


def _put_on(model: Any, lora: Any) -> Any:
    """Put an adapter onto a 4-bit base as TRL's DPO and KTO do; its ORPO turns all else of the base to fp32 first."""
    wrapped = get_peft_model(model, lora)
    for weight in wrapped.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.bfloat16)
    return wrapped


def _sides(item: dict[str, Any], length: int) -> dict[str, list[int]]:
    """Return both conversations of a pair, cut at the end of their answers; TRL's own cut takes a part of each."""
    made: dict[str, list[int]] = {}
    for side in ("chosen", "rejected"):
        answer = item[f"{side}_ids"]
        ids = (item["prompt_ids"] + answer)[:length]
        made[f"{side}_input_ids"] = ids
        made[f"{side}_attention_mask"] = [1] * len(ids)
        made[f"{side}_labels"] = ([IGNORED] * len(item["prompt_ids"]) + answer)[:length]
    return made
