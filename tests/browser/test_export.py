"""Export as a visitor meets it: formats chosen, sizes seen, one export made, its verdict read, its result in Chat."""

import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

import app
from playground.page.components import Tab
from playground.settings import Settings
from training import recipe as recipes
from training.run import runs
from training.ui import export_tab, train_tab
from training.words import LOCALES

from .conftest import Open, choose, open_tab, reload, served_tabs

pytestmark = pytest.mark.browser

PROGRAM = """
import json, sys, time
from pathlib import Path
from playground.catalogue import variants
from playground.settings import Settings
from playground.catalogue.variants import Gguf
from training.export import exports, plan
from training.export.exports import Asked
from training.export.parity import Verdict
from training.run.registering import free_name

arguments = sys.argv[1:]
settings, source = Settings(data=Path(arguments[1])), arguments[3]
wanted = plan.parse(arguments[arguments.index("--to") + 1])
progress = Path(arguments[arguments.index("--progress") + 1])
asked = Asked(source=source, variant=source, stem="x", wanted=wanted, dtype="fp16", mark="m")
force = "--force" in arguments
export = exports.listed(settings)[0] if force else exports.begin(exports.place(settings, "x"), asked)
export.tell(status="running")
for step in range(2 if force else 20):
    told = {"fraction": step / 20, "stage": "numbers", "export": str(export.folder)}
    progress.with_suffix(".part").write_text(json.dumps(told))
    progress.with_suffix(".part").replace(progress)
    time.sleep(0.1)
for one in wanted:
    fails = one.level == "q3_k_m"
    export.path(one).write_bytes(b"GGUF")
    (export.folder / f"Modelfile.{one.label}").write_text(f"FROM ./{export.path(one).name}")
    drift = {"against": "F16", "mean_kl": 0.5, "p99_kl": 2.0, "same_top": 0.5, "perplexity_ratio": 2.0, "positions": 9}
    grade, causes = "fail" if fails else "pass", ["quantization"] * fails
    export.judge(one.label, Verdict(verdict=grade, causes=causes, lines=["Looked."], numbers={"numbers": drift}))
    if force or not fails:
        name = free_name(variants.Catalogue.load(settings), f"{source}:{one.label}")
        variants.add(settings, Gguf(name=name, source=str(export.path(one)), base=source))
failed = not force and any(one.level == "q3_k_m" for one in wanted)
export.end("parity" if failed else "done", "Parity failed: Q3_K_M." if failed else "")
sys.exit(failed)
"""
CATALOGUE = """
[[variant]]
name = "a"
kind = "base"
source = "fake:a"

[[variant]]
name = "a:mine"
kind = "adapter"
base = "a"
source = "fake:b"
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page with every tab of local mode, whose program exports at once."""
    with served_tabs(tmp_path_factory.mktemp("export"), CATALOGUE, tabs) as address:
        yield address


def tabs(settings: Settings) -> list[Tab]:
    """All of them, training and exporting with the program above, and a run that is done."""
    row = {"method": "sft", "model": "a", "name": "mine", "data": {"source": "rows.jsonl"}}
    run = runs.create(settings, recipes.parse(row, settings.data / "recipe.yaml"))
    run.tell(status="done", step=8, steps=8, variant="a:mine")
    called = [sys.executable, "-c", PROGRAM]
    kept = [tab for tab in app.tabs(settings) if tab.name not in ("train", "export")]
    train = Tab("train", partial(train_tab.render, settings, called), LOCALES)
    return [*kept, train, Tab("export", partial(export_tab.render, settings, called))]


def test_an_export_is_chosen_made_judged_and_found_in_chat(visit: Open) -> None:
    page = visit()
    open_tab(page, "export", "export-run")
    page.wait_for_selector("#export-run .nothing")
    choose(page, "export-source", "a:mine")
    page.click("#export-levels label:has-text('Q8_0')")
    page.wait_for_selector("#export-sizes .soft")
    page.click("#export-start")
    page.wait_for_selector("#export-run .export.running .bar i[style]")
    page.click("#export-start")
    page.wait_for_selector("#export-said .card")
    reload(page)
    open_tab(page, "export", "export-run")
    assert page.is_checked("#export-levels label:has-text('Q8_0') input")
    page.wait_for_selector("#export-run .export.done .drift")
    assert page.locator("#export-run .artefact em.verdict-pass").count() == 2
    page.locator("#export-run [data-tab=chat][data-ask='a:mine:Q8_0']").click()
    page.wait_for_selector("#tab-chat-button.selected")
    page.locator("#variants .token", has_text="a:mine:Q8_0").wait_for()
    time.sleep(1)  # the tab's own refresh leaves it chosen
    assert page.locator("#variants .token", has_text="a:mine:Q8_0").count() == 1
    page.locator(".block.pane-top", has_text="a:mine:Q8_0").wait_for()


@pytest.mark.parametrize(("locale", "said"), [("en-US", "Evaluate it"), ("ko-KR", "평가하기")])
def test_a_run_leads_to_export_and_an_export_to_evaluate_and_to_other_programs(
    locale: str, said: str, visit: Open
) -> None:
    page = visit(locale=locale)
    open_tab(page, "train", "train-run")
    page.click("#train-run [data-tab=export][data-ask='a:mine']")
    page.wait_for_function("document.querySelector('#export-source input')?.value === 'a:mine'")
    page.click("#export-start")
    page.wait_for_selector("#export-run .export.done .use", timeout=30_000)
    use = page.locator("#export-run .use").first
    for line in ("ollama create", "llama-server -m", "lms import --copy"):
        assert line in use.inner_text()
    use.locator("[data-copy^='ollama create']").click()
    use.locator("[data-copy^='ollama create'].copied").wait_for()
    evaluate = page.locator("#export-run [data-tab=evaluate]").first
    assert evaluate.inner_text() == said
    name = evaluate.get_attribute("data-ask")
    evaluate.click()
    page.locator("#evaluate-variants .token", has_text=name).wait_for()


def test_one_that_differs_says_so_and_can_be_added(visit: Open) -> None:
    page = visit()
    open_tab(page, "export", "export-run")
    choose(page, "export-source", "a:mine")
    page.fill("#export-others textarea, #export-others input", "q3_k_m")
    page.locator("#export-others textarea, #export-others input").blur()
    page.click("#export-start")
    page.click("#export-run .export.running [data-action=stop]")
    page.wait_for_selector("#export-run .export.stopped")
    page.click("#export-start")
    page.wait_for_selector("#export-run .export.parity .card")
    page.click("#export-run [data-action=force]")
    page.wait_for_selector("#export-run .export.done .joined code:has-text('Q3_K_M')")
    assert page.locator("#export-earlier .jobs > div").count() >= 2


def test_export_fits_a_phone_and_speaks_korean(visit: Open) -> None:
    page = visit(locale="ko-KR", width=390, height=844, dark=True)
    open_tab(page, "export", "export-run")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shown = page.inner_text("#tab-export")
    assert "내보낼 것" in shown
    assert "What to export" not in shown


@pytest.mark.parametrize("width", [320, 390, 900, 1100, 1440])
def test_every_tab_can_be_reached(visit: Open, width: int) -> None:
    page = visit(width=width, height=844)
    names = ["chat", "leaderboard", "evaluate", "train", "export", "models"]
    for name in names:
        page.locator(f"#tab-{name}-button").scroll_into_view_if_needed()
        page.locator(f"#tab-{name}-button").click()
        page.wait_for_selector(f"#tab-{name}-button.selected")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
