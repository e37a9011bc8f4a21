"""TRL's GRPO trainer, guarded: prompts are tokenized already, as the chat sends them; rewards are the recipe's."""

import json
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOTrainer

from training.recipe import Recipe
from training.reward import Reward
from training.trainer.guarded import Collate, Guarded
from training.trainer.guards import not_finite


class GuardedGRPO(Guarded, GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPOTrainer. What it takes for a prompt are token ids; the reward gets the prompt that the file has."""

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Any:
        """Return TRL's sampler; each epoch has an order of its own, in a run that was resumed, too."""
        sampler = super()._get_train_sampler(dataset)
        if sampler.shuffle:
            sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(self.args.seed + epoch)
        return sampler

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Have prompts answered and scored; which rows they are goes along, and is split as the answers are."""
        rows = [one["row"] for one in inputs]
        try:
            made: dict[str, Any] = super()._generate_and_score_completions(inputs)
        except RuntimeError as error:
            if "probability tensor" not in str(error):
                raise
            raise not_finite(self.state.global_step, "the probability of a next token", sorted(set(rows))) from error
        made["rows"] = torch.tensor([[row] for row in rows])
        return made

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss of answers; they are kept as they are, since TRL may learn from them again."""
        self.held = inputs["rows"]
        if model.training:
            self.recorder.count(inputs["completion_mask"].sum())
        return super().compute_loss(model, dict(inputs), *args, **kwargs)

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Take one micro-batch of answers; TRL makes it of `inputs`, which are prompts."""
        loss = super(Guarded, self).training_step(model, inputs, *args, **kwargs)
        self.watch.saw(self.held, loss)
        return loss

    def with_rows(self, collate: Collate) -> Collate:
        """Return TRL's collator, which leaves rows as they are."""
        return collate


def prompts(table: Any) -> Dataset:
    """Return rows as TRL hands them to a reward: `held` is what the reward opens."""
    rows = [
        {"prompt": row["prompt_ids"], "held": {"told": row["told"], "columns": row["columns"]}, "row": row["row"]}
        for row in table.to_pylist()
    ]
    return Dataset.from_list(rows)


def rewards(recipe: Recipe, table: Dataset) -> list[Reward]:
    """Load the recipe's rewards, for the columns of these rows."""
    names = dict.fromkeys(name for held in table["held"] for name in json.loads(held["columns"]))
    return [Reward(named, list(names)) for named in recipe.reward]
