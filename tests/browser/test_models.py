"""Models as a visitor meets it: what is loaded, what is added, and Chat that offers it at once."""

from typing import TYPE_CHECKING

import pytest

from playground.compare import Playground
from playground.page.words import words

from .conftest import Open

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def wait_row(page: "Page", name: str, text: str) -> None:
    """Wait until the catalogue says a text in the row of that name."""
    page.locator("#catalogue tbody tr", has=page.locator(f"b:text-is('{name}')"), has_text=text).wait_for()


def press(page: "Page", action: str, name: str) -> None:
    page.click(f"#catalogue [data-action={action}][data-name='{name}']")


def test_what_answered_is_loaded_and_can_be_unloaded(visit: Open, playground: Playground) -> None:
    page = visit()
    page.fill("#ask textarea", "Hello")
    page.press("#ask textarea", "Enter")
    for pane in range(3):
        page.wait_for_selector(f"#pane-{pane} [data-action=add_row]")  # its answer is whole
    page.click("#tab-models-button")
    page.wait_for_selector("#catalogue .state.on")
    wait_row(page, "smollm2:demo:Q4_K_M", "loaded")
    press(page, "unload", "smollm2:demo:Q4_K_M")
    page.wait_for_selector("#models-said .verdict")
    wait_row(page, "smollm2:demo:Q4_K_M", words("en")["models.idle"])
    assert "smollm2:demo:Q4_K_M" not in {loaded.spec.name for loaded in playground.pool.loaded()}


def test_check_add_ask_and_remove(visit: Open, playground: Playground) -> None:
    page = visit()
    page.click("#tab-models-button")
    press(page, "check", "smollm2")
    page.wait_for_selector("#models-said .verdict")
    page.click("#add button")
    page.fill("#add-name textarea, #add-name input", "mine")
    page.fill("#add-source textarea, #add-source input", "/nowhere/at/all")
    page.click("#add-add")
    page.wait_for_selector("#add-said .card")
    assert "mine" not in playground.catalogue.names
    page.fill("#add-source textarea, #add-source input", "fake:mine")
    page.click("#add-add")
    page.wait_for_selector("#add-said .verdict")
    wait_row(page, "mine", "mine")
    page.click("#tab-chat-button")
    page.click("#variants input")
    page.locator("[role=option]", has_text="mine").click()
    page.wait_for_selector("#pane-3 h3:text-is('mine')")
    page.click("#tab-models-button")
    page.on("dialog", lambda dialog: dialog.accept())
    press(page, "remove", "mine")
    page.wait_for_function("!document.querySelector(\"#catalogue [data-name='mine']\")")
    page.click("#tab-chat-button")
    page.wait_for_selector("#pane-3", state="hidden")


def test_fields_follow_the_kind(visit: Open) -> None:
    page = visit()
    page.click("#tab-models-button")
    page.click("#add button")
    page.wait_for_selector("#add-dtype", state="visible")
    assert not page.is_visible("#add-base")
    page.click("#add-kind label >> nth=2")
    page.wait_for_selector("#add-file", state="visible")
    page.wait_for_selector("#add-dtype", state="hidden")
    assert page.is_visible("#add-base")
