"""TRL's trainers with our guards, on a tiny random model in this process: what a run may rely on."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback

from playground.errors import ConfigError, MadangError, SetupError, VariantError
from playground.settings import Settings
from playground.system import atomic
from tests.training.conftest import ROWS, Write
from tests.training.trained import begin, losses
from training.data import tokenized
from training.methods import METHODS
from training.run.runs import Run, step_of
from training.trainer import process, trainers
from training.trainer.guards import NotFinite


@pytest.fixture
def begun(settings: Settings, recipe: Write) -> Callable[..., Run]:
    """A run that is ready to be trained in this process."""

    def make(method: str = "sft", *sets: str, **fields: Any) -> Run:
        return begin(settings, str(recipe(method, **fields)), *sets)

    return make


def adapter(run: Run) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_file(run.adapter / "adapter_model.safetensors")
    return weights


def same(one: Run, other: Run) -> bool:
    first, second = adapter(one), adapter(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_trains_and_plain_peft_loads_the_adapter(method: str, begun: Callable[..., Run]) -> None:
    run = begun(method, data={"source": str(begun(method).recipe().data.source), "evaluation": 0.2})
    assert process.train(run).status == "done"
    rewarded = METHODS[method].rewarded
    evaluated = [-reward for reward in losses(run, "eval_reward")] if rewarded else losses(run, "eval_loss")
    reached = min(evaluated) if rewarded else evaluated[-1]  # of rewards the best is kept
    assert reached < evaluated[0]
    if METHODS[method].compares and not rewarded:
        assert losses(run, "eval_rewards/margins")[-1] > losses(run, "eval_rewards/margins")[0]
    base = AutoModelForCausalLM.from_pretrained(run.model().folder, dtype=torch.float32)
    before = base(torch.tensor([[5, 6, 7]])).logits
    model = PeftModel.from_pretrained(base, str(run.adapter))
    assert not torch.allclose(model(torch.tensor([[5, 6, 7]])).logits, before)
    config = json.loads((run.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == run.model().source
    assert (config["r"], config["lora_alpha"]) == (4, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "sets"),
    [
        ("kto", ["trainer.loss_type=apo_zero_unpaired", "trainer.per_device_train_batch_size=1"]),
        ("kto", ["trainer.precompute_ref_log_probs=true", "trainer.undesirable_weight=2"]),
        ("dpo", ["trainer.precompute_ref_log_probs=true"]),
    ],
)
def test_other_ways_of_comparing(method: str, sets: list[str], begun: Callable[..., Run]) -> None:
    source = str(begun(method).recipe().data.source)
    run = begun(method, *sets, data={"source": source, "evaluation": 0.2})
    assert process.train(run).status == "done"
    evaluated = losses(run, "eval_loss")
    assert evaluated[-1] < evaluated[0]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "orpo"])
def test_an_adapter_on_the_output_layer(method: str, begun: Callable[..., Run]) -> None:
    """TRL's loss in chunks refuses it after the start; the loss over whole logits takes it."""
    run = begun(method, lora={"r": 4, "target_modules": ["q_proj", "lm_head"]})
    assert run.plan().whole_logits is (method == "sft")
    assert process.train(run).status == "done"
    assert float(adapter(run)["base_model.model.lm_head.lora_B.weight"].abs().max()) > 0


def test_a_loss_that_passes_over_the_output_layer_is_refused_before_the_start(begun: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match="passes over an adapter on the output layer") as caught:
        begun("sft", lora={"r": 4, "target_modules": ["lm_head"]}, trainer={"loss_type": "chunked_nll"})
    assert "loss_type: nll" in caught.value.hint


def test_a_line_a_step_with_speed_and_memory(begun: Callable[..., Run]) -> None:
    run = begun()
    process.train(run)
    rows = [row for row in run.metrics() if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["tokens_per_s"] > 0 and row["ram_gib"] > 0.1 and row["learning_rate"] >= 0 for row in rows)
    assert (run.state().step, run.state().steps) == (6, 6)
    table = tokenized.read(run.data / "train.arrow").to_pylist()
    mean = sum(len(row["input_ids"]) for row in table) / len(table)
    assert rows[0]["tokens"] == pytest.approx(8 * mean, rel=0.2)  # padding left out


def test_loss_on_the_answers_alone_and_on_everything_where_it_is_asked_for(begun: Callable[..., Run]) -> None:
    answers = tokenized.read(begun().data / "train.arrow").to_pylist()[0]
    source = str(begun().recipe().data.source)
    whole = tokenized.read(begun(data={"source": source, "answers_only": False}).data / "train.arrow").to_pylist()[0]
    assert answers["input_ids"] == whole["input_ids"] == whole["labels"]
    learnt = [label for label in answers["labels"] if label >= 0]
    assert 0 < len(learnt) < len(answers["labels"])
    assert answers["input_ids"][-len(learnt) :] == learnt


@pytest.mark.slow
def test_the_same_seed_gives_the_same_adapter(begun: Callable[..., Run]) -> None:
    one, two, other = begun(), begun(), begun(seed=1)
    for run in (one, two, other):
        process.train(run)
    assert same(one, two)
    assert not same(one, other)


@pytest.mark.slow
def test_batch_and_accumulation_change_places_without_changing_the_steps(begun: Callable[..., Run]) -> None:
    found = []
    for batch, accumulation in ((8, 1), (2, 4), (1, 8)):
        run = begun(
            "sft", f"trainer.per_device_train_batch_size={batch}", f"trainer.gradient_accumulation_steps={accumulation}"
        )
        process.train(run)
        found.append((losses(run), losses(run, "grad_norm")))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-4)
        assert gradient == pytest.approx(found[0][1], rel=1e-3)


class _Dies(TrainerCallback):  # type: ignore[misc]
    """Ends the process's training after a step, as a kill would: nothing is put away."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "method", ["sft", *(pytest.param(name, marks=pytest.mark.slow) for name in ("kto", "orpo", "grpo"))]
)
def test_losses_after_a_resume_are_those_of_an_uninterrupted_run(
    method: str, begun: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ["lora.lora_dropout=0.1"]  # random numbers have to go on where they stopped, too
    sets += ["trainer.disable_dropout=false"] if METHODS[method].compares else []
    whole = begun(method, *sets)
    process.train(whole)
    run = begun(method, *sets)
    build = trainers.build

    def dying(*args: Any) -> Any:
        made = build(*args)
        made.add_callback(_Dies(5))
        return made

    monkeypatch.setattr(trainers, "build", dying)
    with pytest.raises(KeyboardInterrupt):
        process.train(run)
    assert [step_of(path) for path in run.whole_checkpoints()] == [2, 4]
    monkeypatch.setattr(trainers, "build", build)
    process.train(run)
    assert losses(run) == pytest.approx(losses(whole), abs=1e-4)
    assert same(run, whole)


def poisoned(tiny: Callable[[str], Path], tmp_path: Path, letter: str) -> Path:
    """The tiny model, with an embedding that is no number for one letter."""
    folder = tmp_path / "poisoned"
    shutil.copytree(tiny("llama"), folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    (token,) = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(letter).ids
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = math.nan
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("packing", [False, True])
def test_a_loss_that_is_no_number_names_step_and_rows_and_keeps_the_last_good_checkpoint(
    packing: bool, begun: Callable[..., Run], tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = [dict(row) for row in ROWS["sft"]]
    rows[32]["output"] = "Z"
    folder = poisoned(tiny, tmp_path, "Z")
    sets = ["trainer.packing=true", "trainer.max_length=256"] if packing else []
    run = begun("sft", "trainer.save_steps=1", "trainer.max_steps=9", *sets, rows=rows, model=str(folder))
    with pytest.raises(NotFinite) as caught:
        process.train(run)
    step = int(caught.value.message.split()[1])
    named = caught.value.message.partition("Its rows: ")[2].rstrip(".").split(", ")
    assert "33" in named
    assert len(named) <= (20 if packing else 2)  # the micro-batch, not the step
    assert [step_of(path) for path in run.whole_checkpoints()][-1:] == ([step - 1] if step > 1 else [])


@pytest.mark.parametrize(("method", "answer"), [("kto", "completion"), ("orpo", "rejected")])
def test_a_loss_that_is_no_number_names_its_rows_where_answers_are_compared(
    method: str, answer: str, begun: Callable[..., Run], tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = [dict(row) for row in ROWS[method]]
    rows[12][answer] = "Z"
    folder = poisoned(tiny, tmp_path, "Z")
    run = begun(method, "trainer.gradient_accumulation_steps=1", rows=rows, model=str(folder))
    with pytest.raises(NotFinite) as caught:
        process.train(run)
    named = caught.value.message.partition("Its rows: ")[2].rstrip(".").split(", ")
    assert "13" in named
    assert len(named) <= run.plan().batch


def test_a_disk_that_fills_leaves_the_last_good_checkpoint(
    begun: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun()
    save, below = Trainer._save_optimizer_and_scheduler, atomic.FULL_BELOW

    def full(self: Any, folder: str) -> None:
        if self.state.global_step == 4:
            monkeypatch.setattr(atomic, "FULL_BELOW", 2**62)
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 37522816 vs 37522704")
        save(self, folder)

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(SetupError, match="The disk is full: the checkpoint of step 4") as caught:
        process.train(run)
    assert "--resume" in caught.value.hint
    assert [path.name for path in run.checkpoints.glob("checkpoint-*")] == ["checkpoint-2"]
    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", save)
    monkeypatch.setattr(atomic, "FULL_BELOW", below)
    assert process.train(run).status == "done"


def test_running_out_of_memory_inside_a_step_keeps_the_step_before(
    begun: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun()
    step = Trainer.training_step

    def greedy(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", greedy)
    with pytest.raises(torch.OutOfMemoryError):
        process.train(run)
    assert [step_of(path) for path in run.whole_checkpoints()] == [2, 3]


def test_a_stop_is_a_checkpoint_and_the_rest_comes_later(begun: Callable[..., Run]) -> None:
    run = begun("sft", "trainer.save_steps=100")
    run.stop_file.touch()
    assert process.train(run) == process.Outcome(status="stopped", step=1)
    assert [step_of(path) for path in run.whole_checkpoints()] == [1]
    assert not run.adapter.exists()
    run.stop_file.unlink()
    assert process.train(run).status == "done"
    assert len(losses(run)) == 6


def test_learning_by_heart_stops_and_keeps_the_best(begun: Callable[..., Run], write_rows: Callable[..., Path]) -> None:
    other = write_rows([{"instruction": f"Sum {n}", "output": f"zzz qqq {n}"} for n in range(8)], "other.jsonl")
    source = str(begun().recipe().data.source)
    run = begun(
        "sft",
        "trainer.max_steps=60",
        "trainer.eval_steps=2",
        "trainer.save_steps=50",  # the best is a checkpoint all the same
        "trainer.learning_rate=0.02",
        "data.limit=8",
        data={"source": source, "evaluation": str(other)},
    )
    process.train(run)
    evaluated = [(row["step"], row["eval_loss"]) for row in run.metrics() if "eval_loss" in row and row["step"]]
    best = min(evaluated, key=lambda row: row[1])[0]
    assert evaluated[-1][0] < 60
    assert f"the adapter is that of step {best}" in run.events()[-1].message
    kept = load_file(run.checkpoints / f"checkpoint-{best}" / "adapter_model.safetensors")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in adapter(run).items())


def test_a_base_that_lacks_weights_is_not_trained(begun: Callable[..., Run], tmp_path: Path) -> None:
    run = begun()
    folder = Path(shutil.copytree(run.model().folder, tmp_path / "headless"))
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    from training.trainer import loading

    model = run.model().model_copy(update={"folder": str(folder)})
    with pytest.raises(VariantError, match="lacks 1 of the weights of a LlamaForCausalLM, lm_head.weight first"):
        loading.load("peft", run.recipe(), model, run.plan(), on_card=False)


def test_packed_rows_never_see_each_other(begun: Callable[..., Run]) -> None:
    run = begun("sft", "trainer.packing=true", "trainer.max_length=256")
    recipe, plan = run.recipe(), run.plan()
    from training.trainer import loading

    loaded = loading.load("peft", recipe, run.model(), plan, on_card=False)
    trainer = trainers.build(run, recipe, plan, loaded, on_card=False)
    batch = next(iter(trainer.get_train_dataloader()))
    starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    assert len(starts) > 3
    model = trainer.model.eval()
    with torch.no_grad():
        packed = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]
        joined = model(input_ids=batch["input_ids"], use_cache=False).logits[0]
        ends = [*starts[1:], batch["input_ids"].shape[1]]
        alone = torch.cat(
            [model(input_ids=batch["input_ids"][:, a:b]).logits[0] for a, b in zip(starts, ends, strict=True)]
        )
    assert torch.allclose(packed, alone, atol=1e-3)
    assert (joined - alone).abs().max() > 1  # as one text they would
    assert (batch["labels"][0][starts] == -100).all()


def test_long_documents_go_on_in_the_next_pack(begun: Callable[..., Run], write_rows: Callable[..., Path]) -> None:
    long = write_rows([{"text": "마당 " * 400}, {"text": "hello world " * 30}])
    run = begun("cpt", "trainer.max_length=128", data={"source": str(long)})
    rows = trainers._rows(run, run.recipe(), run.plan(), "train")
    assert rows is not None
    assert max(len(row["input_ids"]) for row in rows) <= 128
    whole = sum(len(row["input_ids"]) for row in tokenized.read(run.data / "train.arrow").to_pylist())
    assert sum(len(row["input_ids"]) for row in rows) == whole


def test_rows_that_the_maximum_leaves_nothing_of_are_refused(begun: Callable[..., Run]) -> None:
    with pytest.raises(MadangError) as caught:
        process.train(begun("sft", "trainer.max_length=16"))
    assert "max_length" in caught.value.hint or "maximum" in caught.value.message
    assert isinstance(caught.value, ConfigError)


@pytest.mark.slow
def test_gradient_checkpointing_changes_memory_and_not_the_gradients(begun: Callable[..., Run]) -> None:
    plain, saved = begun("sft"), begun("sft", "trainer.gradient_checkpointing=true")
    assert saved.plan().checkpointing
    for run in (plain, saved):
        process.train(run)
    assert losses(saved) == pytest.approx(losses(plain), abs=1e-4)


def test_deepspeed_is_configured_as_the_guide_says() -> None:
    zero2, zero3 = trainers.deepspeed("zero2"), trainers.deepspeed("zero3")
    assert zero2["zero_optimization"]["stage"] == 2
    assert zero2["zero_optimization"]["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert zero3["zero_optimization"]["stage"] == 3
    assert {zero2[name] for name in zero2 if name.endswith(("batch_size", "per_gpu", "steps"))} == {"auto"}
