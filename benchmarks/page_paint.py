"""How soon Chromium shows the page, beside an empty gradio Blocks page: first paint, question box, layout shift."""

import os
import shutil
import subprocess
import sys
from typing import Any

from benchmarks.common import ROOT, Measured, settings
from benchmarks.page_start import EMPTY, answering, free_port

WATCH = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.shifted += one.value;
}).observe({ type: 'layout-shift', buffered: true });
"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def run(runs: int) -> list[Measured]:
    """Milliseconds since navigation began, in a fresh context each time; the first visit is not counted."""
    from playwright.sync_api import sync_playwright

    settings()
    ports = free_port(), free_port()
    commands = [
        [sys.executable, str(ROOT / "app.py"), "--no-open", "--port", str(ports[0])],
        [sys.executable, "-c", EMPTY.format(port=ports[1])],
    ]
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False"}
    served = [subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, text=True) for command in commands]
    try:
        for process, port in zip(served, ports, strict=True):
            answering(process, port)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            visits = [
                (_visit(chromium, ports[0], "#ask textarea"), _visit(chromium, ports[1], ".gradio-container"))
                for _ in range(runs + 1)
            ][1:]
            chromium.close()
    finally:
        for process in served:
            process.terminate()
            process.wait()
    names = ("first paint", "question box (peer: the empty page is built)", "layout shift")
    goals, units = ("<= 1000 ms", "", "<= 0.05"), ("ms", "ms", "CLS")
    return [
        Measured(names[i], [ours[i] for ours, _ in visits], [peer[i] or 1e-9 for _, peer in visits], goals[i], units[i])
        for i in range(3)
    ]


def _visit(chromium: Any, port: int, built: str) -> tuple[float, float, float]:
    """Return first contentful paint in ms, the time at which `built` is there in ms, and the layout shift."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector(built)
    stands = page.evaluate("performance.now()")
    page.wait_for_timeout(1500)
    found = page.evaluate(PAINT), stands, page.evaluate("window.shifted")
    context.close()
    return found
