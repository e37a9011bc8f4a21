"""How the page comes up and how it is gone through without a mouse: its first frame, shifts, stops of Tab, axe."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import app
from tests.eval.runs import make_run

from .conftest import CATALOGUE, Open, served_tabs, settle

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.shifted += one.value;
}).observe({ type: 'layout-shift', buffered: true });
"""
STOP = """
() => {
  const at = document.activeElement;
  return at === document.body ? '' : [at.tagName, at.id, at.type ?? '', at.className].join(' ');
}
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The whole page, with results to draw."""
    data = tmp_path_factory.mktemp("look")
    for day, name in enumerate(("smollm2", "smollm2:demo"), start=1):
        facts = {"variant": name, "size_bytes": 9 * day, "decode_tokens_per_s": 5.0}
        make_run(data / "results", name, {"kobest_copa": [True, day == 2] * 20}, day=day, folder=f"r{day}", facts=facts)
    with served_tabs(data, CATALOGUE, app.tabs) as address:
        yield address


def fresh(chromium: "Browser", width: int, **options: object) -> "Page":
    page: Page = chromium.new_context(viewport={"width": width, "height": 900}, **options).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(15_000)
    return page


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize(("locale", "says"), [("ko-KR", "내보내기"), ("en-US", "Export")])
def test_the_first_frame_is_ours_before_any_script_of_gradio(
    chromium: "Browser", address: str, width: int, locale: str, says: str
) -> None:
    page = fresh(chromium, width, locale=locale, color_scheme="dark")
    held: list[object] = []
    page.route("**/assets/*.js", lambda route: held.append(route))
    page.goto(address, wait_until="commit")
    shell = page.locator("#shell")
    assert shell.locator("h1").inner_text().startswith("마당")
    assert shell.locator("nav").get_by_text(says, exact=True).is_visible() or width == 390
    assert page.evaluate("document.body.classList.contains('dark')")
    assert page.evaluate("document.body.innerText").count("Loading") == 0
    page.context.close()


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_nothing_jumps_while_the_page_is_built(chromium: "Browser", address: str, width: int) -> None:
    page = fresh(chromium, width, locale="ko-KR")
    page.add_init_script(SHIFTS)
    page.goto(address)
    page.wait_for_function("document.querySelector('#seed input')?.value !== '0' && !document.querySelector('#shell')")
    page.wait_for_timeout(500)
    assert page.evaluate("window.shifted") <= 0.05
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.context.close()


def test_tab_stops_once_at_each_strip_and_arrows_go_on_inside(visit: Open) -> None:
    page = visit()
    page.focus("#madang-header button")
    stops: list[str] = []
    while not stops or (stops[-1] and len(stops) < 40):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(STOP))
    for kind in ("-button ", "example", "radio"):
        assert sum(kind in stop for stop in stops) <= 1 or kind == "radio", stops
    assert sum("TEXTAREA" in stop for stop in stops) == 1
    assert len(stops) <= 18, stops
    page.focus("#tab-chat-button")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-leaderboard-button"
    page.focus("#example-0")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "example-1"


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_axe_finds_nothing_serious_on_any_tab(chromium: "Browser", address: str, width: int, dark: bool) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    shade = "dark" if dark else "light"
    page = fresh(
        chromium, width, locale="ko-KR", color_scheme=shade, bypass_csp=True
    )  # axe comes as a script of its own
    page.goto(address)
    page.wait_for_selector("#ask textarea")
    settle(page)
    found = []
    for tab in ("chat", "leaderboard", "evaluate", "train", "export", "models"):
        page.evaluate(f"document.querySelector('#tab-{tab}-button').click()")
        page.wait_for_selector(f"#tab-{tab}[role=tabpanel] :is(h2, h3) >> visible=true")
        page.wait_for_timeout(500)  # what comes later is looked at where it came in time
        for fault in axe.Axe().run(page).response["violations"]:
            if fault["impact"] in ("serious", "critical") or fault["id"] == "page-has-heading-one":
                found.append((tab, fault["id"], [node["html"][:160] for node in fault["nodes"]]))
    assert found == []
    page.context.close()
