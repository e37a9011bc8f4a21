"""Thirty ways to ask for a run that cannot be: each is told what is wrong and what to do, and leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import app
from playground.settings import Settings
from playground.system import hardware
from tests.training.conftest import ROWS, Write
from tests.training.trained import begin
from training.run import memory, runs

GOOD = {"instruction": "Where?", "output": "There."}
Case = tuple[dict[str, Any], list[str], str, str]

RECIPES: dict[str, Case] = {
    # name: fields of the recipe, --set, what the error says, what the hint says
    "unknown method": ({"method": "stf"}, [], "method = 'stf'", "show the fields"),
    "unknown field": ({"devcies": 2}, [], "did you mean devices", "show the fields"),
    "no devices": ({"devices": 0}, [], "devices = 0", "show the fields"),
    "share beyond one": ({}, ["data.evaluation=1.5"], "a share lies between 0 and 1", "show the fields"),
    "a name with spaces": ({"name": "my run!"}, [], "name = 'my run!'", "show the fields"),
    "unknown prompt format": ({}, ["data.prompt_format=alpacca"], "known prompt formats", "show the fields"),
    "old name of a field": ({}, ["trainer.warmup_ratio=0.1"], "write warmup_steps: 0.1", "own names"),
    "misspelt trainer field": ({}, ["trainer.lerning_rate=1"], "did you mean learning_rate", "own names"),
    "learning rate in words": ({}, ["trainer.learning_rate=fast"], "learning_rate = 'fast'", "own names"),
    "learning rate of zero": ({}, ["trainer.learning_rate=0"], "learning_rate = 0: it must be above 0", "own names"),
    "rank of zero": ({}, ["lora.r=0"], "lora.r = 0: it must be 1 or more", "own names"),
    "dropout above one": ({}, ["lora.lora_dropout=2"], "lora.lora_dropout = 2", "own names"),
    "a base that is rewritten": ({}, ["lora.init_lora_weights=pissa"], "rewrites the base's own weights", "own names"),
    "one checkpoint alone": ({}, ["trainer.save_total_limit=1"], "it must be 2 or more", "own names"),
    "checkpoints between evaluations": (
        *({}, ["data.evaluation=0.5", "trainer.save_steps=5", "trainer.eval_steps=3"]),
        *("save_steps = 5: it must be a multiple of eval_steps = 3", "own names"),
    ),
    "a tracker that is missing": ({}, ["trainer.report_to=trackio"], "pip install trackio", "own names"),
    "an optimizer that is none": ({}, ["trainer.optim=adamx"], "adamx is not a valid", "own names"),
    "a schedule that is none": ({}, ["trainer.lr_scheduler_type=cosinus"], "cosinus", "own names"),
    "4 bits without a card": ({}, ["load_in_4bit=true"], "needs an NVIDIA GPU", "float32"),
    "unsloth without a card": ({}, ["engine=unsloth"], "no NVIDIA GPU", "engine: auto"),
    "a set without a value": ({}, ["trainer.max_steps"], "names no value", "--set trainer.max_steps=20"),
    "longer than the model": ({}, ["trainer.max_length=9999"], "takes 2048 tokens at most", "Give 2048 or less"),
    "an unknown model": ({"model": "smollm3"}, [], "no variant named 'smollm3'", "smollm2"),
    "an adapter as base": ({"model": "smollm2:demo"}, [], "is no base model", "Train its base, smollm2."),
    "no target of that name": ({}, ["lora.target_modules=[q_prof]"], "q_prof", "q_proj"),
    "no such file": ({}, ["data.source=rowz.jsonl"], "rowz.jsonl", "a folder or a Hub id"),
    "dpo without pairs": ({"rows": ROWS["sft"], "method": "dpo"}, [], "dpo learns from preference pairs", "sft"),
    "orpo without pairs": ({"rows": ROWS["kto"], "method": "orpo"}, [], "orpo learns from preference pairs", "kto"),
    "kto of conversations": ({"rows": ROWS["sft"], "method": "kto"}, [], "kto learns from rated answers", "sft"),
    "a batch that KTO cannot use": (
        *({"method": "kto", "rows": ROWS["kto"]}, ["trainer.per_device_train_batch_size=1"]),
        *("per_device_train_batch_size = 1: KTO's KL term needs 2 rows", "KTOConfig"),
    ),
    "an order that KTO cannot use": (
        *({"method": "kto", "rows": ROWS["kto"]}, ["trainer.train_sampling_strategy=random"]),
        *("KL term needs sequential", "KTOConfig"),
    ),
    "dropout that TRL switches off": (
        *({"method": "dpo", "rows": ROWS["dpo"]}, ["lora.lora_dropout=0.1"]),
        *("lora.lora_dropout = 0.1: dpo trains without it", "DPOConfig"),
    ),
    "a field of DPO's for ORPO": (
        *({"method": "orpo", "rows": ROWS["dpo"]}, ["trainer.loss_type=sigmoid"]),
        *("loss_type", "ORPOConfig"),
    ),
    "a cut that ORPO would pass over": (
        *({"method": "orpo", "rows": ROWS["dpo"]}, ["trainer.max_completion_length=20"]),
        *("max_completion_length = 20: not given here; give `max_length`", "ORPOConfig"),
    ),
    "a cut of TRL's old trainers": (
        *({"method": "orpo", "rows": ROWS["dpo"]}, ["trainer.max_prompt_length=20"]),
        *("no such field; prompts are never cut", "ORPOConfig"),
    ),
    "a loss that KTO has no more": (
        *({"method": "kto", "rows": ROWS["kto"]}, ["trainer.loss_type=bco"]),
        *("loss_type = 'bco': KTO knows kto and apo_zero_unpaired", "KTOConfig"),
    ),
    "a weight that turns KTO around": (
        *({"method": "kto", "rows": ROWS["kto"]}, ["trainer.desirable_weight=-1"]),
        *("desirable_weight = -1: it must be 0 or more", "KTOConfig"),
    ),
    "smoothing that no trainer of pairs applies": (
        *({"method": "orpo", "rows": ROWS["dpo"]}, ["trainer.label_smoothing_factor=0.1"]),
        *("label_smoothing_factor = 0.1: the loss of orpo has none", "ORPOConfig"),
    ),
    "loss on everything of rated answers": (
        *({"method": "kto", "rows": ROWS["kto"]}, ["data.answers_only=false"]),
        *("answers_only = false: kto holds answers against each other", "KTOConfig"),
    ),
    "a kernel that is not there": ({}, ["trainer.use_liger_kernel=true"], "pip install liger-kernel", "SFTConfig"),
    "cpt of conversations": ({"rows": ROWS["sft"], "method": "cpt"}, [], "cpt learns from plain text", "text"),
    "an unknown data format": ({}, ["data.format=alpca"], "alpca", "alpaca"),
    "no row to read": ({}, ["data.limit=0"], "data.limit = 0", "show the fields"),
    "everything held out": ({}, ["data.evaluation=0.001"], "leaves one side empty", "share"),
}
DATA: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "missing answers": ([GOOD, {"instruction": "a", "output": ""}], "2", "--fix"),
    "nothing but signs": ([GOOD, {"instruction": "?!", "output": "..."}], "2", "--fix"),
    "roles out of order": (
        [{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}],
        "begin with an answer",
        "--fix",
    ),
    "chosen equals rejected": (
        [{"prompt": "a", "chosen": "b", "rejected": "b "}],
        "chosen and rejected answers are equal",
        "--fix",
    ),
    "columns of nothing known": ([{"frage": "a", "antwort": "b"}], "frage, antwort", "instruction"),
}


def refused(settings: Settings, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command line says when it ends with an error; nothing is left behind."""
    before = {path.name for path in runs.folder(settings).glob("*")}
    assert app.main(["--data", str(settings.data), "train", *arguments]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert {path.name for path in runs.folder(settings).glob("*")} == before
    return said[said.index("error: ") :]


def error_and_hint(said: str) -> tuple[str, str]:
    error, _, hint = said.partition("\nhint: ")
    assert hint.strip()
    return error, hint


@pytest.fixture(autouse=True)
def _no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "vram_total", lambda: 0)


@pytest.mark.parametrize("case", RECIPES)
def test_recipes(case: str, settings: Settings, recipe: Write, capsys: pytest.CaptureFixture[str]) -> None:
    fields, sets, message, hint = RECIPES[case]
    path = recipe(**({"method": "sft"} | fields))
    said = refused(settings, capsys, str(path), *(part for one in sets for part in ("--set", one)))
    error, remedy = error_and_hint(said)
    assert message in error
    assert hint in remedy


@pytest.mark.parametrize("case", DATA)
def test_data(case: str, settings: Settings, recipe: Write, capsys: pytest.CaptureFixture[str]) -> None:
    rows, message, hint = DATA[case]
    method = "dpo" if "chosen" in rows[0] else "sft"
    error, remedy = error_and_hint(refused(settings, capsys, str(recipe(method, rows=rows))))
    assert message in error
    assert hint in remedy


@pytest.mark.parametrize(
    ("text", "message"),
    [("method: [", "is not valid YAML"), ("- a\n- b", "holds no recipe"), ("method: sft\nmodel: x\ndata:\n", "data")],
)
def test_files_that_are_no_recipe(
    text: str, message: str, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    assert message in error_and_hint(refused(settings, capsys, str(path)))[0]


def test_recipes_that_are_not_there(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean sft" in refused(settings, capsys, "stf")
    assert "There is no recipe nowhere.yaml" in refused(settings, capsys, "nowhere.yaml")
    assert "Which recipe?" in refused(settings, capsys)


def test_a_disk_that_is_too_small(
    settings: Settings, recipe: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = memory.machine(settings.data)
    small = memory.Machine(here.cards, here.ram, (10, 100))
    monkeypatch.setattr(memory, "machine", lambda folder: small)
    error, hint = error_and_hint(refused(settings, capsys, str(recipe())))
    assert "does not fit on the disk" in error
    assert "save_total_limit" in hint


def test_more_cards_than_there_are(
    settings: Settings, recipe: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    here = memory.Machine(((1, 2),), (1, 2), (1, 2))
    monkeypatch.setattr(hardware, "vram_total", lambda: 2)

    def machine(folder: Path) -> memory.Machine:
        asked.append(folder)
        return here

    monkeypatch.setattr(memory, "machine", machine)
    error, hint = error_and_hint(refused(settings, capsys, str(recipe(devices=2))))
    assert "devices: 2, and this machine has 1 GPUs" in error
    assert "as many as there are" in hint
    assert asked == [settings.data]  # each look asks the driver


def test_resuming_with_another_recipe(settings: Settings, recipe: Write, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin(settings, str(recipe()))
    changed = recipe(trainer={"learning_rate": 5e-4})
    error, hint = error_and_hint(refused(settings, capsys, "--resume", str(changed)))
    assert "trainer.learning_rate is 0.0005 now and was 0.001" in error
    assert f"--resume {run.name}" in hint


def test_resuming_what_is_not_there(settings: Settings, recipe: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run to go on with" in refused(settings, capsys, "--resume")
    assert "No run was begun with" in refused(settings, capsys, "--resume", str(recipe()))
    assert "--set" in refused(settings, capsys, "--resume", "--set", "a=1")
    run = begin(settings, str(recipe()))
    assert f"Did you mean {run.name}" in refused(settings, capsys, "--resume", run.name[:-1])
    (run.folder / "plan.json").write_text("{}", encoding="utf-8")
    assert "plan.json cannot be read" in refused(settings, capsys, "--resume", run.name)


def test_there_are_thirty_cases_and_more() -> None:
    assert len(RECIPES) + len(DATA) >= 30
    assert len({json.dumps(case) for case in map(list, RECIPES.values())}) == len(RECIPES)


def test_the_good_recipe_that_the_cases_spoil_is_good(
    settings: Settings, recipe: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path: Path = recipe()
    assert yaml.safe_load(path.read_text())["method"] == "sft"
    with pytest.raises(SystemExit) as ended:
        app.main(["--data", str(settings.data), "train", str(path), "--dry-run", "--json"])
    assert ended.value.code == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["rows"], shown["steps"], shown["plan"]["rank"]) == (len(ROWS["sft"]), 6, 4)
    assert {row["place"] for row in shown["memory"]} == {"ram", "disk"}
