"""TRL's trainers, guarded: which rows a batch holds is known, and what TRL would tokenize is tokenized already."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import DPOTrainer, KTOTrainer, SFTTrainer

from playground.errors import SetupError
from playground.system.atomic import no_room
from training.run.runs import mark_whole
from training.trainer.guards import Recorder, Watch

MASKS = ("attention_mask", "chosen_attention_mask", "rejected_attention_mask")
"""Of the tokens that a batch trains on; those of KTO's KL term are read alone."""
Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]


class Guarded:
    """Mixed into TRL's trainers: the rows of each batch are known, and a checkpoint is whole or not there."""

    watch: Watch
    recorder: Recorder

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss without `rows`, which no model takes."""
        inputs.pop("rows", None)
        return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Take one micro-batch; its rows are remembered until the step is known to be good."""
        rows = inputs.pop("rows", None)
        masks = [mask for name, mask in inputs.items() if name in MASKS]
        self.recorder.count(sum(mask.sum() for mask in masks) if masks else inputs["input_ids"].numel())
        loss = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        self.watch.saw(rows, loss)
        return loss

    def with_rows(self, collate: Collate) -> Collate:
        """Return TRL's collator, adding which rows of the source a batch holds."""
        return WithRows(collate)

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        """Return the gradient's norm, which decides whether the optimizer may step."""
        norm = super()._get_grad_norm(*args, **kwargs)  # type: ignore[misc]
        self.watch.step(self.state.global_step, norm)  # type: ignore[attr-defined]
        return norm

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save TRL's checkpoint with a mark that it is complete; remove one that the disk had no room for."""
        step = self.state.global_step  # type: ignore[attr-defined]
        folder = Path(self.args.output_dir) / f"checkpoint-{step}"  # type: ignore[attr-defined]
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self.accelerator.wait_for_everyone()  # type: ignore[attr-defined]
            if self.args.should_save:  # type: ignore[attr-defined]
                mark_whole(folder)
        except Exception as error:
            if not no_room(error, folder.parent):
                raise
            shutil.rmtree(folder, ignore_errors=True)
            raise SetupError(
                f"The disk is full: the checkpoint of step {step} could not be written to {folder.parent}.",
                "Free some space there, then `madang train --resume`: the last good checkpoint is kept.",
            ) from error


class GuardedSFT(Guarded, SFTTrainer):  # type: ignore[misc]
    """TRL's SFTTrainer, guarded; for continued pre-training, too."""


class _AsTheyAre(Guarded):
    """Guarded, and rows stay as they are: they are tokenized, and those of KTO paired, already."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


class GuardedDPO(_AsTheyAre, DPOTrainer):  # type: ignore[misc]
    """TRL's DPOTrainer, guarded, with pairs."""


class GuardedKTO(_AsTheyAre, KTOTrainer):  # type: ignore[misc]
    """TRL's KTOTrainer, guarded, with rated answers."""


class WithRows:
    """A collator that adds `rows` [batch, rows of the widest]: which source rows each item holds; -1 pads."""

    def __init__(self, collate: Collate) -> None:
        self._collate = collate

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        held = [sorted(set(item["rows"])) if "rows" in item else [item["row"]] for item in items]
        batch = self._collate(items)
        width = max(map(len, held))
        batch["rows"] = torch.tensor([rows + [-1] * (width - len(rows)) for rows in held])
        return batch
