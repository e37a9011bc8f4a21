"""The Export tab without Gradio: commands of the form, sizes, and what is shown of jobs and export folders."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue import variants
from playground.catalogue.variants import Gguf
from playground.escape import escaped
from playground.settings import Settings
from playground.system import jobs
from tests.waiting import ended
from training.export import exports
from training.export.exports import Asked, Export
from training.export.parity import Verdict
from training.export.plan import Wanted
from training.ui import export_showing, export_sizes, export_tab, exporting, using
from training.words import words

CATALOGUE = """
[[variant]]
name = "a"
kind = "base"
source = "{here}/base"

[[variant]]
name = "a:mine"
kind = "adapter"
base = "a"
source = "{here}/adapter"
"""
Q4, Q8 = Wanted(kind="gguf", level="q4_k_m"), Wanted(kind="gguf", level="q8_0")
DRIFT: dict[str, Any] = {
    "against": "F16",
    "mean_kl": 0.0012,
    "p99_kl": 0.01,
    "same_top": 0.978,
    "perplexity_ratio": 1.002,
}
NUMBERS = {"numbers": DRIFT | {"positions": 400}, "answers": {"answers": 4, "same": 3}}
PASSED = Verdict(verdict="pass", lines=["All <well>."], numbers=NUMBERS)
FAILED = Verdict(verdict="fail", causes=["merge"], lines=["The adapter is not in it."])


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    (tmp_path / "variants.toml").write_text(CATALOGUE.format(here=tmp_path), encoding="utf-8")
    for name, config in (("base", "config.json"), ("adapter", "adapter_config.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / config).write_text('{"hidden_size": 256}', encoding="utf-8")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [512, 1024], "data_offsets": [0, 1 << 20]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(1 << 20)
    (tmp_path / "base" / "model.safetensors").write_bytes(weights)
    made = Settings(data=tmp_path)
    yield made
    for job in jobs.listed(made):
        jobs.cancel(job)
        ended(made, job)


def job(settings: Settings, code: str, **about: Any) -> jobs.Job:
    command = [sys.executable, "-c", code]
    return jobs.start(settings, exporting.KIND, command, {"title": "a:mine", **about}, grace_s=0.5)


def make(settings: Settings, *built: Wanted, name: str = "e", **state: Any) -> Export:
    """An export of two levels of a:mine; those in `built` are there."""
    asked = Asked(source="a:mine", variant="a:mine", stem="a-mine", wanted=(Q4, Q8), dtype="fp16", mark="x")
    export = exports.begin(exports.folder(settings) / name, asked)
    for wanted in built:
        export.path(wanted).write_bytes(b"GGUF" + bytes(2044))
    export.tell(**state)
    return export


def form(**changes: Any) -> dict[str, Any]:
    return {**exporting.BEGIN, "source": "a:mine", **changes}


def english(html: str) -> str:
    """The words that an English reader sees."""
    shown = re.sub(r'<span class="say-ko".*?</span>', "", html)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", shown))


def shown(settings: Settings, viewed: str = "") -> str:
    return export_showing.html(settings, viewed)[0]


def test_what_is_ticked_becomes_a_command_with_gptq_last(settings: Settings) -> None:
    ticked = form(formats=["gptq", "adapter", "merged"], levels=["q8_0"], others="Q6_K, gguf:q3_k_m", dtype="bf16")
    made = exporting.command(settings, ["py", "app.py"], ticked | {"name": " mine "})
    assert made[2:6] == ["--data", str(settings.data), "export", "a:mine"]
    assert made[7] == "adapter,merged,gguf:q8_0,gguf:q6_k,gguf:q3_k_m,gptq"
    assert made[8:] == ["--dtype", "bf16", "--name", "mine", "--progress", "{job}/progress.json"]
    usual = exporting.command(settings, ["py"], form())
    assert usual[5:] == ["--to", "gguf:q4_k_m", "--progress", "{job}/progress.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": None}, words("ko")["export.no_source"]),
        ({"levels": []}, words("ko")["export.no_format"]),
        ({"others": "q4_k_x"}, "q4_k_m"),
    ],
)
def test_a_wrong_form_is_a_card_and_no_job(change: dict[str, Any], said: str, settings: Settings) -> None:
    assert said in export_tab.begin(settings, ["py"], form(**change))
    assert jobs.listed(settings) == []


def test_adapters_and_finished_runs_are_offered(settings: Settings) -> None:
    assert {"a:mine", "a"} & set(exporting.sources(settings)) == {"a:mine"}
    (settings.data / "variants.toml").write_text("[[variant]", encoding="utf-8")
    assert exporting.sources(settings) == []


def test_sizes_and_disk_are_known_before(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    html = export_sizes.html(settings, form(levels=["q4_k_m", "f16"], formats=["merged"]))
    said = english(html)
    assert "Q4_K_M about" in said
    assert "merged about 25 MiB" in said
    assert "free fits" in said
    assert "With" not in said  # f16 and merged stay
    assert words("en")["export.on_the_way"].split("{")[0] in english(export_sizes.html(settings, form()))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 20}))
    html = export_sizes.html(settings, form())
    assert 'class="place over"' in html
    assert "--free:" in html


def test_sizes_of_what_is_not_here_are_unknown(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (settings.data / "base" / "config.json").unlink()
    assert words("en")["export.size_unknown"] in export_sizes.html(settings, form())
    assert words("en")["export.no_format"] in export_sizes.html(settings, form(levels=[]))
    assert export_sizes.html(settings, form(source=None)) == ""
    monkeypatch.setattr(export_sizes, "find_spec", lambda name: None)
    assert "madang[gptq]" in export_sizes.html(settings, form(formats=["gptq"]))


def test_nothing_exported_says_what_to_do(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    now, earlier = export_showing.html(settings)
    assert words("en")["export.empty_todo"] in now
    assert earlier == ""
    monkeypatch.setattr(exporting, "sources", lambda settings: [])
    now = shown(settings)
    assert words("en")["export.nothing_todo"] in now
    assert 'data-tab="train"' in now


def test_one_under_way_shows_its_step_and_refuses_a_second(settings: Settings) -> None:
    made = job(settings, "import time; time.sleep(60)", to="gguf:q4_k_m,gptq")
    assert "preparing a:mine Q4_K_M GPTQ" in english(shown(settings))
    export = make(settings, status="running")
    told = {"fraction": 0.25, "stage": "Quantizing to Q4_K_M", "export": str(export.folder)}
    made.progress_file.write_text(json.dumps(told), encoding="utf-8")
    html = shown(settings)
    assert "Q4_K_M 형식으로" in html
    assert "width: 25.0%" in html
    assert f'data-action="stop" data-name="{made.id}"' in html
    assert words("en")["export.busy"] in export_tab.begin(settings, ["py"], form())
    assert words("en")["export.busy"] in export_tab.act(settings, ["py"], "force", export.name)[0]
    assert export_tab.act(settings, ["py"], "stop", made.id) == ("", None)
    assert ended(settings, made).state == "cancelled"
    assert words("en")["export.stopped"] in english(shown(settings))


@pytest.mark.parametrize(
    "told", ["Pushing to kim/x", "files", "text", "numbers", "answers", "Merging the adapter into the base", "Ready"]
)
def test_every_step_has_words(told: str) -> None:
    assert export_showing.stage(told).count("<span") == 2


def test_one_that_is_done_shows_verdicts_drift_and_the_way_to_chat(settings: Settings) -> None:
    export = make(settings, Q4, Q8, status="done")
    variants.add(settings, Gguf(name="a:mine:Q8_0", source=str(export.path(Q8)), base="a:mine"))
    export.judge("Q8_0", PASSED)
    export.judge("Q4_K_M", PASSED.model_copy(update={"verdict": "warn", "causes": ["quantization"]}))
    html = shown(settings)
    said = english(html)
    assert words("en")["export.cause_quantization_warn"] in said
    assert "a-mine-Q8_0.gguf 2 KiB normal for this level It parts from the original no more than" in said
    assert "3 of 4 long answers are the same" in said
    assert "0.0012 97.8% ×1.002 3 / 4" in said
    assert "All &lt;well&gt;." in html
    assert html.count('data-tab="chat" data-ask="a:mine:Q8_0"') == 1
    assert "Numbers: KL 0.0012, same token 97.8%." in said
    assert "답: 4개 가운데 3개가 같음." in html
    assert "<code>a:mine:Q8_0</code>" in html


def test_a_gguf_is_used_elsewhere_by_lines_that_a_terminal_takes(settings: Settings) -> None:
    export = make(settings, Q4, name="my e", status="done")
    assert "ollama create" not in using.html(export)
    path = export.path(Q4)
    (export.folder / "Modelfile").write_text(f"# a note\nFROM ./{path.name}\nTEMPLATE <x>\n", encoding="utf-8")
    html = using.html(export)
    for line in (f"llama-server -m '{path}' --port 8080", f"lms import --copy '{path}'"):
        assert f'data-copy="{escaped(line)}"' in html
    assert escaped(f"ollama create {path.stem.lower()} -f '{export.folder / 'Modelfile'}'") in html
    assert "TEMPLATE &lt;x&gt;" in html
    assert 'download="Modelfile"' in html
    assert html.count("<details") == 2  # Q8_0 is not built


def test_what_rounding_swallowed_is_shown_with_what_finer_types_would_keep(settings: Settings) -> None:
    export = make(settings, Q4, status="done")
    row = {"all": 0.04, "types": {"Q4_K": 0.01, "Q8_0": 0.69}, "finer": {"Q8_0": 0.94}}
    numbers = PASSED.numbers | {"files": {"arrived": row}}
    export.judge("Q4_K_M", Verdict(verdict="warn", causes=["swallowed"], numbers=numbers))
    html = shown(settings)
    said = english(html)
    assert words("en")["export.cause_swallowed"] in said
    assert words("ko")["export.remedy_swallowed"] in html
    assert "Q4_K_M 4% Q4_K 1%, Q8_0 69% Q8_0 94%" in said


def test_one_that_failed_parity_can_be_forced(settings: Settings) -> None:
    export = make(settings, Q4, status="failed", outcome="parity", message="Parity failed: Q4_K_M.")
    export.judge("Q4_K_M", FAILED)
    html = shown(settings)
    assert words("en")["export.cause_merge"] in html
    assert words("ko")["export.remedy_merge"] in html
    assert words("ko")["export.parity_means"] in html
    assert f'data-action="force" data-name="{export.name}"' in html
    assert 'data-tab="chat"' not in html
    assert export_tab.act(settings, [sys.executable, "-c", ""], "force", export.name) == ("", "")
    (going,) = jobs.listed(settings, exporting.KIND)
    assert going.command[5:] == (
        *("export", "a:mine", "--to", "gguf:q4_k_m,gguf:q8_0", "--dtype", "fp16", "--name", "a-mine", "--force"),
        *("--progress", str(going.progress_file)),
    )
    export.tell(status="done", message="")
    ended(settings, going)
    assert words("en")["export.forced"] in shown(settings)


def test_every_cause_has_a_sentence_and_a_remedy_in_both_languages() -> None:
    from typing import get_args

    from training.export.parity import Cause

    for cause in get_args(Cause):
        for code in ("ko", "en"):
            assert words(code)[f"export.cause_{cause}"].endswith(".")
            assert words(code)[f"export.remedy_{cause}"].endswith(".")


def test_a_repository_becomes_options_and_a_wrong_one_a_card(settings: Settings) -> None:
    made = exporting.command(settings, ["py"], form(repo=" kim/x "))
    assert made[-4:-2] == ["--push", "kim/x"]
    asked = form(repo="kim/x", seen="public", replace=True, base="kim/base")
    assert exporting.pushing(asked) == ["--push", "kim/x", "--public", "--replace", "--base", "kim/base"]
    assert words("ko")["export.bad_repo"].format(repo="alone") in export_tab.begin(settings, ["py"], form(repo="alone"))
    assert jobs.listed(settings) == []


def test_one_that_is_done_can_be_pushed_and_shows_where_it_lies(settings: Settings) -> None:
    export = make(settings, Q4, Q8, status="done")
    assert f'data-action="push" data-name="{export.name}"' in shown(settings)
    fault, look = export_tab.act(settings, [sys.executable, "-c", ""], "push", export.name, form())
    assert words("en")["export.no_repo"] in fault
    assert look is None
    failing = [sys.executable, "-c", "print('error: No token.'); print('hint: Log in.'); exit(2)"]
    assert export_tab.act(settings, failing, "push", export.name, form(repo="kim/x")) == ("", export.name)
    (going,) = jobs.listed(settings, exporting.KIND)
    assert ("--out", str(export.folder), "--push", "kim/x") == going.command[-6:-2]
    ended(settings, going)
    html = shown(settings)
    assert words("en")["export.push_failed"] in html
    assert "No token." in html
    export.happened("push", "Pushed.", url="https://huggingface.co/kim/x-GGUF")
    assert 'href="https://huggingface.co/kim/x-GGUF"' in shown(settings)


def test_one_that_failed_or_broke_off_can_go_on(settings: Settings) -> None:
    export = make(settings, Q4, status="failed", message="No <room>.", hint="Free some.")
    html = shown(settings)
    assert "No &lt;room&gt;." in html
    assert f'data-action="resume" data-name="{export.name}"' in html
    export.tell(status="running", message="")
    assert words("en")["export.lost"] in english(shown(settings))
    with export.locked():
        html = shown(settings)
    assert words("en")["export.state_elsewhere"] in html
    assert "data-action" not in html


def test_one_that_came_to_no_folder_says_why(settings: Settings) -> None:
    make(settings, status="done", name="earlier")
    ended(settings, job(settings, "print('error: Bad base.'); print('hint: Fix.'); exit(2)"))
    now, earlier = export_showing.html(settings)
    assert "Bad base." in now
    assert "data-action" not in now
    assert 'data-action="show" data-name="earlier"' in earlier
    assert export_tab.act(settings, [], "show", "earlier") == ("", "earlier")
    assert words("en")["export.made_unjudged"] in shown(settings, "earlier")


def test_a_folder_that_cannot_be_read_spoils_nothing(settings: Settings) -> None:
    export = make(settings, status="done")
    (export.folder / exports.ASKED).write_text("{", encoding="utf-8")
    (export.folder / exports.PARITY).write_text("[", encoding="utf-8")
    assert "done" in english(shown(settings))
    assert "cannot be read" in export_tab.act(settings, [], "resume", export.name)[0]
