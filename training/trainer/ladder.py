"""Decide what is given up, one thing at a time, when a run does not fit into memory."""

from training.methods import METHODS
from training.recipe import Recipe
from training.run.memory import SHORTEST, shorter, smaller_batch
from training.run.runs import Plan

LOWEST_RANK = 4


def down(plan: Plan, recipe: Recipe) -> tuple[Plan, str, bool] | None:
    """Return the next plan, a sentence on what changed, and whether the run starts afresh; None at the bottom.

    Batch and accumulation first: the effective batch stays the same, and so do the gradients. Then activation
    checkpointing, which costs time alone. Shorter rows and a lower rank change what is learnt: only where the recipe
    allows them.
    """
    change: dict[str, object]
    if batch := smaller_batch(plan.batch, METHODS[recipe.method].least_batch):
        accumulation = plan.accumulation * (plan.batch // batch)
        change = {"batch": batch, "accumulation": accumulation}
        said = (
            f"batch {plan.batch} x accumulation {plan.accumulation} became {batch} x {accumulation}: "
            f"the same effective batch in less memory"
        )
    elif not plan.checkpointing:
        change, said = {"checkpointing": True}, "gradient checkpointing is on: less memory, some 25 % slower"
    elif recipe.guards.shorten and plan.max_length > SHORTEST:
        length = shorter(plan.max_length)
        change, said = {"max_length": length}, f"rows are cut at {length} tokens instead of {plan.max_length}"
    elif recipe.guards.lower_rank and plan.rank > LOWEST_RANK:
        rank = max(LOWEST_RANK, plan.rank // 2)
        change = {"rank": rank}
        said = f"it starts afresh at rank {rank} instead of {plan.rank}: what was learnt so far is given up"
    else:
        return None
    return plan.model_copy(update=change | {"attempt": plan.attempt + 1}), said, "rank" in change


def nothing_left(plan: Plan, recipe: Recipe) -> str:
    """Say what a person can still do at the bottom."""
    allowed = []
    if METHODS[recipe.method].rewarded:
        allowed.append("a lower trainer.max_completion_length or trainer.generation_batch_size")
    elif not recipe.guards.shorten and plan.max_length > SHORTEST:
        allowed.append(f"guards.shorten: true (or trainer.max_length below {plan.max_length})")
    if not recipe.guards.lower_rank and plan.rank > LOWEST_RANK:
        allowed.append(f"guards.lower_rank: true (or lora.r below {plan.rank})")
    if not recipe.load_in_4bit:
        allowed.append("load_in_4bit: true on an NVIDIA GPU")
    return f"Allow {', or '.join(allowed)}; or take a smaller model." if allowed else "Take a smaller model."
