"""What is given up when memory runs out, and in which order."""

from pathlib import Path

import pytest

from training import recipe as recipes
from training.recipe import Guards, Recipe
from training.run import memory
from training.run.runs import Plan
from training.trainer import ladder

START = Plan(batch=6, accumulation=2, checkpointing=False, max_length=900, rank=16)


def recipe(**guards: bool) -> Recipe:
    shipped = recipes.load(Path(recipes.FOLDER / "sft.yaml"))
    return shipped.model_copy(update={"guards": Guards(**guards)})


def way(chosen: Recipe) -> list[tuple[Plan, bool]]:
    steps, plan = [], START
    while step := ladder.down(plan, chosen):
        plan, said, afresh = step
        assert said
        steps.append((plan, afresh))
    return steps


def test_batch_first_then_checkpointing_and_nothing_that_changes_what_is_learnt() -> None:
    steps = [(plan.batch, plan.accumulation, plan.checkpointing) for plan, _ in way(recipe())]
    assert steps == [(3, 4, False), (1, 12, False), (1, 12, True)]
    assert {plan.batch * plan.accumulation for plan, _ in way(recipe())} == {12}
    assert {(plan.max_length, plan.rank) for plan, _ in way(recipe())} == {(900, 16)}


def test_a_batch_that_compares_its_rows_never_becomes_one() -> None:
    """KTO's KL term is nought in a batch of one, and TRL refuses it."""
    kto = recipes.load(Path(recipes.FOLDER / "kto.yaml"))
    for batch, fewer in ((4, [2]), (6, [3]), (3, []), (2, [])):
        batches, plan = [], START.model_copy(update={"batch": batch})
        while step := ladder.down(plan, kto):
            plan = step[0]
            batches.append(plan.batch)
        assert batches == [*fewer, fewer[-1] if fewer else batch]  # then checkpointing
        smaller = [
            plan.batch
            for name, plan in memory._smaller(
                memory.Plan.model_validate({"trainable": 1, "method": "kto", "batch": batch})
            )
        ]
        assert min(smaller) == (fewer[-1] if fewer else batch)


def test_shorter_rows_and_a_lower_rank_only_where_the_recipe_allows_them() -> None:
    shorter = way(recipe(shorten=True))[3:]
    assert [(plan.max_length, afresh) for plan, afresh in shorter] == [(450, False), (256, False)]
    lower = way(recipe(lower_rank=True))[3:]
    assert [(plan.rank, afresh) for plan, afresh in lower] == [(8, True), (4, True)]
    both = way(recipe(shorten=True, lower_rank=True))[3:]
    assert [(plan.max_length, plan.rank) for plan, _ in both] == [(450, 16), (256, 16), (256, 8), (256, 4)]


def test_every_step_counts_and_is_said() -> None:
    assert [plan.attempt for plan, _ in way(recipe())] == [2, 3, 4]
    _, said, _ = ladder.down(START, recipe()) or pytest.fail("there is a step")
    assert said == "batch 6 x accumulation 2 became 3 x 4: the same effective batch in less memory"


def test_the_bottom_says_what_may_still_be_allowed() -> None:
    assert "guards.shorten: true" in ladder.nothing_left(START, recipe())
    assert "guards.lower_rank: true" in ladder.nothing_left(START, recipe())
    assert "guards" not in ladder.nothing_left(START, recipe(shorten=True, lower_rank=True))


@pytest.mark.parametrize("batch", range(2, 17))
def test_a_run_steps_down_as_its_dry_run_said(batch: int) -> None:
    """An odd batch, too: 9 is 3 x 3 before it is 1 x 9."""
    stepped, plan = [], START.model_copy(update={"batch": batch, "accumulation": 2})
    while plan.batch > 1:
        plan, _, _ = ladder.down(plan, recipe()) or pytest.fail("there is a step")
        stepped.append((plan.batch, plan.accumulation))
    smaller = memory.Plan(trainable=8, batch=batch, accumulation=2, length=256, kept=3, download=0)
    said = [(one.batch, one.accumulation) for name, one in memory._smaller(smaller) if name == "batch"]
    assert stepped == said
    assert {a * b for a, b in stepped} == {2 * batch}
