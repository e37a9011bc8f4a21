"""Markup in every field that others fill: results, a catalogue, a run, an export, jobs, data, a remote's answer. No tab
of the page runs any of it, makes an element of it, or asks a server elsewhere, in either language.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import app
from tests.eval.runs import DATE, make_run
from tests.planted import Handler, Planted, says, serving

from .conftest import Open, choose, open_tab, served_tabs

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Page

pytestmark = pytest.mark.browser

IMAGE = "<img src=//evil.invalid/x onerror=window.ran=1>"
BAD = (
    f"{IMAGE}<script>window.ran=1</script>\"'><svg onload=window.ran=1><iframe srcdoc=x></iframe>"
    "[x](javascript:window.ran=1)![y](//evil.invalid/y)${window.ran=1}{{window.ran=1}}<a href=javascript:1>z</a>"
)
NAME = BAD.replace("/", "∕")
"""As a part of a path."""
MADE = """
() => [...document.querySelectorAll('img, iframe, object, embed, script, svg, a')].filter(one =>
    one.getAttributeNames().some(name => name.startsWith('on') && !name.startsWith('on:'))
    || one.matches('iframe[srcdoc], [src*="evil"], a[href^="javascript" i]')).map(one => one.outerHTML.slice(0, 200))
"""


def a_catalogue(url: str) -> str:
    rows: list[dict[str, Any]] = [
        {"name": "a", "kind": "base", "source": "fake:a"},
        {"name": "path", "kind": "base", "source": f"/nowhere/{NAME}"},
        {"name": "far", "kind": "remote", "url": url, "model": BAD},
    ]
    return "".join(
        "[[variant]]\n" + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in row.items())
        for row in rows
    )


def some_results(data: Path) -> None:
    out = data / "results"
    for day, name in enumerate(("a", f"a:{NAME}"), start=1):
        tasks = {IMAGE.replace("/", "∕"): [True, day == 2] * 20, "kobest_copa": [day == 1, True] * 20}
        facts = {"variant": name, "dtype": BAD, "size_bytes": 9 * day, "decode_tokens_per_s": 5.0}
        where = make_run(out, name, tasks, day=day, prompt=BAD, folder=f"r{day}", facts=facts, lm_eval_version=BAD)
        for file in where.glob("samples_*"):
            file.write_text(file.read_text(encoding="utf-8").replace(" choice ", f" {IMAGE} "), encoding="utf-8")
    config = {"model_args": f"pretrained=o/m,x={BAD}", "gen_kwargs": BAD}
    for day in (3, 4):
        make_run(
            out,
            BAD,
            {BAD: [True, False]},
            day=day,
            folder=f"r{day}",
            config=config,
            samples=False,
            system_instruction=BAD * (day - 3),
        )
    row = {"results": {IMAGE: {f"{BAD},{BAD}": 0.5, "acc,none": BAD}}, "config": config, "versions": {IMAGE: BAD}}
    (out / f"results_{DATE.format(day=5)}.json").write_text(json.dumps(row), encoding="utf-8")
    (out / f"results_{DATE.format(day=6)}.json").write_text('{"results": {"a": {"acc": 1}}, "config": {}}', "utf-8")
    (out / f"{NAME[:40]}_{DATE.format(day=6)}.json").write_text("{", encoding="utf-8")


def a_job(data: Path, name: str, kind: str, log: str, code: int, **about: Any) -> None:
    where = data / "jobs" / name
    where.mkdir(parents=True)
    row = {"id": name, "kind": kind, "command": [BAD], "cwd": BAD, "started": time.time(), "about": about, "code": code}
    (where / "job.json").write_text(json.dumps(row | {"ended": time.time()}), encoding="utf-8")
    (where / "log.txt").write_text(log, encoding="utf-8")
    (where / "progress.json").write_text(json.dumps({"stage": BAD, "step": BAD, "variant": BAD}), encoding="utf-8")


def some_jobs(data: Path) -> None:
    failed = f"{BAD}\nerror: {BAD}\nhint: {BAD}\n"
    a_job(data, "20260101-000001-aaaa", "eval", failed, 1, suite=BAD, variants=[BAD])
    a_job(data, "20260101-000002-aaaa", "eval", failed, 1, suite=BAD, variants=[BAD])
    for number, kind in enumerate(("train-check", "train", "export", "export-sizes"), start=5):
        a_job(data, f"20260101-00000{number}-aaaa", kind, failed, 1, title=BAD, method=BAD, model=BAD, source=BAD)
    finding = {"check": BAD, "severity": "warning", "message": BAD, "remedy": BAD, "rows": [1], "fix": False}
    report = {
        "fatal": False,
        "rows": 3,
        "format": BAD,
        "findings": [finding, finding | {"check": "duplicates"}],
        "lengths": None,
        "previews": [{"row": 1, "parts": [{"text": BAD, "learnt": True}, {"text": BAD, "learnt": False}]}],
        "fixed": {"file": f"/tmp/{NAME}", "rows": 3, "done": {}},
    }
    a_job(data, "20260101-000004-aaaa", "train-data", json.dumps(report), 0, title=BAD, form={})


def some_work(data: Path) -> None:
    """Write a run that failed, one that ended well, and an export with verdicts, in the form of their folders."""
    recipe = {"method": "sft", "model": "a", "data": {"source": BAD}}
    event: dict[str, Any] = {
        "at": 1.0,
        "kind": BAD,
        "message": BAD,
        "hint": BAD,
        "label": BAD,
        "repo": BAD,
        "url": "javascript:ran=1",
    }
    step = {"step": 1, "loss": 1.0, "learning_rate": 1e-4, "tokens_per_s": 5, BAD: BAD}
    states: dict[str, dict[str, Any]] = {
        "failed": {"message": BAD, "hint": BAD},
        "done": {"variant": BAD, "step": 1, "steps": 1},
    }
    for status, more in states.items():
        run = data / "runs" / f"{status}-{IMAGE.replace('/', '')}"
        run.mkdir(parents=True)
        name = "ok" if status == "done" else BAD
        (run / "recipe.yaml").write_text(json.dumps(recipe | {"name": name}), encoding="utf-8")
        (run / "state.json").write_text(json.dumps({"status": status, "started": time.time()} | more), "utf-8")
        (run / "events.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")
        (run / "metrics.jsonl").write_text(json.dumps(step) + "\n", encoding="utf-8")
    export = data / "exports" / f"x-{IMAGE.replace('/', '')}"
    export.mkdir(parents=True)
    asked = {"source": BAD, "variant": BAD, "stem": BAD, "wanted": [{"kind": "adapter"}], "dtype": BAD, "mark": BAD}
    state = {"status": "done", "outcome": "done", "stage": BAD, "variants": [BAD], "started": time.time()}
    drift = {"against": BAD, "mean_kl": 0.5, "p99_kl": 2.0, "same_top": 0.5, "perplexity_ratio": 2.0, "positions": 9}
    verdict = {"verdict": "warn", "causes": ["quantization"], "lines": [BAD], "numbers": {"numbers": drift}}
    (export / "export.json").write_text(json.dumps(asked), encoding="utf-8")
    (export / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (export / "parity.json").write_text(json.dumps({"adapter": verdict, BAD: verdict}), encoding="utf-8")
    pushed = [event | {"kind": "push"}, event | {"kind": "note"}]
    (export / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pushed), encoding="utf-8")


def refuses(handler: Handler, body: dict[str, Any]) -> None:
    handler.json({"error": {"message": BAD, "type": BAD}}, 400)


@pytest.fixture(scope="module")
def planted() -> Iterator[Planted]:
    """A server whose every word is markup: it answers, then refuses."""
    models = [{"id": BAD, "owned_by": BAD, "max_model_len": 777}]
    with serving() as planted:
        planted.pages = {"/v1/models": {"object": "list", "data": models}}
        yield planted


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, planted: Planted) -> Iterator[str]:
    """The whole page, over data of which every field is hostile."""
    data = tmp_path_factory.mktemp("hostile")
    some_results(data)
    some_jobs(data)
    some_work(data)
    with served_tabs(data, a_catalogue(planted.url), app.tabs) as address:
        yield address


def check(page: "Page", where: str) -> None:
    """Nothing of it ran, and no element was made of it."""
    time.sleep(0.4)
    assert page.evaluate("window.ran === undefined"), f"markup ran in {where}"
    assert page.evaluate(MADE) == [], where


def heard(dialog: "Dialog", said: list[str]) -> None:
    said.append(dialog.message)
    dialog.dismiss()


def look_everywhere(page: "Page") -> None:
    """Open what unfolds on the tab in view, and point at what has a tooltip."""
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_nothing_of_others_runs_on_the_page(visit: Open, planted: Planted, outside: list[str], locale: str) -> None:
    planted.replies = [says(BAD, BAD), refuses]
    page = visit(locale=locale)
    said: list[str] = []
    page.on("dialog", lambda dialog: heard(dialog, said))
    choose(page, "variants", "far")
    for _ in range(2):  # the remote answers, then refuses
        page.fill("#ask textarea", BAD)
        page.press("#ask textarea", "Enter")
        page.wait_for_selector("#stop", state="hidden")
        page.wait_for_selector("#send", state="visible")
        time.sleep(1)
        look_everywhere(page)
        check(page, "chat")
        assert page.inner_text("#pane-3").count("<img src=") > 2
    for tab, shown in {
        "leaderboard": "board-table",
        "evaluate": "evaluate-jobs",
        "train": "train-run",
        "export": "export-run",
        "models": "catalogue",
    }.items():
        open_tab(page, tab, shown)
        look_everywhere(page)
        check(page, tab)
        assert "<img src=" in page.inner_text(f"#tab-{tab}"), tab
        for button in page.query_selector_all(f"#tab-{tab} [data-action=show], #tab-{tab} [data-action=check]"):
            button.click()
            time.sleep(0.7)
            check(page, f"{tab}, a button")
    open_tab(page, "leaderboard", "board-table")
    for field in ("flips-row", "flips-task"):
        page.click(f"#{field} input")
        page.locator("[role=option]").last.click()
        time.sleep(0.7)
        check(page, field)
    for form in ("csv", "md"):
        with page.expect_download():
            page.click(f"#board-{form}")
    check(page, "downloads")
    page.click("button[data-language=en]" if locale == "ko-KR" else "button[data-language=ko]")
    check(page, "the other language")
    assert (said, outside) == ([], [])
