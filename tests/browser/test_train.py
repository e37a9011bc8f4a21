"""Train as a visitor meets it: data looked at, a run checked, started, stopped, resumed and read."""

import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from playground.page.components import Tab
from playground.settings import Settings
from tests.training import program
from training.ui import train_tab
from training.words import LOCALES

from .conftest import Open, open_tab, reload, served_tabs

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

CATALOGUE = """
[[variant]]
name = "a"
kind = "base"
source = "fake:a"
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page with the Train tab, whose program answers at once."""
    called = [sys.executable, "-m", program.__name__]

    def tabs(settings: Settings) -> list[Tab]:
        return [Tab("train", partial(train_tab.render, settings, called), LOCALES)]

    with served_tabs(tmp_path_factory.mktemp("train"), CATALOGUE, tabs) as address:
        yield address


def text(page: "Page", field: str) -> str:
    return page.input_value(f"#train-{field} textarea, #train-{field} input")


def test_data_is_looked_at_and_a_run_is_checked_stopped_resumed_and_done(visit: Open, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "Hi?", "output": "Hello!"}\n', encoding="utf-8")
    page = visit()
    open_tab(page, "train", "train-run")
    page.wait_for_selector("#train-run .nothing")
    page.click("#train-look-button")
    page.wait_for_selector("#train-look-said .card")
    page.set_input_files(".source:has(#train-source) input[type=file]", str(rows))
    page.wait_for_function("document.querySelector('#train-source input, #train-source textarea').value.length")
    page.click("#train-look-button")
    page.wait_for_selector("#train-data .lengths")
    page.click("#train-data [data-name='max_length=192']")
    page.wait_for_function("document.querySelector('#train-max_length input').value === '192'")
    page.click(".advice [data-name='rank=32']")
    page.click("#train-check-button")
    page.wait_for_selector("#train-dry .place.over")
    page.click("#train-start-button")
    page.wait_for_selector("#train-run .run.running svg")
    page.click("#train-start-button")
    page.wait_for_selector("#train-said .card")
    reload(page)
    open_tab(page, "train", "train-run")
    assert text(page, "source").endswith(".jsonl")
    assert text(page, "rank") == "32"
    page.click("#train-run [data-action=stop]")
    page.click("#train-run .run.stopped [data-action=resume]")
    page.wait_for_selector("#train-run .run.done", timeout=30_000)
    page.click("#train-run [data-tab=chat]")
    time.sleep(1)  # the catalogue is read again
    page.click("#variants input")
    page.locator("[role=option]", has_text=":rows").first.wait_for()


def test_the_method_sets_its_defaults(visit: Open) -> None:
    page = visit()
    open_tab(page, "train", "train-run")
    page.click("#train-method label:has(input[value=cpt])")
    page.wait_for_function("document.querySelector('#train-max_length input').value === '4096'")
    assert page.is_checked("#train-packing input")
    for method, rate in (("dpo", "5e-7"), ("kto", "1e-6"), ("orpo", "8e-6")):
        page.click(f"#train-method label:has(input[value={method}])")
        asked = f"document.querySelector('#train-learning_rate :is(input, textarea)').value === '{rate}'"
        page.wait_for_function(asked)
        page.wait_for_function("document.querySelector('#train-packing input').disabled")
        assert page.locator("#train-form [data-method]:visible").count() == 1


def test_train_fits_a_phone_and_speaks_korean(visit: Open) -> None:
    page = visit(locale="ko-KR", width=390, height=844, dark=True)
    open_tab(page, "train", "train-run")
    threading.Event().wait(0.5)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shown = page.inner_text("#tab-train")
    assert "데이터 살펴보기" in shown
    assert "Look at the data" not in shown
