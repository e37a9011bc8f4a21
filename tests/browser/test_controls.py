"""The settings of a question as a visitor meets them: in a drawer, and never in the way of the text box."""

from typing import TYPE_CHECKING

import pytest

from playground.page.words import words
from playground.wording import Language

from .conftest import Open
from .test_chat import NAMES, ask, asked, wait_done, wait_text

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
LANGUAGES: list[tuple[str, Language]] = [("ko-KR", "ko"), ("en-US", "en")]


def open_settings(page: "Page") -> None:
    page.click("#settings-toggle")
    page.wait_for_selector("#system textarea:focus")  # the system prompt comes first


@pytest.mark.parametrize(("locale", "language"), LANGUAGES)
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_the_settings_open_in_a_drawer_that_never_moves_the_text_box(
    visit: Open, locale: str, language: Language, width: int
) -> None:
    page = visit(locale, width=width)
    assert page.inner_text("#settings-toggle") == words(language)["controls.settings"]
    before = page.locator("#composer").bounding_box()
    open_settings(page)
    assert page.locator("#composer").bounding_box() == before
    box = page.locator("#settings").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= width
    page.fill("#system textarea", "Answer in one word.")
    page.keyboard.press("Escape")
    page.wait_for_selector("#settings", state="hidden")
    assert page.evaluate("document.activeElement.id") == "settings-toggle"
    asked(page, "Hello")
    page.click("#pane-0 .prompt summary")
    wait_text(page, "#pane-0 .prompt pre", "system: Answer in one word.")


def test_an_empty_question_cannot_be_sent(visit: Open) -> None:
    page = visit()
    page.wait_for_selector("#send:disabled")
    page.fill("#ask textarea", "  ")
    page.fill("#ask textarea", "  x")
    page.wait_for_selector("#send:enabled")
    page.fill("#ask textarea", " ")
    page.wait_for_selector("#send:disabled")
    asked(page, "Hello")
    page.wait_for_selector("#send:disabled")


def test_a_preset_leaves_the_length_alone(visit: Open) -> None:
    page = visit()
    open_settings(page)
    page.fill("#set-max_new_tokens input[type=number]", "64")
    page.press("#set-max_new_tokens input[type=number]", "Tab")
    page.click("#preset label >> nth=2")
    page.wait_for_function("document.querySelector('#set-temperature input').value === '0.8'")
    assert page.input_value("#set-max_new_tokens input[type=number]") == "64"


@pytest.mark.parametrize(("locale", "language"), LANGUAGES)
def test_the_list_of_variants_groups_them_tells_of_each_and_searches(
    visit: Open, locale: str, language: Language
) -> None:
    said = words(language)
    page = visit(locale)
    asked(page, "Hello")
    page.click("#variants input")
    page.wait_for_selector("#variants [role=option] .state.on")
    rows = page.locator("#variants [role=option]").all_inner_texts()
    texts = {" ".join(row.split()) for row in rows}
    assert any("smollm2:demo " in text and said["kind.adapter"] in text for text in texts)
    assert [row for row in texts if said["models.idle"] in row and "fifth" in row]
    assert [row for row in texts if said["models.loaded"].split("·")[0] in row and said["kind.base"] in row]
    page.keyboard.type("fif")
    page.wait_for_function("document.querySelectorAll('#variants [role=option]').length === 1")
    page.wait_for_function("document.querySelector('#variants [role=option] .group')?.innerText === 'fifth'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#pane-3", state="visible")


@pytest.mark.parametrize(("locale", "language"), LANGUAGES)
def test_with_the_lock_open_a_pane_has_settings_of_its_own(visit: Open, locale: str, language: Language) -> None:
    page = visit(locale)
    assert page.is_hidden("#own-system-1 textarea")
    open_settings(page)
    page.uncheck("#lock input")
    page.wait_for_selector("#own-system-1 textarea", state="visible")
    assert page.get_attribute("#own-system-1 textarea", "placeholder") == words(language)["controls.own_system_hint"]
    page.fill("#own-system-1 textarea", "Be brief.")
    asked(page, "Hello")
    wait_text(page, "#pane-1 .foot .ended", words(language)["answer.own_system"])
    page.click("#pane-1 .prompt summary")
    wait_text(page, "#pane-1 .prompt pre", "system: Be brief.")
    assert page.locator("#pane-0 .foot .ended").count() == 0
    page.check("#lock input")
    page.wait_for_selector("#own-system-1 textarea", state="hidden")


@pytest.mark.parametrize(("locale", "language"), LANGUAGES)
def test_settings_what_is_typed_and_questions_that_wait_survive_a_reload(
    visit: Open, locale: str, language: Language
) -> None:
    page = visit(locale)
    open_settings(page)
    page.fill("#system textarea", "Answer in one word.")
    page.fill("#set-max_new_tokens input[type=number]", "640")
    page.press("#set-max_new_tokens input[type=number]", "Tab")
    page.uncheck("#lock input")
    page.fill("#own-system-1 textarea", "Be brief.")
    page.wait_for_function("localStorage['madang.tab.chat']?.includes('Be brief.')")
    page.keyboard.press("Escape")
    ask(page, "!slow one that takes its time, and a good deal more of it")
    page.wait_for_selector("#pane-0 .answer.under-way")
    ask(page, "two, which waits")
    wait_text(page, "#waiting", "two, which waits")
    page.fill("#ask textarea", "half a question")
    page.reload()
    page.wait_for_function("document.querySelector('#ask textarea')?.value === 'half a question'")
    wait_text(page, "#pane-0 .live", f"{NAMES[0]} heard: two, which waits")
    wait_done(page)
    assert "one that takes its time" in page.inner_text("#pane-0 .log")
    page.wait_for_function("document.querySelectorAll('#pane-0 .turn').length === 2")  # asked once, not twice
    assert page.input_value("#system textarea") == "Answer in one word."
    assert page.input_value("#set-max_new_tokens input[type=number]") == "640"
    assert page.input_value("#own-system-1 textarea") == "Be brief."
    assert page.is_visible("#own-system-1 textarea")
    page.click("#pane-1 .prompt summary")
    wait_text(page, "#pane-1 .prompt pre", "system: Be brief.")
