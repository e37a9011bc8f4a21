"""Conversations that last, as the owner meets them: reload, tabs, list, search, branches, files. In both languages."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from playground.page.words import words

from .conftest import Open
from .test_chat import NAMES, ask, asked, live, wait_done, wait_live, wait_text

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
LIST = "#history-list"


def shown(page: "Page", count: int) -> None:
    page.wait_for_function("n => document.querySelectorAll('#pane-0 .turn').length === n", arg=count)


def reload(page: "Page") -> None:
    page.reload()
    page.wait_for_selector("#ask textarea")


def opened(page: "Page") -> None:
    """Wait until the list is there, and knows which conversation is in view."""
    page.wait_for_selector(f"{LIST} [data-current]", state="attached")


def test_a_reload_shows_everything_and_the_answer_goes_on(visit: Open) -> None:
    page = visit("ko-KR")
    asked(page, "처음 질문")
    ask(page, "!slow a question that takes its time, and then some more of it")
    page.wait_for_selector("#pane-0 .answer.under-way")
    reload(page)
    shown(page, 2)
    assert "처음 질문" in page.inner_text("#pane-0 .log")
    wait_live(page, 0, f"{NAMES[0]} heard: !slow a question that takes its time, and then some more of it")
    wait_done(page)
    reload(page)
    shown(page, 2)


def test_a_closed_tab_does_not_end_the_answer_and_two_tabs_do_not_disturb_each_other(visit: Open) -> None:
    page = visit()
    ask(page, "!slow asked in the first tab, which is closed soon")
    page.wait_for_selector("#pane-0 .answer.under-way")
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector(f"{LIST} .open")
    asked(other, "mine, meanwhile")
    assert "first tab" not in other.inner_text("#panes")
    page.close()
    other.click(f"{LIST} .open:has-text('asked in the first tab')")
    wait_live(other, 0, f"{NAMES[0]} heard: !slow asked in the first tab, which is closed soon")
    wait_done(other)


@pytest.mark.parametrize(("locale", "language"), [("ko-KR", "ko"), ("en-US", "en")])
def test_search_rename_and_delete_by_keys_alone(visit: Open, locale: str, language: str) -> None:
    said = words("ko" if language == "ko" else "en")
    page = visit(locale)
    asked(page, f"밤하늘 {language}")
    page.click("#clear")
    asked(page, f"boiling eggs {language}")
    page.focus("#history .search")
    assert page.get_attribute("#history .search", "placeholder") == said["history.search"]
    page.keyboard.type(f"하늘 {language}")
    page.wait_for_function("document.querySelectorAll('#history-list .open').length === 1")
    wait_text(page, LIST, f"밤하늘 {language}")
    page.focus(f"{LIST} .more")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{LIST} [data-action=ask_rename]:focus")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{LIST} input:focus")
    page.fill(f"{LIST} input", f"하늘 이야기 {language}")
    page.keyboard.press("Enter")
    wait_text(page, LIST, f"하늘 이야기 {language}")
    page.focus(f"{LIST} .more")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{LIST} [data-action=ask_delete]")
    page.focus(f"{LIST} [data-action=ask_delete]")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{LIST} [data-action=close]:focus")  # it asks first, and a hasty Enter deletes nothing
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_text(page, LIST, said["history.none_found"])
    page.fill("#history .search", "")
    wait_text(page, LIST, f"boiling eggs {language}")
    assert f"하늘 이야기 {language}" not in page.inner_text(LIST)


def test_questions_and_answers_are_edited_and_all_ways_stay(visit: Open) -> None:
    page = visit()
    asked(page, "first")
    page.click("#pane-0 [data-edit=ask_otherwise]")
    page.fill("#pane-0 form.edit textarea", "first, otherwise")
    page.keyboard.press("Control+Enter")
    wait_live(page, 1, f"{NAMES[1]} heard: first, otherwise")
    wait_done(page)
    wait_text(page, "#pane-0 .walk", "2/2")
    page.click("#pane-0 [data-action=earlier]")
    wait_text(page, "#pane-0 .walk", "1/2")
    assert "otherwise" not in live(page, 0)
    page.click("#pane-0 [data-edit=rewrite]")
    page.fill("#pane-0 form.edit textarea", "My own **words**.")
    page.click("#pane-0 form.edit [type=submit]")
    wait_live(page, 0, "My own words.")
    wait_live(page, 0, words("en")["answer.edited"])
    asked(page, "and then?")
    page.click("#pane-0 .prompt summary")
    wait_text(page, "#pane-0 .prompt pre", "assistant: My own **words**.")
    page.click("#pane-1 .live [data-action=ask_one]")
    wait_text(page, "#pane-1 .live .walk", "2/2")
    wait_done(page)
    reload(page)
    wait_text(page, "#pane-0 .log .walk", "3/3")


def test_a_conversation_goes_out_and_comes_back(visit: Open, tmp_path: Path) -> None:
    page = visit()
    asked(page, "to be kept elsewhere")
    files = {}
    for form in ("markdown", "json", "sharegpt", "html"):
        page.focus(f"{LIST} [aria-current] .more")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"{LIST} [data-action=export_{form}]")
        with page.expect_download() as download:
            page.click(f"{LIST} [data-action=export_{form}]")
        files[form] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[form])
        page.wait_for_selector(f"{LIST} [data-action=export_{form}]", state="detached")
    assert files["html"].name == "to-be-kept-elsewhere.html"
    assert len(json.loads(files["json"].read_text(encoding="utf-8"))["turns"][0]["answers"]) == 3
    page.click("#clear")
    page.wait_for_selector("#pane-0 .empty")
    page.set_input_files("#history-tools input[type=file]", files["json"])
    shown(page, 1)
    assert f"{NAMES[0]} heard: to be kept elsewhere" in live(page, 0)
    page.wait_for_function("document.querySelectorAll('#history-list .open').length >= 2")
    page.goto(files["html"].as_uri())
    assert f"{NAMES[2]} heard: to be kept elsewhere" in page.inner_text("article >> nth=2")


@pytest.mark.parametrize(("locale", "width"), [("ko-KR", 390), ("en-US", 1024)])
def test_where_there_is_no_room_the_list_is_behind_a_button(visit: Open, locale: str, width: int) -> None:
    page = visit(locale, width=width, height=844)
    asked(page, f"on a small screen {width}")
    assert not page.is_visible("#history")
    page.click("#history-toggle")
    page.wait_for_selector("#history .new:focus")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click("#history .new")
    page.wait_for_selector("#pane-0 .empty")
    assert not page.is_visible("#history")
    page.click("#history-toggle")
    page.click(f"{LIST} .open:has-text('on a small screen {width}')")
    shown(page, 1)
    assert not page.is_visible("#history")


@pytest.mark.parametrize(("locale", "language"), [("ko-KR", "ko"), ("en-US", "en")])
def test_a_model_goes_on_from_an_edited_answer(visit: Open, locale: str, language: str) -> None:
    said = words("ko" if language == "ko" else "en")
    page = visit(locale)
    asked(page, "Hello")
    page.click("#pane-0 [data-edit=rewrite]")
    page.fill("#pane-0 form.edit textarea", "하늘은")
    page.click(f"#pane-0 form.edit button:has-text('{said['chat.go_on']}')")
    wait_live(page, 0, f"하늘은{NAMES[0]} heard: 하늘은")
    wait_done(page)
    wait_text(page, "#pane-0 .foot .ended", said["answer.went_on"])
    wait_text(page, "#pane-0 .walk", "2/2")
    page.click("#pane-0 [data-edit=ask_otherwise]")
    assert page.locator("#pane-0 form.edit [data-go-on]").is_hidden()
