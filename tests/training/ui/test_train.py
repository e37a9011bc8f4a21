"""The Train tab without Gradio: what a form becomes, and what is shown of jobs and run folders."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue import variants
from playground.catalogue.variants import Base
from playground.page import mine
from playground.page.form import FormError
from playground.settings import Settings
from playground.system import jobs
from tests.training.program import REPORT, dry, log
from tests.waiting import ended
from training import recipe as recipes
from training.methods import METHODS
from training.run import runs as folders
from training.run.runs import Run
from training.ui import advice, checking, form, looking, plots, reports, rows, runs, showing, train_tab
from training.ui.train_tab import Seen
from training.words import words

CATALOGUE = '[[variant]]\nname = "a"\nkind = "base"\nsource = "fake:a"\n'
FIELDS = re.compile(r"{(\w+)}")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    (tmp_path / "variants.toml").write_text(CATALOGUE, encoding="utf-8")
    made = Settings(data=tmp_path)
    yield made
    for job in jobs.listed(made):
        jobs.cancel(job)
        ended(made, job)


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """A form as it begins, with data."""
    data = tmp_path / "rows.jsonl"
    data.write_text("{}\n", encoding="utf-8")
    ticks = dict.fromkeys(form.TICKS, False)
    return {"method": "sft", "model": "a", "name": "", "source": str(data), "extra": ""} | ticks | form.defaults("sft")


def job(settings: Settings, code: str, kind: str = runs.KIND, **about: Any) -> jobs.Job:
    return jobs.start(settings, kind, [sys.executable, "-c", code], about, grace_s=0.5)


def make_run(settings: Settings, name: str = "mine", steps: int = 8, **state: Any) -> Run:
    data = {"source": "rows.jsonl"}
    row = {"method": "sft", "model": "a", "name": name, "data": data}
    run = folders.create(settings, recipes.parse(row, settings.data / "recipe.yaml"))
    for step in range(1, state.get("step", 0) + 1):
        log(run, {"step": step, "loss": 3 / step, "learning_rate": 2e-4, "tokens_per_s": 90.0, "ram_gib": 1.0})
    run.tell(steps=steps, **state)
    return run


def english(html: str) -> str:
    """The words that an English reader sees."""
    shown = re.sub(r'<span class="say-ko".*?</span>', "", html)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", shown))


def shown(settings: Settings) -> str:
    return showing.html(settings)[0]


def test_the_form_begins_with_the_guides_values() -> None:
    assert form.defaults("sft")["learning_rate"] == "2e-4"
    assert form.defaults("dpo") | {"learning_rate": "5e-7", "epochs": 1, "batch": 2} == form.defaults("dpo")
    assert form.defaults("cpt") | {"max_length": 4096, "packing": True, "accumulation": 8} == form.defaults("cpt")


def test_a_form_becomes_a_recipe_that_says_what_differs(settings: Settings, values: dict[str, Any]) -> None:
    changed = {"rank": "32", "epochs": 2, "evaluation": 0.05, "shorten": True, "name": "try 1"}
    with pytest.raises(Exception, match="a name begins with"):
        form.recipe(settings, values | changed)
    changed |= {
        "name": "try:1",
        "save_steps": 50,
        "max_steps": 9,
        "alpha": 64,
        "extra": "# a comment\n\n--set lora.use_rslora=true",
    }
    made, path = form.recipe(settings, values | changed)
    assert path == settings.data / "recipes" / "try-1.yaml"
    assert recipes.load(path) == made
    assert made.lora == {"r": 32, "lora_alpha": 64, "use_rslora": True}
    assert made.trainer == {"num_train_epochs": 2, "max_steps": 9, "save_steps": 50}
    assert made.data.evaluation == 0.05
    assert made.guards.shorten


def test_each_method_leaves_its_own_defaults_out(settings: Settings, values: dict[str, Any]) -> None:
    for method in (name for name, way in METHODS.items() if not way.rewarded):
        made, _ = form.recipe(settings, values | {"method": method} | form.defaults(method))
        assert made.trainer == {}
        assert made.name == "rows"
    empty, _ = form.recipe(settings, values | {"method": "cpt"} | form.defaults("cpt") | {"max_length": None})
    assert empty.trainer == {"max_length": None}
    packed, _ = form.recipe(settings, values | {"method": "dpo", "packing": True} | form.defaults("dpo"))
    assert "packing" not in packed.trainer


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"source": " "}, "train.no_data"),
        ({"source": "/nowhere/at/all.jsonl"}, "train.no_file"),
        ({"model": None}, "train.no_model"),
        ({"rank": "many"}, "train.whole"),
        ({"batch": 0}, "train.whole"),
        ({"accumulation": 1.5}, "train.whole"),
        ({"max_length": 8}, "train.whole"),
        ({"learning_rate": "fast"}, "train.number"),
        ({"learning_rate": "-1e-4"}, "train.number"),
        ({"epochs": None}, "train.number"),
        ({"evaluation": 1.5}, "train.share"),
        ({"extra": "trainer.save_steps 50"}, "train.line"),
        ({"columns": "instruction 질문"}, "train.column"),
        ({"alpha": 0.5}, "train.whole"),
        ({"max_steps": -1}, "train.whole"),
        ({"save_steps": "often"}, "train.whole"),
        ({"extra": "reward=mine.py:score"}, "train.rewarded"),
        ({"extra": "--set reward=[mine.py:score]\nmethod=grpo"}, "train.rewarded"),
        ({"extra": "method=grpo"}, "train.rewarded"),
        ({"method": "grpo"}, "train.rewarded"),
    ],
)
def test_a_wrong_form_is_a_card_and_no_job(
    change: dict[str, Any], key: str, settings: Settings, values: dict[str, Any]
) -> None:
    for what in train_tab.STARTS:
        done = train_tab.begin(settings, ["py"], what, values | change)
        assert words("ko")[f"{key}_hint"] in done.fault
    assert jobs.listed(settings) == []
    with pytest.raises(FormError):
        form.recipe(settings, values | change)


def test_commands(settings: Settings, values: dict[str, Any]) -> None:
    extra = "data.format=alpaca\ndata.columns={output: 답}\ndata.prompt_format=alpaca"
    look = looking.command(settings, ["py", "app.py"], values | {"extra": extra, "max_length": 512})
    said = " ".join(look)
    assert said.startswith(
        f"py app.py --data {settings.data} data check {values['source']} --json --model a --method sft"
    )
    for part in ("--format alpaca", "--column output=답", "--prompt-format alpaca", "--max-length 512"):
        assert part in said
    check, name = checking.command(settings, ["py"], values)
    assert name == "rows"
    assert check[-4:] == ["--dry-run", "--json", "--progress", "{job}/progress.json"]


def test_an_upload_is_kept_and_never_written_over(settings: Settings, tmp_path: Path) -> None:
    one, other = tmp_path / "x" / "d.jsonl", tmp_path / "y" / "d.jsonl"
    for path, text in ((one, "1"), (other, "2")):
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
    kept = {form.kept(settings, str(path)) for path in (one, other, one)}
    assert len(kept) == 2
    assert {Path(path).read_text(encoding="utf-8") for path in kept} == {"1", "2"}


def test_a_run_is_named_after_its_data(settings: Settings, values: dict[str, Any]) -> None:
    source = settings.data / "uploads" / "코딩 문답-0a1b2c3d-clean.jsonl"
    source.parent.mkdir()
    source.write_text("{}", encoding="utf-8")
    assert form.recipe(settings, values | {"source": str(source)})[0].name == "코딩-문답"
    assert form.recipe(settings, values | {"source": "owner/ko-data"})[0].name == "ko-data"


def test_a_look_at_the_data(settings: Settings, values: dict[str, Any]) -> None:
    code = f"print('noise'); print({json.dumps(REPORT)!r}); exit(1)"
    made = ended(settings, job(settings, code, looking.KIND, title="rows.jsonl", form=values))
    html = looking.html(settings, made.id)
    assert "1, 2, 3, 4, 5, 6, 7, 8 and 4 more" in english(html)
    assert "odd &lt;b&gt;" in html
    assert words("ko")["found.duplicates"] in html
    assert "<mark>Hello!</mark>" in html
    assert "&lt;|user|&gt;" in html
    assert html.count("<rect") == 4
    assert 'data-name="max_length=192"' in html
    assert f'data-action="fix" data-name="{made.id}"' in html


def test_what_a_finding_is_about_stands_in_both_languages(settings: Settings, values: dict[str, Any]) -> None:
    left = {"check": "left-out", "severity": "warning", "rows": [1], "fix": False, "remedy": "c"}
    report = REPORT | {"findings": [left | {"message": "does not read <b>지문", "about": "<b>지문 (50.0%)"}]}
    made = ended(settings, job(settings, f"print({json.dumps(report)!r})", looking.KIND, title="a.jsonl", form=values))
    html = looking.html(settings, made.id)
    assert "does not read &lt;b&gt;지문" in html
    assert words("ko")["found.left-out"].format(about="&lt;b&gt;지문 (50.0%)") in html


def test_a_cleaned_copy_can_be_taken(settings: Settings, values: dict[str, Any]) -> None:
    report = REPORT | {"fixed": {"file": "/x/rows-clean.jsonl", "rows": 1188, "done": {}}}
    made = ended(settings, job(settings, f"print({json.dumps(report)!r})", looking.KIND, title="rows", form=values))
    html = looking.html(settings, made.id)
    assert 'data-action="use" data-name="/x/rows-clean.jsonl"' in html
    assert 'data-action="fix"' not in html
    assert train_tab.act(settings, [], "use", "/x/rows-clean.jsonl").fields == {"source": "/x/rows-clean.jsonl"}


def test_data_that_cannot_be_read_is_a_card(settings: Settings) -> None:
    assert looking.html(settings, "") == ""
    made = ended(settings, job(settings, "print('error: No <rows>.'); print('hint: Get some.'); exit(2)", looking.KIND))
    html = looking.html(settings, made.id)
    assert "<p>No &lt;rows&gt;.</p>" in html
    assert "Get some." in html


def test_a_check_shows_numbers_memory_and_remedies(settings: Settings, values: dict[str, Any]) -> None:
    told = dry(form.recipe(settings, values)[0])
    made = ended(settings, job(settings, f"print({json.dumps(told)!r})", checking.KIND, title="rows"))
    html = checking.html(settings, made.id)
    said = english(html)
    assert "41,943,040 of 8,072,204,288 parameters (0.52%), rank 16" in said
    assert "8 rows: batch 2 × accumulation 4" in said
    assert "about 10.0 GiB of 8.0 GiB free may not fit" in said
    assert "--free: 80.00%" in html
    assert "batch 1, with more accumulation" in said
    assert 'download="rows.yaml"' in html


def test_a_new_question_ends_the_old_one(settings: Settings) -> None:
    first = job(settings, "import time; time.sleep(60)", looking.KIND)
    assert "endless" in looking.html(settings, first.id)
    other = job(settings, "import time; time.sleep(60)", looking.KIND)
    reports.start(settings, looking.KIND, [sys.executable, "-c", "print('{}')"], {}, first.id)
    assert ended(settings, first).state == "cancelled"
    assert other.state == "running"  # another browser's


def test_nothing_trained_says_what_to_do(settings: Settings) -> None:
    now, earlier = showing.html(settings)
    assert words("en")["train.empty_todo"] in now
    assert earlier == ""


def test_one_that_prepares_and_then_runs(settings: Settings, values: dict[str, Any]) -> None:
    made = job(settings, "import time; time.sleep(60)", title="mine", method="sft", model="a")
    made.progress_file.write_text(json.dumps({"stage": "Looking for a"}), encoding="utf-8")
    assert "Looking for a" in english(shown(settings))
    run = make_run(settings, status="running", step=4)
    made.progress_file.write_text(json.dumps({"stage": "training", "run": run.name}), encoding="utf-8")
    html = shown(settings)
    assert "Step 4 of 8" in english(html)
    assert "width: 50.0%" in html
    assert html.count("<svg") == 4
    assert f'data-action="stop" data-name="{made.id}"' in html
    assert words("en")["train.busy"] in train_tab.begin(settings, ["py"], "start", values).fault
    assert words("en")["train.busy"] in train_tab.act(settings, ["py"], "resume", run.name).fault
    assert train_tab.act(settings, ["py"], "stop", made.id).fault == ""
    assert ended(settings, made).state == "cancelled"


def test_one_that_was_stopped_can_be_resumed(settings: Settings) -> None:
    run = make_run(settings, status="stopped", step=4)
    html = shown(settings)
    assert words("en")["train.kept_stopped"].format(step=4) in english(html)
    assert f'data-action="resume" data-name="{run.name}"' in html
    assert train_tab.act(settings, [sys.executable, "-c", ""], "resume", run.name, Seen(run="x")).seen.run == ""
    (going,) = jobs.listed(settings, runs.KIND)
    assert going.command[3:] == (
        *("--data", str(settings.data), "train", "--resume", run.name),
        *("--progress", str(going.folder / "progress.json")),
    )
    assert going.grace_s == 120


def test_one_that_failed_says_why(settings: Settings) -> None:
    make_run(settings, status="failed", step=2, message="Step 3 is <not> finite.", hint="Lower the rate.")
    html = shown(settings)
    assert "Step 3 is &lt;not&gt; finite." in html
    assert "Lower the rate." in html
    assert 'data-action="resume"' in html


def test_one_that_came_to_no_run_says_why(settings: Settings) -> None:
    make_run(settings, "earlier", status="done", step=8, variant="a:earlier")
    ended(settings, job(settings, "print('error: Bad rows.'); print('hint: Fix.'); exit(2)", title="mine"))
    now, earlier = showing.html(settings)
    assert "Bad rows." in now
    assert 'data-action="resume"' not in now
    assert "a:earlier" in earlier


def test_one_that_broke_off_is_lost_unless_someone_trains_it(settings: Settings) -> None:
    run = make_run(settings, status="running", step=3)
    assert words("en")["train.kept_lost"].format(step=3) in english(shown(settings))
    with run.locked():
        html = shown(settings)
    assert words("en")["train.state_elsewhere"] in html
    assert 'data-action="stop"' not in html


def test_one_that_cannot_be_asked_offers_no_chat(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    variants.add(settings, Base(name="bare", source=str(tmp_path / "bare")))
    make_run(settings, status="done", step=8, variant="bare")
    assert 'data-tab="chat"' not in shown(settings)
    variants.add(settings, Base(name="bare", source=str(tmp_path / "bare"), prompt_format="alpaca"))
    assert 'data-tab="chat"' in shown(settings)


def test_one_that_is_done_leads_to_chat(settings: Settings) -> None:
    make_run(settings, status="done", step=8, variant="a:mine")
    html = shown(settings)
    assert "<code>a:mine</code>" in html
    for tab in ("chat", "evaluate", "export"):
        assert f'data-tab="{tab}" data-ask="a:mine"' in html


def test_one_that_is_done_but_in_no_catalogue_can_try_again(settings: Settings) -> None:
    run = make_run(settings, status="done", step=8)
    assert f'data-action="resume" data-name="{run.name}"' in shown(settings)


def test_what_a_run_met_is_told_in_both_languages(settings: Settings) -> None:
    run = make_run(settings, status="done", step=8, variant="a:mine")
    plan = {"batch": 4, "accumulation": 2, "checkpointing": False, "max_length": 512, "rank": 16, "attempt": 1}
    run.happened("out_of_memory", "said", before=plan, after=plan | {"batch": 2, "accumulation": 4})
    run.happened("out_of_memory", "said", before=plan, after=plan | {"max_length": 256})
    run.happened("overfitting", "said", step=6, best=4)
    run.happened("broken", "checkpoint-3 was <half> written")
    html = shown(settings)
    assert "batch 4 × 2 became 2 × 4" in english(html)
    assert "512토큰 대신 256토큰" in html
    assert words("ko")["event.overfitting"].format(step=6, best=4) in html
    assert "checkpoint-3 was &lt;half&gt; written" in html


def test_an_earlier_run_can_be_looked_at(settings: Settings) -> None:
    names = [make_run(settings, f"n{number}", status="stopped", step=1).name for number in range(10)]
    now, earlier = showing.html(settings)
    assert earlier.count('<div class="stopped">') == rows.EARLIER
    oldest = train_tab.act(settings, [], "show", names[5]).seen.run
    assert names[5] in showing.html(settings, oldest)[0]
    assert names[5] not in now


def test_a_run_that_cannot_be_read_spoils_nothing(settings: Settings) -> None:
    run = make_run(settings, status="done", step=8, variant="a:mine")
    (run.folder / "recipe.yaml").write_text("method: [", encoding="utf-8")
    (run.folder / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\n{"half', encoding="utf-8")
    assert "a:mine" in shown(settings)


def test_each_browser_sees_its_own_jobs_and_everybody_the_terminals(settings: Settings) -> None:
    ours, theirs = (mine.owner({}) for _ in range(2))
    look = ended(settings, job(settings, "", looking.KIND, owner=theirs)).id
    assert mine.newest(settings, looking.KIND, theirs) == look
    assert mine.newest(settings, looking.KIND, ours) == mine.newest(settings, looking.KIND, "") == ""
    make_run(settings, "terminal", status="done", step=8)
    assert "terminal" in showing.html(settings, owner=ours)[0]
    made = job(settings, "import time; time.sleep(60)", title="another", owner=theirs)
    assert "another" in showing.html(settings, owner=theirs)[0]
    assert "another" not in "".join(showing.html(settings, owner=ours))
    jobs.cancel(made)


def test_columns_can_be_chosen_and_become_the_recipes(settings: Settings, values: dict[str, Any]) -> None:
    told = {"unread": True, "columns": {"물음": "하나?", "<말>": "둘"}}
    code = f"print({json.dumps(told)!r}); print('error: No known format.'); exit(2)"
    made = ended(settings, job(settings, code, looking.KIND, form=values))
    html = looking.html(settings, made.id)
    assert "No known format." in html
    assert '<select data-field="instruction">' in html
    assert "&lt;말&gt; · 둘" in html
    picked = json.dumps({"instruction": "물음", "output": "<말>", "input": ""})
    done = train_tab.act(settings, [sys.executable, "-c", ""], "columns", picked, Seen(look=made.id))
    assert done.seen.look != made.id
    said = form.recipe(settings, values | dict(done.fields))[0]
    assert said.data.columns == {"instruction": "물음", "output": "<말>"}
    assert "--column output=<말>" in " ".join(jobs.find(settings, done.seen.look).command)


def test_a_look_at_another_file_is_not_shown(settings: Settings, values: dict[str, Any]) -> None:
    made = ended(settings, job(settings, f"print({json.dumps(REPORT)!r})", looking.KIND, form=values))
    assert "<mark>Hello!</mark>" in looking.html(settings, made.id, f" {values['source']}")
    assert looking.html(settings, made.id, "another.jsonl") == ""


def test_advice_sets_fields(settings: Settings) -> None:
    assert 'data-name="rank=128"' in advice.beside("rank")
    assert 'data-name="batch=2,accumulation=4"' in advice.beside("batch")
    done = train_tab.act(settings, [], "set", "batch=2,accumulation=4")
    assert done.fields == {"batch": 2.0, "accumulation": 4.0}
    assert train_tab.act(settings, [], "set", "learning_rate=2e-4").fields == {"learning_rate": "2e-4"}


def test_axes_and_curves() -> None:
    assert plots.scale([0.0, 0.0], 3) == (-1.0, 1.0, [0.0])
    low, high, ticks = plots.scale([1.2, 2.7], 5)
    assert low < 1.2 < 2.7 < high
    assert 2 <= len(ticks) <= 6
    many = [(float(step), float(step)) for step in range(5000)]
    assert len(plots.thinned(many)) <= plots.POINTS
    assert plots.thinned(many)[-1] == many[-1]
    assert [value for _, value in plots.smoothed([(0, 5.0), (1, 5.0)])] == pytest.approx([5.0, 5.0])
    assert plots.chart("loss", [plots.Series("train", [])], 8, str) == ""


def test_both_languages_have_the_same_keys_and_values() -> None:
    assert list(words("ko")) == list(words("en"))
    for key, text in words("en").items():
        assert sorted(set(FIELDS.findall(words("ko")[key]))) == sorted(set(FIELDS.findall(text))), key
        assert text.strip()
        assert words("ko")[key].strip()
