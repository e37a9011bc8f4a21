"""Each method changes the embedded model in the right direction, on rows it was not trained on: minutes each."""

import json
import math
import shutil
from pathlib import Path

import pytest

from playground.settings import Settings
from tests.training.trained import Train, losses, trainer
from training import finishing, tokenized
from training.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.models, pytest.mark.timeout(1500)]

ENDS = ("trainer.eval_steps=1000",)
"""Evaluated before the first step and after the last alone, to save time."""


@pytest.fixture
def train(tmp_path: Path, demo_models: Path) -> Train:
    return trainer(Settings(data=tmp_path / "data"), demo_models)


def questions(file: str, run: Run, count: int) -> list[str]:
    """Held-out prompts of a preference file."""
    held = {row["row"] for row in tokenized.read(run.data / "evaluation.arrow").to_pylist()}
    rows = [json.loads(line) for line in (Path(run.recipe().data.source)).read_text(encoding="utf-8").splitlines()]
    return [row["prompt"] for number, row in enumerate(rows, start=1) if number in held][:count]


def test_sft_teaches_the_habit(train: Train, demo_models: Path) -> None:
    from training.demo.examples import held_out_prompts
    from training.demo.habit import habit_share
    from training.demo.measure import answers_hf

    run = train("sft-messages", *ENDS)
    evaluated = losses(run, "eval_loss")
    assert evaluated[-1] < evaluated[0] - 0.8
    prompts = held_out_prompts()[:12]
    before = habit_share(answers_hf(demo_models / "smollm2", None, prompts))
    after = habit_share(answers_hf(demo_models / "smollm2", run.adapter, prompts))
    assert before == 0
    assert after > 0.5


def test_dpo_widens_the_margin_and_greedy_answers_follow(train: Train, demo_models: Path) -> None:
    run = train("dpo", "data.limit=80", "trainer.max_steps=20", "trainer.learning_rate=8e-4", *ENDS)
    margins = losses(run, "eval_rewards/margins")
    assert margins[0] == pytest.approx(0, abs=1e-3)
    assert margins[-1] > 0.5
    assert losses(run, "eval_loss")[-1] < math.log(2) - 0.2
    prompts = questions("preferences.jsonl", run, 8)
    before, after = (words(demo_models / "smollm2", adapter, prompts) for adapter in (None, run.adapter))
    assert after < 0.85 * before  # the preferred answers are short


def words(base: Path, adapter: Path | None, prompts: list[str]) -> float:
    """Mean words of greedy answers of at most 96 tokens."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, str(adapter))
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    batch = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
    )
    output = model.generate(**batch, max_new_tokens=96, do_sample=False)
    answers = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(len(answer.split()) for answer in answers) / len(answers)


def test_continued_pre_training_lowers_the_perplexity_of_its_domain(train: Train) -> None:
    run = train("cpt", *ENDS)
    evaluated = losses(run, "eval_loss")
    assert math.exp(evaluated[-1]) < 0.85 * math.exp(evaluated[0])


def test_the_finished_adapter_answers_in_the_next_prompt(train: Train, tmp_path: Path) -> None:
    from playground.compare import Playground, Question
    from playground.events import Finished
    from playground.messages import Message
    from playground.presets import sampling

    run = train("sft", "trainer.max_steps=1", "data.limit=8", "data.evaluation=null")
    assert run.state().variant == "smollm2:sft"
    playground = Playground(Settings(data=tmp_path / "data"))
    try:
        asked = Question(
            variant="smollm2:sft",
            messages=(Message(role="user", content="안녕?"),),
            sampling=sampling("factual", seed=1, max_new_tokens=8),
        )
        assert any(isinstance(event, Finished) for event in playground.ask([asked]))
    finally:
        playground.close()
    another = train("sft", "data.evaluation=null", until="begun")
    shutil.copytree(run.adapter, another.adapter)
    assert finishing.register(playground.settings, another) == "smollm2:sft-2"
