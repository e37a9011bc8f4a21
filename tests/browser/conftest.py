"""A served page over fake variants, and Chromium to look at it with. Without Chromium these tests are skipped."""

import os
import shutil
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from fastapi import FastAPI

import app
from playground.compare import Playground
from playground.page.components import Tab
from playground.settings import Settings
from playground.system import jobs
from playground.ui.door import shut
from playground.ui.page import build, launch_options, mounted
from tests.fakes import EMBEDDED

if TYPE_CHECKING:
    import gradio as gr
    from playwright.sync_api import Browser, Page

ARGUMENTS = """--no-sandbox --headless --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync"""
CATALOGUE = (
    EMBEDDED
    + """
[[variant]]
name = "another-one-with-a-rather-long-name:Q5_K_M"
kind = "gguf"
source = "fake:h"

[[variant]]
name = "fifth"
kind = "base"
source = "fake:fifth"
"""
)
CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
Open = Callable[..., "Page"]


def free_port() -> int:
    """A port on the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """A playground whose built-in variants are fakes."""
    data = tmp_path_factory.mktemp("data")
    (data / "variants.toml").write_text(CATALOGUE, encoding="utf-8")
    playground = Playground(Settings(data=Path(data)))
    yield playground
    playground.close()


@contextmanager
def served(page: "gr.Blocks", settings: Settings, options: dict[str, Any]) -> Iterator[str]:
    """A page on the loopback, at the address that this yields."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    port = free_port()
    behind = FastAPI(openapi_url=None)
    shut(behind, settings)
    app = mounted(behind, page, settings, options)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@contextmanager
def served_tabs(data: Path, catalogue: str, tabs: Callable[[Settings], Sequence[Tab]]) -> Iterator[str]:
    """The page of local mode with these tabs beside its own; afterwards its jobs are ended and its data is gone."""
    (data / "variants.toml").write_text(catalogue, encoding="utf-8")
    settings = Settings(data=data)
    wings = tabs(settings)
    with served(app.build(settings, wings), settings, launch_options(settings, wings)) as address:
        yield address
        for job in jobs.listed(settings):
            jobs.cancel(job)
    shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="module")
def address(playground: Playground) -> Iterator[str]:
    """The page, served on the loopback."""
    page = build(playground, playground.settings)
    with served(page, playground.settings, launch_options(playground.settings)) as address:
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert answer.status == 200
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """Chromium, without background traffic. Playwright keeps an event loop running: it ends with each file's tests."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium fonts-noto-cjk")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield browser
        browser.close()


@pytest.fixture
def outside() -> list[str]:
    """Addresses beyond the page's own that it asked for."""
    return []


@pytest.fixture
def refused() -> list[str]:
    """What the browser did not do, by the page's policy."""
    return []


@pytest.fixture
def visit(chromium: "Browser", address: str, outside: list[str], refused: list[str]) -> Iterator[Open]:
    """Opens the page as a visitor with a language, a size and a shade; every visitor is a session of its own."""
    contexts: list[Any] = []
    errors: list[str] = []

    def open_page(locale: str = "en-US", width: int = 1440, height: int = 900, dark: bool = False) -> "Page":
        context = chromium.new_context(
            locale=locale, viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        context.set_default_timeout(15_000)
        contexts.append(context)
        page: Page = context.new_page()
        page.on("request", lambda request: None if is_own(request.url, address) else outside.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: refused.append(said.text) if "Content Security Policy" in said.text else None)
        page.on(
            "response", lambda answer: errors.append(f"{answer.status} {answer.url}") if answer.status >= 500 else None
        )
        page.goto(address)
        page.wait_for_selector("#ask textarea")
        settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert refused == []


def is_own(url: str, address: str) -> bool:
    """Whether a request stays with the page's own server."""
    return url.startswith((address, "data:", "blob:", "about:"))


def settle(page: "Page") -> None:
    """Wait until the events that a visit begins with are through."""
    page.wait_for_function("document.querySelector('#seed input')?.value !== '0'")
    time.sleep(0.3)


def open_tab(page: "Page", name: str, filled: str) -> None:
    """Go to a tab, and wait until the element of that id shows something."""
    page.evaluate(f"document.querySelector('#tab-{name}-button').click()")
    page.wait_for_selector(f"#{filled} .html-container > div:not(:empty)")
    time.sleep(0.5)


def reload(page: "Page") -> None:
    """Come back to the page as one who has been there."""
    page.reload()
    page.wait_for_selector("#ask textarea")
    time.sleep(0.5)


def choose(page: "Page", field: str, *names: str) -> None:
    """Pick from the list of the element of that id."""
    for name in names:
        page.click(f"#{field} input")
        page.locator("[role=option]", has_text=name).first.click()
    page.keyboard.press("Escape")


@pytest.fixture
def patience() -> Callable[[Callable[[], bool]], None]:
    """Waits for something outside the browser."""

    def wait(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not done():
            assert time.monotonic() < deadline, "it never came"
            threading.Event().wait(0.05)

    return wait
