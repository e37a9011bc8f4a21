"""Recipes: the guide's defaults, changes from the command line, and what a wrong one is told."""

from pathlib import Path

import pytest

from playground.errors import ConfigError
from training import passthrough
from training import recipe as recipes
from training.recipe import Recipe

SHIPPED = recipes.names()


def made(text: str, tmp_path: Path, *sets: str) -> Recipe:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return recipes.load(path, sets)


PLAIN = "method: sft\nmodel: smollm2\ndata: {source: x.jsonl}\n"


def test_the_recipes_that_come_along() -> None:
    assert SHIPPED == ["cpt", "dpo", "grpo", "kto", "orpo", "sft", "sft-messages"]


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("on_card", [False, True])
def test_every_shipped_recipe_is_valid_and_finds_its_data(name: str, on_card: bool) -> None:
    recipe = recipes.load(recipes.find(name))
    assert Path(recipe.data.source).is_file()
    resolved = recipes.resolved(recipe, on_card)
    if not on_card:  # TRL's config refuses bf16 where there is no card
        passthrough.check(resolved)
    assert recipe.name == name


def test_the_guides_defaults(tmp_path: Path) -> None:
    sft = recipes.resolved(made(PLAIN, tmp_path), on_card=True)
    assert (sft.seed, sft.effective_batch) == (3407, 8)
    assert sft.lora == {
        "r": 16,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    }
    expected = {
        "learning_rate": 2e-4,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 5,
        "weight_decay": 0.01,
        "max_grad_norm": 0.3,
        "optim": "adamw_8bit",
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "save_steps": 100,
        "save_total_limit": 3,
        "num_train_epochs": 3,
        "report_to": "none",
    }
    assert {name: sft.trainer[name] for name in expected} == expected
    dpo = recipes.resolved(made(PLAIN.replace("sft", "dpo"), tmp_path), on_card=True).trainer
    assert (dpo["learning_rate"], dpo["beta"], dpo["num_train_epochs"]) == (5e-7, 0.1, 1)
    kto = recipes.resolved(made(PLAIN.replace("sft", "kto"), tmp_path), on_card=True)
    assert (kto.trainer["learning_rate"], kto.trainer["beta"], kto.effective_batch) == (1e-6, 0.1, 16)
    orpo = recipes.resolved(made(PLAIN.replace("sft", "orpo"), tmp_path), on_card=True).trainer
    assert (orpo["learning_rate"], orpo["beta"], orpo["num_train_epochs"]) == (8e-6, 0.1, 1)
    cpt = recipes.resolved(made(PLAIN.replace("sft", "cpt"), tmp_path), on_card=True)
    assert (cpt.trainer["learning_rate"], cpt.trainer["packing"], cpt.trainer["warmup_steps"]) == (2e-5, True, 0.1)
    assert (cpt.trainer["num_train_epochs"], cpt.effective_batch) == (1, 8)


def test_a_cpu_has_no_8_bit_optimizer(tmp_path: Path) -> None:
    assert recipes.resolved(made(PLAIN, tmp_path), on_card=False).trainer["optim"] == "adamw_torch"


def test_the_recipe_wins_over_every_default_and_alpha_follows_r(tmp_path: Path) -> None:
    text = PLAIN + "lora: {r: 64}\ntrainer: {learning_rate: 5e-5, optim: adamw_torch, warmup_steps: 0}\n"
    recipe = recipes.resolved(made(text, tmp_path), on_card=True)
    assert (recipe.lora["r"], recipe.lora["lora_alpha"]) == (64, 64)
    assert recipe.trainer["learning_rate"] == 5e-5
    assert (recipe.trainer["optim"], recipe.trainer["warmup_steps"]) == ("adamw_torch", 0)
    text = PLAIN + "lora: {r: 64, lora_alpha: 16, use_rslora: true}\n"
    lora = recipes.resolved(made(text, tmp_path), on_card=True).lora
    assert (lora["lora_alpha"], lora["use_rslora"]) == (16, True)


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    recipe = made(PLAIN + "trainer: {learning_rate: 2e-4, max_steps: 20}\n", tmp_path)
    assert recipe.trainer == {"learning_rate": 2e-4, "max_steps": 20}
    assert passthrough.coerced(made(PLAIN + 'trainer: {learning_rate: "2e-4"}\n', tmp_path)).trainer == {
        "learning_rate": 2e-4
    }


def test_fields_from_the_command_line(tmp_path: Path) -> None:
    sets = ["trainer.max_steps=20", "trainer.learning_rate=1e-5", "data.limit=3", "kobest=true", "lora.r=8"]
    recipe = made(PLAIN, tmp_path, *sets, "data.columns.instruction=질문", "guards.shorten=yes")
    assert recipe.trainer == {"max_steps": 20, "learning_rate": 1e-5}
    assert (recipe.data.limit, recipe.kobest, recipe.lora, recipe.guards.shorten) == (3, True, {"r": 8}, True)
    assert recipe.data.columns == {"instruction": "질문"}


def test_evaluation_brings_its_steps_and_checkpoints_that_were_evaluated(tmp_path: Path) -> None:
    text = PLAIN.replace("x.jsonl", "x.jsonl, evaluation: 0.1") + "trainer: {eval_steps: 30}\n"
    trainer = recipes.resolved(made(text, tmp_path), on_card=True).trainer
    assert (trainer["eval_strategy"], trainer["eval_steps"], trainer["save_steps"]) == ("steps", 30, 120)


@pytest.mark.parametrize(("often", "evaluated"), [(5, 5), (75, 75), (100, 50), (50, 50), (1, 1)])
def test_checkpoints_come_as_often_as_the_recipe_says(tmp_path: Path, often: int, evaluated: int) -> None:
    text = PLAIN.replace("x.jsonl", "x.jsonl, evaluation: 0.1") + f"trainer: {{save_steps: {often}}}\n"
    trainer = recipes.resolved(made(text, tmp_path), on_card=True).trainer
    assert (trainer["save_steps"], trainer["eval_steps"]) == (often, evaluated)


def test_what_is_written_out_reads_back(tmp_path: Path) -> None:
    recipe = recipes.resolved(recipes.load(recipes.find("dpo")), on_card=False)
    path = tmp_path / "again.yaml"
    path.write_text(recipes.dump(recipe), encoding="utf-8")
    assert recipes.load(path) == recipe


def test_paths_are_looked_for_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}", encoding="utf-8")
    assert made(PLAIN, tmp_path).data.source == str(tmp_path / "x.jsonl")
    assert made(PLAIN.replace("x.jsonl", "owner/name"), tmp_path).data.source == "owner/name"


def test_all_faults_at_once(tmp_path: Path) -> None:
    text = "method: stf\nmodle: x\ndata: {sourse: y, evaluation: 3}\ndevices: 0\n"
    with pytest.raises(ConfigError) as caught:
        made(text, tmp_path)
    for said in (
        "method = 'stf'",
        "modle: there is no such field; did you mean model or method?",
        "data.source",
        "devices = 0",
    ):
        assert said in caught.value.message
    assert "did you mean source?" in caught.value.message


def test_all_faults_of_the_blocks_at_once(tmp_path: Path) -> None:
    text = PLAIN + (
        "lora: {rank: 8, lora_dropout: 1.5, target_module: [x], init_lora_weights: pissa}\n"
        "trainer: {warmup_ratio: 0.1, learning_rate: fast, lerning_rate: 1, seed: 2, report_to: wandbb}\n"
    )
    with pytest.raises(ConfigError) as caught:
        passthrough.check(made(text, tmp_path))
    for said in (
        "lora.rank: there is no such field; it is called r.",
        "lora.lora_dropout = 1.5: it lies between 0 and 1.",
        "lora.target_module: there is no such field; did you mean target_modules",
        "lora.init_lora_weights = 'pissa': it rewrites the base's own weights",
        "trainer.warmup_ratio: there is no such field; write warmup_steps: 0.1",
        "trainer.learning_rate = 'fast': input should be a valid number",
        "trainer.lerning_rate: there is no such field; did you mean learning_rate",
        "trainer.seed = 2: not given here; give `seed` at the top of the recipe.",
        "trainer.report_to = 'wandbb': known are none, wandb, tensorboard, trackio.",
    ):
        assert said in caught.value.message


def test_what_the_classes_refuse_is_a_fault_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trainer: adamx is not a valid OptimizerNames"):
        passthrough.check(recipes.resolved(made(PLAIN + "trainer: {optim: adamx}\n", tmp_path), on_card=False))


def test_loftq_needs_a_4_bit_base(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it makes up for a 4-bit base"):
        passthrough.check(made(PLAIN + "lora: {init_lora_weights: loftq}\n", tmp_path))


def test_whose_turns_are_learnt(tmp_path: Path) -> None:
    assert made(PLAIN, tmp_path).data.roles_to_train == ("assistant",)
    assert made(PLAIN, tmp_path, "data.roles_to_train=[user, tool]").data.roles_to_train == ("user", "tool")
    for sets, said in (
        (("data.roles_to_train=[gpt]",), "data.roles_to_train.0 = 'gpt'"),
        (("data.roles_to_train=[user]", "data.answers_only=false"), "leave one of the two out"),
    ):
        with pytest.raises(ConfigError, match=said):
            made(PLAIN, tmp_path, *sets)
