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
    page.click("#train-recipe > .label-wrap")
    page.click("#train-look-button")
    page.wait_for_selector("#train-said .card")
    page.set_input_files(".source:has(#train-source) input[type=file]", str(rows))
    page.wait_for_function("document.querySelector('#train-source input, #train-source textarea').value.length")
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
    page.wait_for_selector("#train-data .lengths")
    assert text(page, "source").endswith(".jsonl")
    page.click("#train-recipe > .label-wrap")
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
    page.click("#train-recipe > .label-wrap")
    page.click("#train-method label:has(input[value=cpt])")
    page.wait_for_function("document.querySelector('#train-max_length input').value === '4096'")
    assert page.is_checked("#train-packing input")
    for method, rate in (("dpo", "5e-7"), ("kto", "1e-6"), ("orpo", "8e-6")):
        page.click(f"#train-method label:has(input[value={method}])")
        asked = f"document.querySelector('#train-learning_rate :is(input, textarea)').value === '{rate}'"
        page.wait_for_function(asked)
        page.wait_for_function("document.querySelector('#train-packing input').disabled")
        assert page.locator("#train-form [data-method]:visible").count() == 1


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_two_browsers_side_by_side_see_their_own(locale: str, visit: Open, tmp_path: Path) -> None:
    one, other = visit(locale=locale), visit(locale=locale)
    for page in (one, other):
        open_tab(page, "train", "train-earlier" if page.query_selector("#train-earlier .jobs") else "train-run")
        assert text(page, "source") == ""
        assert page.query_selector("#train-data .job") is None
    for page, name in ((one, "apples.jsonl"), (other, "melons.jsonl")):
        (tmp_path / name).write_text('{"instruction": "Hi?", "output": "Hello!"}\n', encoding="utf-8")
        page.set_input_files(".source:has(#train-source) input[type=file]", str(tmp_path / name))
    for page, name in ((one, "apples"), (other, "melons")):
        page.wait_for_selector(f"#train-data header small:has-text('{name}')")
        page.wait_for_selector("#train-data .lengths")
        page.fill("#train-name :is(input, textarea)", name)
        page.wait_for_function(f"localStorage['madang.tab.train'].includes('\"name\":\"{name}\"')")
    for page, name, strange in ((one, "apples", "melons"), (other, "melons", "apples")):
        reload(page)
        open_tab(page, "train", "train-data")
        page.wait_for_selector(f"#train-data header small:has-text('{name}')")
        assert text(page, "name") == name
        assert name in text(page, "source")
        assert strange not in page.inner_text("#tab-train")
    again = tmp_path / "third.jsonl"
    again.write_text('{"instruction": "Hi?", "output": "Hello!"}\n', encoding="utf-8")
    one.set_input_files(".source:has(#train-source) input[type=file]", str(again))
    one.wait_for_selector("#train-data header small:has-text('third')")
    one.fill("#train-source :is(input, textarea)", "owner/another")
    one.wait_for_selector("#train-data .job", state="detached")
    assert "melons" in other.inner_text("#train-data")


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_columns_of_unknown_names_are_chosen_from_lists(locale: str, visit: Open, tmp_path: Path) -> None:
    rows = tmp_path / "odd.jsonl"
    rows.write_text('{"물음": "하나?", "대답": "둘"}\n', encoding="utf-8")
    page = visit(locale=locale)
    open_tab(page, "train", "train-earlier" if page.query_selector("#train-earlier .jobs") else "train-run")
    page.set_input_files(".source:has(#train-source) input[type=file]", str(rows))
    page.wait_for_selector("#train-data .card")
    assert ("이대로 읽기" if locale == "ko-KR" else "Read them so") in page.inner_text("#train-side")
    page.select_option("#train-data [data-field=instruction]", "물음")
    page.select_option("#train-data [data-field=output]", "대답")
    page.click("#train-data [data-action=columns]")
    page.wait_for_selector("#train-data .lengths")
    page.click("#train-recipe > .label-wrap")
    page.wait_for_selector("#train-columns textarea")
    assert text(page, "columns") == "instruction=물음\noutput=대답"


@pytest.mark.parametrize("width", [1440, 1024])
@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_start_is_in_sight_and_the_rest_is_folded(width: int, locale: str, visit: Open) -> None:
    page = visit(locale=locale, width=width, height=900)
    open_tab(page, "train", "train-run")
    places = [page.locator(f"#train-{name}").bounding_box() for name in ("method", "model", "source", "name")]
    start = page.locator("#train-start-button").bounding_box()
    assert start is not None
    tops = [place["y"] for place in places if place] + [start["y"]]
    assert tops == sorted(tops)
    assert len(tops) == 5
    assert start["y"] + start["height"] <= 900
    assert not page.locator("#train-rank").is_visible()
    page.click("#train-recipe > .label-wrap")
    for name in ("max_steps", "save_steps", "alpha", "packing"):
        page.locator(f"#train-{name}").wait_for()


@pytest.mark.parametrize(("locale", "said"), [("en-US", "cannot be brought back"), ("ko-KR", "되돌릴 수 없습니다")])
def test_an_upload_is_deleted_after_a_question(locale: str, said: str, visit: Open, tmp_path: Path) -> None:
    rows = tmp_path / f"gone-{locale}.jsonl"
    rows.write_text(f'{{"instruction": "{locale}", "output": "Hello!"}}\n', encoding="utf-8")
    page = visit(locale=locale)
    open_tab(page, "train", "train-earlier" if page.query_selector("#train-earlier .jobs") else "train-run")
    page.set_input_files(".source:has(#train-source) input[type=file]", str(rows))
    page.wait_for_selector("#train-data .lengths")
    page.click("#train-earlier .uploads summary")
    line = page.locator("#train-earlier .uploads .jobs > div", has_text=f"gone-{locale}")
    line.locator("[data-action=delete]").click()
    page.wait_for_selector("#train-acted .asking")
    assert said in page.inner_text("#train-acted")
    page.click("#train-acted [data-action=delete_no]")
    page.wait_for_selector("#train-acted .asking", state="detached")
    assert line.count() == 1
    if not line.is_visible():
        page.click("#train-earlier .uploads summary")
    line.locator("[data-action=delete]").click()
    page.click("#train-acted [data-action=delete_yes]")
    line.wait_for(state="detached")


def test_train_fits_a_phone_and_speaks_korean(visit: Open) -> None:
    page = visit(locale="ko-KR", width=390, height=844, dark=True)
    open_tab(page, "train", "train-run")
    threading.Event().wait(0.5)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shown = page.inner_text("#tab-train")
    assert "데이터 살펴보기" in shown
    assert "Look at the data" not in shown
