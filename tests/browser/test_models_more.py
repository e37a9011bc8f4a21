"""Where models come from, as a visitor meets it: a folder of GGUFs, and the Hub's search; in both languages."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants

from playground.catalogue.hub import HubFile, HuggingFaceHub
from playground.catalogue.hub_search import HubModel
from playground.compare import Playground
from playground.page.words import words
from playground.wording import Language

from .conftest import Open

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of whoever runs the tests is looked at."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def ask(page: "Page", field: str, button: str, text: str, answer: "Locator") -> None:
    """Type into a fold that was just opened, until it is heard: Gradio mounts what is inside at its leisure."""
    from playwright.sync_api import TimeoutError as TooLate

    for _ in range(10):
        page.fill(f"#find-{field} textarea, #find-{field} input", text)
        page.click(f"#find-{button}")
        with suppress(TooLate):
            return answer.wait_for(timeout=5000)
    raise AssertionError("nobody answered")


@pytest.mark.parametrize(("locale", "language"), [("ko-KR", "ko"), ("en-US", "en")])
def test_a_folder_is_looked_into_and_a_model_that_is_broken_says_so(
    visit: Open, playground: Playground, tmp_path: Path, locale: str, language: Language
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / f"half-{language}.gguf").write_bytes(b"GGUF" + bytes(60))
    page = visit(locale=locale)
    page.click("#tab-models-button")
    page.click("#here > button")
    page.locator("#here-found", has_text=words(language)["find.nothing"]).wait_for()
    ask(page, "folder", "look", str(folder), page.locator("#here-found [data-action=offer]"))
    page.click("#here-found [data-action=offer]")
    page.wait_for_selector("#models-said .card")
    assert f"half-{language}" not in playground.catalogue.names


@pytest.mark.parametrize(("locale", "language"), [("ko-KR", "ko"), ("en-US", "en")])
def test_a_search_leads_to_a_model_in_the_catalogue(
    visit: Open, playground: Playground, monkeypatch: pytest.MonkeyPatch, locale: str, language: Language
) -> None:
    found = [HubModel("owner/gguf", "gguf", 10**9, 0, "mit"), HubModel("owner/vast", "base", 10**14, 2 * 10**14)]
    files = [HubFile(f"m-{language}.gguf", 2**30, False)]
    monkeypatch.setattr(HuggingFaceHub, "search", lambda self, query: found)
    monkeypatch.setattr(HuggingFaceHub, "files", lambda self, repo, revision, patterns=None: files)
    page = visit(locale=locale)
    page.click("#tab-models-button")
    page.click("#hub > button")
    ask(page, "words", "search", "owner", page.locator("#hub-found", has_text=words(language)["find.tight"]))
    page.click("#hub-found [data-action=files]")
    page.click("#hub-files [data-action=get]")
    page.wait_for_selector("#models-said .verdict")
    page.locator("#catalogue tbody tr", has=page.locator(f"b:text-is('m-{language}')")).wait_for()
    assert f"m-{language}" in playground.catalogue.names
