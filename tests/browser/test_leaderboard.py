"""Evaluate and Leaderboard as a visitor meets them: a run is started, watched and read."""

import csv
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from tests.places import KOBEST

from .conftest import Open, choose, reload, served_tabs

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The whole page with eval's tabs, over two fakes."""
    rows = ("a", "base", ""), ("a:Q8_0", "gguf", 'base = "a"\n')
    catalogue = "".join(f'[[variant]]\nname = "{n}"\nkind = "{k}"\n{b}source = "fake:{n[:1]}"\n' for n, k, b in rows)
    with served_tabs(tmp_path_factory.mktemp("leaderboard"), catalogue, app.tabs) as address:
        yield address


def test_a_run_is_started_watched_over_a_reload_and_read(visit: Open) -> None:
    page = visit()
    page.click("#tab-leaderboard-button")
    page.click("#board-table .nothing .go")
    page.click("#evaluate-start")
    page.wait_for_selector("#evaluate-said .card")
    choose(page, "evaluate-variants", "a", "a:Q8_0")
    choose(page, "evaluate-suite", "kobest")
    choose(page, "evaluate-tasks", "copa")
    choose(page, "evaluate-shots", "0")
    page.fill("#evaluate-data textarea, #evaluate-data input", str(KOBEST))
    page.uncheck("#evaluate-speed input")
    page.uncheck("#evaluate-drift input")
    page.click("#evaluate-start")
    page.wait_for_selector("#evaluate-jobs .job.running")
    reload(page)
    page.click("#tab-evaluate-button")
    page.wait_for_selector("#evaluate-jobs .job.done", timeout=90_000)
    page.click("#evaluate-jobs .go")
    page.wait_for_selector("#board-table tbody tr")
    assert [name.inner_text() for name in page.query_selector_all("#board-table th b:visible")] == ["a", "a:Q8_0"]
    with page.expect_download() as caught:
        page.click("#board-csv")
    rows = list(csv.DictReader(io.StringIO(Path(caught.value.path()).read_text(encoding="utf-8-sig"))))
    assert [row["variant"] for row in rows] == ["a", "a:Q8_0"]


def test_the_board_fits_a_phone_and_speaks_korean(visit: Open) -> None:
    page = visit(locale="ko-KR", width=390, height=844, dark=True)
    page.evaluate("document.querySelector('#tab-leaderboard-button').click()")
    page.wait_for_selector("#board-table .html-container > div:not(:empty)")
    threading.Event().wait(0.5)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert "순위표" in page.inner_text("#tab-leaderboard")
