"""Film the page with the embedded models: twelve flows at three widths, light in Korean, dark in English: `make shots`.

Prepares its own data folder once (a run, an export, a result of the tests' small benchmark), serves the page on the
loopback, and writes PNG files and an index.html beside them.
"""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "shots"
PROGRAM = [sys.executable, str(ROOT / "app.py"), "--data", str(OUT / "data")]
WIDTHS = (1440, 1024, 390)
MODELS = ["smollm2", "smollm2:demo", "smollm2:demo:Q4_K_M"]
QUESTION = "Explain in three points why the sky is blue."
FIRST = [
    ("runs", ["train", "sft", "--set", "trainer.max_steps=12"]),
    ("exports", ["export", "smollm2:demo", "--to", "gguf:q4_k_m,gguf:q8_0"]),
    (
        "results",
        ["eval", "kobest", "--no-drift", "--data", "tests/eval/data/kobest", *(f"--variant={name}" for name in MODELS)],
    ),
]
"""What the film shows, by the folder that it leaves."""
Page = Any
"""playwright.sync_api.Page; scripts are read by machines without it."""


def first_visit(page: Page) -> None:
    """Nothing asked yet."""


def answers(page: Page) -> None:
    """Three answers side by side: asked by the first visitor, read again by the others."""
    if not page.locator("#history button.open").count():
        page.fill("#ask textarea", QUESTION)
        page.press("#ask textarea", "Enter")
        page.wait_for_selector("#stop >> visible=true")
        page.wait_for_selector("#send >> visible=true", timeout=180_000)
        return
    _list(page)
    page.locator("#history button.open").last.click()
    page.wait_for_selector("#pane-0 .turn")
    _list(page, shown=False)


def branch(page: Page) -> None:
    """A question that is edited where it stands."""
    page.locator("#pane-0 [data-edit]").first.click()
    page.locator("#pane-0 form.edit").scroll_into_view_if_needed()


def search(page: Page) -> None:
    """A conversation found by a part of a word."""
    page.keyboard.press("Escape")
    _list(page)
    page.fill("#history .search", "blu")
    page.wait_for_timeout(1000)


def settings(page: Page) -> None:
    """The settings of a question, over the panes."""
    page.fill("#history .search", "")
    _list(page, shown=False)
    page.click("#settings-toggle")


def picker(page: Page) -> None:
    """The models to choose from."""
    page.locator("#settings :is(input, textarea)").first.press("Escape")
    page.click("#variants input, #variants button", force=True)


def data(page: Page) -> None:
    """Training rows looked at before a run."""
    page.keyboard.press("Escape")
    _tab(page, "train")
    page.fill("#train-source :is(input, textarea)", str(ROOT / "training" / "recipes" / "data" / "instructions.jsonl"))
    page.click("#train-look-button")
    page.wait_for_timeout(4000)


def run(page: Page) -> None:
    """A run that is done, and the runs before it."""
    page.locator("#train-side").scroll_into_view_if_needed()
    page.wait_for_timeout(500)


def flow(name: str) -> Callable[[Page], None]:
    """Return the flow that looks at a tab."""
    return lambda page: _tab(page, name)


FLOWS: dict[str, Callable[[Page], None]] = {
    "first visit": first_visit,
    "answers": answers,
    "branch": branch,
    "search": search,
    "settings": settings,
    "picker": picker,
    "data": data,
    "run": run,
    "export": flow("export"),
    "evaluate": flow("evaluate"),
    "leaderboard": flow("leaderboard"),
    "models": flow("models"),
}


def main() -> int:
    """Prepare, serve, film; exit 1 where a flow cannot be gone through, and name it."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.stderr.write("error: Chromium is not installed.\nhint: apt-get install chromium fonts-noto-cjk\n")
        return 1
    for folder, arguments in FIRST:
        if not (OUT / "data" / folder).is_dir():
            subprocess.run([*PROGRAM, *arguments], check=True, cwd=ROOT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    served = subprocess.Popen([*PROGRAM, "--port", str(port), "--no-open"], stdout=subprocess.DEVNULL)
    try:
        failed = film(chromium, f"http://127.0.0.1:{port}/", served)
    finally:
        served.terminate()
        served.wait()
    sys.stdout.write(f"{OUT / 'index.html'}\n")
    sys.stderr.write("".join(f"error: {name}\n" for name in failed))
    return bool(failed)


def film(chromium: str, address: str, served: "subprocess.Popen[bytes]") -> list[str]:
    """Go through every flow at every width and in both shades; return what could not be gone through."""
    from playwright.sync_api import Error, sync_playwright

    _answering(address, served)
    rows, failed = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        for width in WIDTHS:
            for shade, locale in (("light", "ko-KR"), ("dark", "en-US")):
                page = browser.new_context(
                    viewport={"width": width, "height": 900}, color_scheme=shade, locale=locale
                ).new_page()
                page.set_default_timeout(15_000)
                page.goto(address)
                page.wait_for_selector("#shell", state="detached")
                page.wait_for_timeout(2000)
                cells = []
                for number, (name, go) in enumerate(FLOWS.items(), start=1):
                    try:
                        go(page)
                    except Error as error:
                        failed.append(f"{name}, {width} px, {shade}: {error.message.splitlines()[0]}")
                    page.wait_for_timeout(600)
                    file = f"{number:02}-{name.replace(' ', '-')}-{width}-{shade}.png"
                    page.screenshot(path=OUT / file)
                    cells.append(
                        f'<figure><img src="{file}" loading="lazy"><figcaption>{escape(name)}</figcaption></figure>'
                    )
                rows.append(f"<h2>{width} px, {shade}</h2><div>{''.join(cells)}</div>")
                page.context.close()
        browser.close()
    style = "body{font:14px sans-serif}div{display:flex;overflow-x:auto;gap:12px}figure{margin:0}img{height:520px}"
    (OUT / "index.html").write_text(f"<!doctype html><style>{style}</style>{''.join(rows)}", encoding="utf-8")
    return failed


def _answering(address: str, served: "subprocess.Popen[bytes]") -> None:
    while served.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("error: The page ended before it answered.")


def _list(page: Page, shown: bool = True) -> None:
    if (page.get_attribute("html", "data-list") == "open") != shown:
        page.click("#history-toggle", force=True)


def _tab(page: Page, name: str) -> None:
    page.evaluate(f"document.querySelector('#tab-{name}-button').click()")
    page.wait_for_selector(f"#tab-{name}[role=tabpanel] :is(h2, h3) >> visible=true")
    page.wait_for_timeout(1500)


if __name__ == "__main__":
    sys.exit(main())
