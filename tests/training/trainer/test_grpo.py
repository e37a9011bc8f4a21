"""GRPO on a tiny random model: prompts are the chat's, rewards get their columns, and what goes wrong has its place."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.errors import ConfigError, MadangError
from playground.settings import Settings
from tests.training.conftest import Write
from tests.training.trained import begin
from training.data.encoder import Encoder
from training.reward import Reward
from training.run.runs import Run
from training.trainer import loading, process, trainers
from training.trainer.guards import NotFinite

ASKED: list[dict[str, Any]] = [
    {"prompt": "Name Seoul", "answer": "Seoul", "completion": "kept"},
    {"prompt": [{"role": "user", "content": "부산?"}], "level": 3},
]
SEEN = """
import json, pathlib
def score(prompts, completions, answer, level, **columns):
    seen = [prompts, completions, answer, level, columns["completion"], sorted(columns)]
    pathlib.Path(__file__).with_name("seen.json").write_text(json.dumps(seen, default=str))
    return [len(str(said)) for said in completions]
"""


@pytest.fixture
def begun(settings: Settings, recipe: Write) -> Callable[..., Run]:
    def make(*sets: str, **fields: Any) -> Run:
        return begin(settings, str(recipe("grpo", **fields)), "trainer.max_steps=1", *sets)

    return make


def built(run: Run) -> Any:
    loaded = loading.load("peft", run.recipe(), run.model(), run.plan(), on_card=False)
    return trainers.build(run, run.recipe(), run.plan(), loaded, on_card=False)


def test_a_reward_gets_prompts_and_answers_as_they_stand_and_every_column(begun: Callable[..., Run]) -> None:
    batch = ["trainer.per_device_train_batch_size=8", "trainer.gradient_accumulation_steps=1"]
    run = begun(*batch, rows=ASKED, code=SEEN)
    assert process.train(run).status == "done"
    seen = json.loads((Path(run.recipe().reward[0].rpartition(":")[0]).parent / "seen.json").read_text())
    prompts, completions, answers, levels, kept, names = seen
    assert {"answer", "level"}.isdisjoint(names)
    for prompt, completion, answer, level, other in zip(prompts, completions, answers, levels, kept, strict=True):
        row = ASKED[0] if isinstance(prompt, str) else ASKED[1]
        assert prompt == row["prompt"]
        assert (answer, level, other) == (row.get("answer"), row.get("level"), row.get("completion"))
        said = completion if isinstance(prompt, str) else completion[0]["content"]
        assert isinstance(said, str)
        assert isinstance(prompt, str) or completion[0]["role"] == "assistant"
    assert [type(prompt) for prompt in prompts].count(str) == 4
    assert (run.folder / "reward-1.py").read_text(encoding="utf-8") == SEEN


def test_prompts_are_those_that_the_chat_sends(begun: Callable[..., Run]) -> None:
    from playground import prompts
    from playground.messages import Message

    rows = [{"prompt": "Name Seoul", "system": "짧게."}, {"messages": [{"role": "user", "content": "부산?"}]}]
    batch = ["trainer.gradient_accumulation_steps=1", "trainer.per_device_train_batch_size=4"]
    run = begun(*batch, rows=rows)
    encoder = Encoder(Path(run.model().folder), run.model().prompt_format)
    told = [[("system", "짧게."), ("user", "Name Seoul")], [("user", "부산?")]]
    trainer = built(run)
    for item, turns in zip(trainer.train_dataset, told, strict=True):
        messages = [Message.model_validate({"role": role, "content": content}) for role, content in turns]
        text = prompts.render(encoder.chosen, messages, encoder.tokens)
        whole = encoder.tokenizer.encode(text, add_special_tokens=not (encoder.bos and text.startswith(encoder.bos)))
        assert item["prompt"] == whole.ids
    batch_of = trainer._generate_and_score_completions([trainer.train_dataset[0]] * 4)
    assert batch_of["prompt_ids"][0].tolist() == trainer.train_dataset[0]["prompt"]
    assert batch_of["rows"].flatten().tolist() == [1] * 4


WRONG = {
    "raises": ("def score(completions, **c):\n    return [1 / 0 for one in completions]\n", "line 2", "ZeroDivision"),
    "too few": ("def score(completions, **c):\n    return [1.0]\n", "line 1", "returned 1 scores for 32 answers"),
    "not a number": ("def score(completions, **c):\n    return [float('nan')] * 32\n", "line 1", "for row "),
    "a text": ("def score(completions, **c):\n    return ['good'] * 32\n", "line 1", "'good', which is no finite"),
    "no list": ("def score(completions, **c):\n    return 3\n", "line 1", "TypeError"),
    "a broken file": ("import nothing_of_that_name\ndef score(**c): ...\n", "line 1", "cannot be loaded"),
    "a strange column": ("def score(completions, colour):\n    return [1.0] * 32\n", "reward.py", "asks for colour"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_reward_does_wrong_has_its_file_line_and_row(case: str, begun: Callable[..., Run]) -> None:
    code, *said = WRONG[case]
    run = begun(code=code)
    with pytest.raises(MadangError) as caught:
        process.train(run)
    assert all(word in caught.value.message for word in [*said, "reward.py"]), caught.value.message


def test_the_row_that_raises_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    code = "def score(completions, answer, **c):\n    return [float(one) for one in answer]\n"
    file.write_text(code, encoding="utf-8")
    held = [{"told": '"?"', "columns": json.dumps({"answer": said})} for said in ("1", "x", "2")]
    with pytest.raises(MadangError, match=r"raised ValueError.*for row 8 .*line 2"):
        Reward(f"{file}:score", ["answer"])(["?"] * 3, ["a"] * 3, held, [7, 8, 9])


def test_a_column_that_is_called_as_what_is_given_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a column completions, which"):
        Reward(f"{tmp_path}/mine.py:score", ["answer", "completions"])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no reward": ({"reward": []}, "grpo needs one"),
    "no file": ({"reward": "none.py:score"}, "there is no file"),
    "no function": ({"reward": "reward.py:other"}, "defines no other; it has score"),
    "no name": ({"reward": "reward.py"}, "file.py:function"),
    "no Python": ({"code": "def score(:\n"}, "line 1 is no Python"),
    "async": ({"code": "async def score(**c): ...\n"}, "async def"),
    "weights": ({"trainer": {"reward_weights": [1.0, 2.0]}}, "2 weights for 1 rewards"),
    "groups": ({"trainer": {"num_generations": 5}}, "must be divisible by num_generations"),
    "vllm": ({"trainer": {"use_vllm": True}}, "not given here"),
    "too long": ({"trainer": {"max_completion_length": 100_000}}, "longest prompt has"),
    "few prompts": ({"trainer": {"per_device_train_batch_size": 80}}, "prompts at once"),
    "conversations": ({"data": {"source": "rows.jsonl", "format": "prompt-completion"}}, "no column"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_the_start(case: str, begun: Callable[..., Run]) -> None:
    fields, said = REFUSED[case]
    with pytest.raises(ConfigError, match=said):
        begun(**fields)


def test_no_dry_run_runs_the_reward(begun: Callable[..., Run], tmp_path: Path) -> None:
    begun(code="open('ran', 'w')\ndef score(**c): ...\nraise SystemExit\n")  # looked at, and its run begun
    assert not (tmp_path / "ran").exists()
    assert not Path("ran").exists()


def test_other_methods_have_no_reward(settings: Settings, recipe: Write) -> None:
    with pytest.raises(ConfigError, match="sft has none"):
        begin(settings, str(recipe("sft", reward="reward.py:score")))


def test_a_prompt_that_makes_no_probability_names_its_rows(begun: Callable[..., Run]) -> None:
    trainer = built(begun())
    trainer.model.get_input_embeddings().weight.data.fill_(math.nan)
    with pytest.raises(NotFinite, match=r"Step 1 is not finite.*Its rows: 2, 5\."):
        trainer._generate_and_score_completions([trainer.train_dataset[at] for at in (4, 4, 4, 4, 1, 1, 1, 1)])


def test_each_micro_batch_knows_the_rows_of_its_answers(begun: Callable[..., Run]) -> None:
    trainer = built(begun("trainer.per_device_train_batch_size=2", "trainer.gradient_accumulation_steps=4"))
    seen: list[list[int]] = []
    trainer.watch.saw = lambda rows, loss: seen.append(rows.flatten().tolist())
    trainer.train()
    assert [len(rows) for rows in seen] == [2, 2, 2, 2]
    assert sorted(sum(seen, [])) == sorted([*seen[0][:1] * 4, *[row for row in {*sum(seen, [])} - {seen[0][0]}] * 4])
