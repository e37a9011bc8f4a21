"""KTO and ORPO on a tiny random model: the tokens are TRL's own, the loss is the papers', worked out by hand."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import AutoTokenizer
from trl import KTOTrainer
from trl.data_utils import maybe_apply_chat_template
from trl.experimental.orpo import ORPOTrainer

from playground.settings import Settings
from tests.training.conftest import PLACES, ROWS, Write
from tests.training.trained import begin
from training.data import tokenized
from training.data.encoder import Encoder
from training.data.examples import Example, Turn
from training.data.formats import Data, unpaired
from training.run.runs import Run
from training.trainer import loading, trainers

PAIRS = [
    Example(row, "preference", (Turn("user", f"{place}?"),), chosen=f"{place}.", rejected=f"음, {place}, 글쎄요!")
    for row, place in enumerate(PLACES, start=1)
]
BETA = 0.1
SEED = 3


@pytest.fixture
def built(settings: Settings, recipe: Write) -> Callable[..., Any]:
    """A trainer of a method, ready to train."""

    def make(method: str, *sets: str) -> Any:
        torch.manual_seed(SEED)  # of the adapter's first matrices: what ran before must not choose them
        run: Run = begin(settings, str(recipe(method)), *sets)
        loaded = loading.load("peft", run.recipe(), run.model(), run.plan(), on_card=False)
        trainer = trainers.build(run, run.recipe(), run.plan(), loaded, on_card=False)
        with torch.no_grad():
            for name, weight in trainer.model.named_parameters():  # an adapter that does nothing has no margin
                if "lora_B" in name:
                    weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(SEED)) / 50)
        return trainer

    return make


def said(model: Any, ids: list[int], answer: int) -> torch.Tensor:
    """The log-probabilities of the last `answer` tokens, a row alone and without padding."""
    logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    return -cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")[-answer:]


def rows(trainer: Any, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a batch as the trainer's table has them."""
    table = {row["row"]: row for row in trainer.train_dataset.to_list()}
    return [table[number] for (number,) in batch["rows"].tolist()]


@torch.no_grad()
def test_the_loss_of_kto_is_the_papers(built: Callable[..., Any]) -> None:
    trainer = built("kto")
    batch = next(iter(trainer.get_train_dataloader()))
    items = rows(trainer, batch)
    assert len(items) == 4
    model = trainer.model.eval()

    def moved(prompt: list[int], answer: list[int]) -> torch.Tensor:
        own = said(model, prompt + answer, len(answer)).sum()
        with model.disable_adapter():
            return own - said(model, prompt + answer, len(answer)).sum()

    ratios = [moved(item["prompt_ids"], item["completion_ids"]) for item in items]
    others = [moved(item["prompt_ids"], items[place - 1]["completion_ids"]) for place, item in enumerate(items)]
    kl = torch.stack(others).mean()
    assert kl > 0.01  # below nought it counts as nought, and says nothing of the neighbours
    losses = [
        1 - torch.sigmoid(BETA * ((ratio - kl) if item["label"] else (kl - ratio)))
        for item, ratio in zip(items, ratios, strict=True)
    ]
    assert {item["label"] for item in items} == {True, False}
    assert float(trainer.compute_loss(trainer.model, batch)) == pytest.approx(
        float(torch.stack(losses).mean()), abs=1e-5
    )


@torch.no_grad()
def test_the_loss_of_orpo_is_the_papers_over_the_whole_chosen_conversation(built: Callable[..., Any]) -> None:
    trainer = built("orpo")
    batch = next(iter(trainer.get_train_dataloader()))
    items = rows(trainer, batch)
    model = trainer.model.eval()
    whole, odds = [], []
    for item in items:
        sides = [
            said(model, item["prompt_ids"] + item[f"{side}_ids"], len(item[f"{side}_ids"])).mean()
            for side in ("chosen", "rejected")
        ]
        chosen, rejected = (side - torch.log1p(-side.exp()) for side in sides)
        odds.append(logsigmoid(chosen - rejected))
        ids = item["prompt_ids"] + item["chosen_ids"]
        whole.append(said(model, ids, len(ids) - 1))
    expected = -torch.cat(whole).mean() - BETA * torch.stack(odds).mean()
    assert float(trainer.compute_loss(trainer.model, batch)) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("kind", ["kto", "dpo"])
def test_ratings_reach_the_trainer_and_pairs_become_two(kind: str, settings: Settings, recipe: Write) -> None:
    run = begin(settings, str(recipe("kto", rows=ROWS[kind])))
    encoder = Encoder(Path(run.model().folder), run.model().prompt_format)
    table = trainers._rows(run, run.recipe(), run.plan(), "train")
    assert table is not None
    made = [(item["row"], encoder.tokenizer.decode(item["completion_ids"]).strip(), item["label"]) for item in table]
    sides: list[tuple[str, bool | None]] = [("chosen", True), ("rejected", False)]
    sides = [("completion", None)] if kind == "kto" else sides
    told = [
        (number, row[name], bool(row["label"]) if good is None else good)
        for number, row in enumerate(ROWS[kind], start=1)
        for name, good in sides
    ]
    assert made != told  # shuffled: TRL keeps the order, and files often have good and bad apart
    assert sorted(made) == sorted(told)


def test_answers_are_cut_at_their_ends_and_prompts_never(built: Callable[..., Any]) -> None:
    trainer = built("orpo", "trainer.max_length=64")
    longest = max(trainer.train_dataset.to_list(), key=lambda row: len(row["rejected_ids"]))
    assert len(longest["prompt_ids"]) + len(longest["rejected_ids"]) > 64
    batch = trainer.data_collator([longest])
    ids = longest["prompt_ids"] + longest["rejected_ids"]
    assert batch["rejected_input_ids"][0].tolist() == ids[:64]
    learnt = batch["rejected_labels"][0] >= 0
    assert batch["rejected_labels"][0][learnt].tolist() == ids[len(longest["prompt_ids"]) : 64]


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 9])
def test_every_prompt_gets_the_answer_of_its_neighbour_in_the_batch_as_in_trl(batch: int) -> None:
    import pyarrow as pa

    table = pa.table({"completion_ids": pa.array([[place] for place in range(9)], pa.list_(pa.int32()))})
    ours = [ids for (ids,) in tokenized.with_neighbours(table, batch)["KL_completion_ids"].to_pylist()]
    rotated = [part[-1:] + part[:-1] for part in (list(range(9))[at : at + batch] for at in range(0, 9, batch))]
    theirs = [place for part in rotated for place in part]
    lonely = [8] if batch in (2, 4) else list(range(9)) if batch == 1 else []
    assert [place for place in range(9) if ours[place] != theirs[place]] == [place for place in lonely if place]
    assert all(ours[place] == max(0, place - 1) for place in lonely)


@pytest.mark.models
def test_tokens_are_those_that_trl_makes(demo_models: Path) -> None:
    encoder = Encoder(demo_models / "smollm2", name="smollm2")
    tokenizer = AutoTokenizer.from_pretrained(encoder.folder)
    told = [
        {
            "prompt": [{"role": "user", "content": pair.turns[0].content}],
            "chosen": [{"role": "assistant", "content": pair.chosen}],
            "rejected": [{"role": "assistant", "content": pair.rejected}],
        }
        for pair in PAIRS
    ]
    args = SimpleNamespace(dataset_num_proc=None, max_length=512, per_device_train_batch_size=4)
    stub = SimpleNamespace(calculate_KL=True, _tokenizer=tokenizer, desirable_weight=1.0, undesirable_weight=1.0)
    theirs = KTOTrainer._prepare_dataset(stub, Dataset.from_list(told), tokenizer, args, "train")
    ours = [encoder.rated(example) for example in unpaired(Data(PAIRS, "preference", "x")).examples]
    made = sorted(zip(theirs["prompt_ids"], theirs["completion_ids"], theirs["label"], strict=True))
    assert made == sorted((*ids, place % 2 == 0) for place, ids in enumerate(ours))
    end = [tokenizer.eos_token_id]
    for row, pair in zip(told, PAIRS, strict=True):
        row = ORPOTrainer.tokenize_row(_orpo(tokenizer), maybe_apply_chat_template(row, tokenizer))
        prompt, chosen, rejected = encoder.pair(pair)
        assert row["chosen_input_ids"] == prompt + chosen + end  # TRL ends an answer twice: its template ends in a line
        assert row["rejected_input_ids"] == prompt + rejected + end
        assert row["chosen_labels"] == [-100] * len(prompt) + chosen + end


def _orpo(tokenizer: Any) -> Any:
    made = SimpleNamespace(processing_class=tokenizer, is_encoder_decoder=False, max_length=512)
    made.build_tokenized_answer = lambda *texts: ORPOTrainer.build_tokenized_answer(made, *texts)
    return made
