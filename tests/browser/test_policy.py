"""The page under its Content-Security-Policy: all of it works in both languages, and what has got in does not."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

import app
from playground.compare import Playground
from playground.settings import Settings
from playground.ui.page import build, launch_options
from tests.eval.runs import make_run

from .conftest import CATALOGUE, Open, open_tab, served, served_tabs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

LANGUAGES = {"en-US": "ko", "ko-KR": "en"}
FILLED = {"leaderboard": "board-plots", "evaluate": "run-jobs", "train": "train-earlier", "models": "models-list"}
GOT_IN = """
() => {
  window.stopped = [];
  document.addEventListener('securitypolicyviolation', (event) => window.stopped.push(event.effectiveDirective));
  const place = document.querySelector('#notice');
  place.innerHTML = '<img src="data:," onerror="window.ran = 1"><button id="in" onclick="window.ran = 2">x</button>'
    + '<a id="out" href="javascript:window.ran = 3">y</a><iframe srcdoc="<script>parent.ran = 4</script>"></iframe>';
  const script = Object.assign(document.createElement('script'), { textContent: 'window.ran = 5' });
  place.append(script);
  document.querySelector('#in').click();
  document.querySelector('#out').click();
}
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The whole page, with results to draw."""
    data = tmp_path_factory.mktemp("policy")
    for day, name in enumerate(("smollm2", "smollm2:demo"), start=1):
        facts = {"variant": name, "size_bytes": 9 * day, "decode_tokens_per_s": 5.0}
        make_run(data / "results", name, {"kobest_copa": [True, day == 2] * 20}, day=day, folder=f"r{day}", facts=facts)
    with served_tabs(data, CATALOGUE, app.tabs) as address:
        yield address


@pytest.mark.parametrize("locale", LANGUAGES)
def test_all_of_the_page_works_under_its_policy(visit: Open, locale: str, tmp_path: Path) -> None:
    page = visit(locale)
    page.fill("#ask textarea", "hello")
    page.press("#ask textarea", "Enter")
    page.wait_for_selector("#pane-0 .live:has-text('heard: hello')")
    open_tab(page, "leaderboard", "board-table")
    page.wait_for_selector("#board-plots svg")
    page.click("#board-csv")
    page.wait_for_selector("#board-file a", state="attached")
    for tab in ("evaluate", "export", "models", "train"):
        page.evaluate(f"document.querySelector('#tab-{tab}-button').click()")
        page.wait_for_selector(f"#tab-{tab}[role=tabpanel] >> visible=true")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n' * 100_000, encoding="utf-8")  # long enough for its progress
    with page.expect_file_chooser() as chooser:
        page.click("#train-upload")
    chooser.value.set_files(rows)
    page.wait_for_function(
        "/rows-\\w+\\.jsonl/.test(document.querySelector('#train-source').querySelector('input, textarea').value)"
    )
    page.click("button.theme")
    page.wait_for_selector("body.dark")
    page.click(f"button[data-language={LANGUAGES[locale]}]")
    page.wait_for_selector(f"html[lang={LANGUAGES[locale]}]")
    handlers = (
        "[...document.querySelectorAll('*')].flatMap(one => one.getAttributeNames()).filter(n => /^on[a-z]+$/.test(n))"
    )
    assert page.evaluate(handlers) == []


def test_markup_that_got_in_runs_nothing(visit: Open, refused: list[str]) -> None:
    page = visit()
    page.evaluate(GOT_IN)
    page.wait_for_function("window.stopped.length >= 4")
    assert set(page.evaluate("window.stopped")) == {"script-src-attr", "script-src-elem"}
    assert page.evaluate("window.ran === undefined")
    refused.clear()


@pytest.mark.parametrize("locale", LANGUAGES)
def test_the_form_in_front_lets_its_visitor_in(chromium: "Browser", playground: Playground, locale: str) -> None:
    settings: Settings = playground.settings.model_copy(update={"api_keys": SecretStr("sk-one")})
    said: list[str] = []
    with served(build(playground, settings), settings, launch_options(settings)) as address:
        context = chromium.new_context(locale=locale)
        page = context.new_page()
        page.on("console", lambda line: said.append(line.text) if "Content Security Policy" in line.text else None)
        page.goto(address)
        assert page.evaluate("getComputedStyle(document.body).display") == "grid"
        for key in ("sk-wrong", "sk-one"):
            page.fill("#key", key)
            page.press("#key", "Enter")
            page.wait_for_selector(".wrong:not(:empty)" if key == "sk-wrong" else "#ask textarea")
        context.close()
    assert said == []
