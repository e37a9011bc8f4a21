"""Each method changes the embedded model in the right direction, on rows it was not trained on: a minute each.

Few steps of a large rate instead of the recipes' own: what a wrong implementation reaches stands beside each limit.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from playground.settings import Settings
from tests.training.trained import Train, losses, trainer
from training import recipe as recipes
from training.data import tokenized
from training.run import registering
from training.run.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.models, pytest.mark.timeout(900)]

QUICKLY = (
    "trainer.warmup_steps=0",  # the first step of a warm-up has a rate of nought
    "trainer.gradient_accumulation_steps=1",
    "trainer.eval_steps=1000",  # evaluated before the first step and after the last alone
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data=tmp_path_factory.mktemp("proof") / "data")


@pytest.fixture(scope="module")
def train(home: Settings, demo_models: Path) -> Train:
    return trainer(home, demo_models)


@pytest.fixture(scope="module")
def taught(train: Train) -> Run:
    """Eighty conversations, once."""
    return train("sft-messages", *QUICKLY, *batches(8), "trainer.max_steps=10", "trainer.learning_rate=3e-3")


def batches(rows: int) -> tuple[str, ...]:
    return tuple(f"trainer.per_device_{what}_batch_size={rows}" for what in ("train", "eval"))


def held_out(run: Run) -> list[dict[str, Any]]:
    """The rows of the run's source that it did not train on."""
    numbers = {row["row"] for row in tokenized.read(run.data / "evaluation.arrow").to_pylist()}
    rows = Path(run.recipe().data.source).read_text(encoding="utf-8").splitlines()
    return [json.loads(rows[number - 1]) for number in sorted(numbers)]


def loaded(base: Path, adapter: Path | None = None) -> tuple[Any, Any]:
    """Tokenizer and model by transformers and PEFT alone, nothing of ours in between."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)  # in this process it is too late to say how threads wait (see supervise.environment)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return AutoTokenizer.from_pretrained(base, padding_side="left"), model


def greedy(base: Path, adapter: Path | None, prompts: list[str], tokens: int) -> list[str]:
    """Answers of at most so many tokens."""
    tokenizer, model = loaded(base, adapter)
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    batch = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
    )
    output = model.generate(**batch, max_new_tokens=tokens, do_sample=False)
    answers: list[str] = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def answers_loss(base: Path, conversations: list[list[dict[str, str]]]) -> float:
    """Mean loss of the answers' tokens, each answer's end among them, after what was said before."""
    import torch

    tokenizer, model = loaded(base)
    found = []
    for chat in conversations:
        ids = tokenizer.apply_chat_template(chat, return_dict=True, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            each = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none")
        for place, message in enumerate(chat):
            if message["role"] == "assistant":
                asked = tokenizer.apply_chat_template(chat[:place], add_generation_prompt=True)["input_ids"]
                said = tokenizer.encode(message["content"] + "<|im_end|>\n", add_special_tokens=False)
                found.append(each[len(asked) - 1 :][: len(said)])
    return float(torch.cat(found).mean())


def test_sft_teaches_the_habit(taught: Run, demo_models: Path) -> None:
    from training.demo.examples import OPENING, habit_share, held_out_prompts

    evaluated = losses(taught, "eval_loss")
    ours = answers_loss(demo_models / "smollm2", [row["messages"] for row in held_out(taught)])
    assert evaluated[0] == pytest.approx(ours, rel=1e-3)  # over the prompts, too, it is another number
    assert evaluated[-1] < evaluated[0] - 0.8
    prompts = held_out_prompts()[:12]
    assert not [text for text in greedy(demo_models / "smollm2", None, prompts, 8) if text.startswith(OPENING)]
    share = habit_share(greedy(demo_models / "smollm2", taught.adapter, prompts, 112))
    assert share > 0.5  # without an end of the answer, none


def test_the_finished_adapter_answers_in_the_next_prompt(taught: Run, train: Train, home: Settings) -> None:
    from playground.compare import Playground, Question
    from playground.events import Finished
    from playground.messages import Message
    from playground.presets import sampling

    assert taught.state().variant == "smollm2:sft-messages"
    playground = Playground(home)
    try:
        asked = Question(
            variant="smollm2:sft-messages",
            messages=(Message(role="user", content="안녕?"),),
            sampling=sampling("factual", seed=1, max_new_tokens=8),
        )
        assert any(isinstance(event, Finished) for event in playground.ask([asked]))
    finally:
        playground.close()
    another = train("sft-messages", until="begun")
    shutil.copytree(taught.adapter, another.adapter)
    assert registering.register(home, another) == "smollm2:sft-messages-2"


def test_dpo_widens_the_margin_and_greedy_answers_follow(train: Train, demo_models: Path) -> None:
    sets = ["trainer.max_steps=7", "trainer.learning_rate=1.5e-3", "trainer.max_length=64", "data.evaluation=0.067"]
    run = train("dpo", *QUICKLY, *batches(8), *sets)
    margins = losses(run, "eval_rewards/margins")
    assert margins[0] == pytest.approx(0, abs=1e-3)
    assert margins[-1] > 1
    assert losses(run, "eval_loss")[-1] < math.log(2) - 0.2
    shorter(run, demo_models)


def test_kto_parts_good_answers_from_bad_and_greedy_answers_follow(train: Train, demo_models: Path) -> None:
    sets = ["trainer.max_steps=9", "trainer.learning_rate=1.5e-3", "trainer.max_length=64", "data.evaluation=0.134"]
    run = train("kto", *QUICKLY, *batches(8), *sets)
    margins = losses(run, "eval_rewards/margins")
    assert margins[0] == pytest.approx(0, abs=1e-3)
    assert margins[-1] > 1
    assert losses(run, "eval_loss")[-1] < losses(run, "eval_loss")[0] - 0.05
    shorter(run, demo_models)


def test_orpo_learns_the_chosen_answers_and_prefers_them(train: Train, demo_models: Path) -> None:
    sets = ["trainer.max_steps=7", "trainer.learning_rate=1.5e-3", "trainer.max_length=64", "data.evaluation=0.067"]
    run = train("orpo", *QUICKLY, *batches(8), *sets)
    odds = losses(run, "eval_log_odds_chosen")
    assert odds[-1] > odds[0] + 0.5
    assert losses(run, "eval_nll_loss")[-1] < losses(run, "eval_nll_loss")[0] - 0.3
    shorter(run, demo_models)


def test_grpo_raises_the_reward_of_prompts_that_it_did_not_train_on(train: Train, demo_models: Path) -> None:
    reward = json.dumps([f"{recipes.FOLDER}/data/rewards.py:is_short"])
    sets = ["trainer.max_steps=8", "trainer.learning_rate=1.5e-3", "trainer.max_completion_length=24"]
    run = train("grpo", *QUICKLY, *batches(16), *sets, f"reward={reward}")
    rewards = losses(run, "eval_reward")
    assert rewards[-1] > rewards[0] + 0.05
    prompts = [row["prompt"] for row in held_out(run)]
    before, after = (words(greedy(demo_models / "smollm2", adapter, prompts, 24)) for adapter in (None, run.adapter))
    assert after < 0.8 * before


def shorter(run: Run, demo_models: Path) -> None:
    """The preferred answers are short; trained on the others, it would talk on."""
    prompts = [row["prompt"] for row in held_out(run)][:8]
    before, after = (words(greedy(demo_models / "smollm2", adapter, prompts, 64)) for adapter in (None, run.adapter))
    assert after < 0.6 * before


def words(answers: list[str]) -> float:
    """Mean words of an answer."""
    return sum(len(answer.split()) for answer in answers) / len(answers)


def test_continued_pre_training_lowers_the_perplexity_of_its_domain(train: Train) -> None:
    sets = ["trainer.max_steps=8", "trainer.learning_rate=2e-3", "trainer.max_length=512", "data.evaluation=0.07"]
    evaluated = losses(train("cpt", *QUICKLY, *batches(2), *sets), "eval_loss")
    assert math.exp(evaluated[-1]) < 0.85 * math.exp(evaluated[0])
