"""A token in the browser, in a conversation of 20,000: Chromium's main thread, against Gradio's own Chatbot."""

import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from benchmarks.common import Measured
from playground.compare import Playground
from playground.conversations.exports import as_json
from playground.conversations.turns import Answer, Chat
from playground.events import Finished, Stats
from playground.settings import Settings
from playground.ui.page import build, launch_options, mounted

TOKENS, WATCHED = 20_000, 500
"""In all, and those whose cost is measured: the last ones."""
EACH_S = 0.03
BUILT_IN = ("smollm2", "smollm2:demo", "smollm2:demo:Q4_K_M")
CHAPTER = """## Chapter {n}

Neighbours meet in the **courtyard** and say what `they` think of $a_{n}^2 + b^2$; see [the map](https://example.org).

1. **First** they sweep the yard, then they talk.
2. Then they cook, sing and *listen* to each other.

| who | how many | what |
|:----|---------:|------|
| Kim | {n} | persimmons |
| Lee | 12 | letters |

```python
def courtyard(neighbours: list[str]) -> int:
    \"\"\"Count who is there.\"\"\"
    return sum(1 for name in neighbours if name.startswith("K"))  # {n}
```

"""
LONGER = """() => {
  const field = document.querySelector('#set-max_new_tokens input[type=number]');
  field.value = 4096;
  for (const kind of ['input', 'change', 'blur']) field.dispatchEvent(new Event(kind, { bubbles: true }));
}"""
BROWSER = ["--no-sandbox", "--headless", "--disable-gpu"]


def run(runs: int) -> list[Measured]:
    """Milliseconds of the main thread a token: in one long answer, and after a long conversation."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as playwright:
        where = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=where, args=BROWSER)
        for what, long in (("one answer of 20,000 tokens", True), ("the next one after 20,000 tokens", False)):
            ours, peer = [], []
            for _ in range(runs):
                with _madang(long) as (address, ask):
                    ours.append(_measured(browser, address, ask, ".live .answer"))
                with _chatbot(long) as (address, ask):
                    peer.append(_measured(browser, address, ask, "#chatbot"))
            found.append(Measured(what, ours, peer, "<= 5 ms", "ms"))
        browser.close()
    return found


def _words(tokens: int) -> list[str]:
    """Return so many tokens of Markdown, four letters each, as an average one has."""
    text, number = "", 0
    while len(text) < 4 * tokens:
        number += 1
        text += CHAPTER.format(n=number)
    return [text[at : at + 4] for at in range(0, 4 * tokens, 4)]


def _measured(browser: Any, address: str, ask: Callable[[Any], None], place: str) -> float:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("textarea >> visible=true")
    time.sleep(1)
    ask(page)
    page.wait_for_function("p => document.querySelector(p)?.innerText.includes('BEGIN')", arg=place, timeout=60_000)
    devtools = context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})  # of the processor: others share this machine
    before = _busy(devtools)
    page.wait_for_function(
        "p => document.querySelector(p)?.innerText.includes('FINAL')", arg=place, timeout=120_000, polling=500
    )
    spent = _busy(devtools) - before
    context.close()
    return 1000 * spent / WATCHED


def _busy(devtools: Any) -> float:
    metrics = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])


def _stream(long: bool) -> Iterator[str]:
    """Yield what comes at once, then token by token."""
    words = _words(TOKENS if long else WATCHED)
    yield "".join(words[:-WATCHED]) + "\n\nBEGIN\n\n"
    for word in words[-WATCHED:]:
        time.sleep(EACH_S)
        yield word
    yield "\n\nFINAL"


class _Server(BaseHTTPRequestHandler):
    """Speaks as much of OpenAI's API as a conversation needs."""

    protocol_version = "HTTP/1.1"
    long = True

    def do_GET(self) -> None:
        self._answer(json.dumps({"object": "list", "data": [{"id": "m", "max_model_len": 100_000}]}).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if not self.path.endswith("chat/completions"):
            self._answer(b"{}", 404)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for text in _stream(self.long):
            delta = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
            self.wfile.write(f"data: {json.dumps(delta)}\n\n".encode())
        self.wfile.write(b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
        self.close_connection = True

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own word
        pass


@contextmanager
def _madang(long: bool) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Serve the page over one remote variant; yield where, and how a visitor asks."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_This", (_Server,), {"long": long}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = f'kind = "remote"\nurl = "http://127.0.0.1:{server.server_port}/v1"\nmodel = "m"\n'
    rows = "".join(f'[[variant]]\nname = "{name}"\n{where}' for name in BUILT_IN)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "variants.toml").write_text(rows, encoding="utf-8")
        settings = Settings(data=Path(folder))
        playground = Playground(settings)
        page = build(playground, settings)
        app = mounted(FastAPI(openapi_url=None), page, settings, launch_options(settings))
        with _served(app) as address:
            yield address, lambda view: _asked(view, "" if long else _conversation())
        playground.close()
    server.shutdown()


def _asked(view: Any, conversation: str) -> None:
    for _ in range(2):  # one pane: a frame of its own for each of its tokens is the worst case
        view.locator("#variants .token .token-remove").last.click()
        time.sleep(0.5)
    view.evaluate(LONGER)
    if conversation:
        file = {"name": "c.json", "mimeType": "application/json", "buffer": conversation.encode()}
        view.set_input_files("#history-tools input[type=file]", file)
        view.wait_for_selector(".log .turn", state="attached", timeout=60_000)
        time.sleep(2)
    view.fill("#ask textarea", "Tell me")
    view.press("#ask textarea", "Enter")


def _conversation() -> str:
    stats = Stats(prompt_tokens=1, tokens=1000, first_token_s=1, tokens_per_s=30, memory_bytes=0, dtype="")
    chat = Chat()
    for _ in range(TOKENS // 1000):
        chat = chat.ask("And then?", ["smollm2"])
        end = Finished(variant="smollm2", reason="stop", text="".join(_words(1000)), stats=stats)
        answers = {"smollm2": Answer(text=end.text, end=end)}
        chat = chat.with_turn(chat.turns[-1].model_copy(update={"answers": answers}))
    return as_json(chat)


@contextmanager
def _chatbot(long: bool) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Serve Gradio's Chatbot with the same answer."""
    turn = {"role": "assistant", "content": "".join(_words(1000))}
    earlier: list[Any] = [] if long else [{"role": "user", "content": "And then?"}, turn] * (TOKENS // 1000)

    def answer(question: str) -> Iterator[list[Any]]:
        text, shown = "", time.monotonic()
        for piece in _stream(long):
            text += piece
            if time.monotonic() - shown > 0.1 or len(piece) > 4:
                shown = time.monotonic()
                yield [*earlier, {"role": "user", "content": question}, {"role": "assistant", "content": text}]
        yield [*earlier, {"role": "user", "content": question}, {"role": "assistant", "content": text}]

    with gr.Blocks(analytics_enabled=False) as page:
        box = gr.Textbox()
        bot = gr.Chatbot(earlier, elem_id="chatbot", latex_delimiters=[{"left": "$", "right": "$", "display": False}])
        box.submit(answer, box, bot)

    def ask(view: Any) -> None:
        view.fill("textarea", "Tell me")
        view.press("textarea", "Enter")

    with _served(gr.mount_gradio_app(FastAPI(), page, path="/")) as address:
        yield address, ask


@contextmanager
def _served(app: FastAPI) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
