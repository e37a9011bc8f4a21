"""From the start of the page's process to a served page, against an empty gradio Blocks page."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from benchmarks.common import ROOT, Measured, settings

EMPTY = "import gradio as gr\nwith gr.Blocks() as demo: pass\ndemo.launch(server_name='127.0.0.1', server_port={port})"


def run(runs: int) -> list[Measured]:
    """Seconds, models prepared and Python's caches warm (the first round is not counted)."""
    settings()
    ours, empty = [], []
    for number in range(runs + 1):
        port = free_port()
        mine = _served([sys.executable, str(ROOT / "app.py"), "--no-open", "--port", str(port)], port)
        port = free_port()
        theirs = _served([sys.executable, "-c", EMPTY.format(port=port)], port)
        if number:
            ours.append(mine)
            empty.append(theirs)
    return [Measured("page served / empty Blocks page served", ours, empty, "<= 1.3", "s")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _served(command: list[str], port: int) -> float:
    """Seconds until the page answers; the process is ended then."""
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False"}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True)
    try:
        answering(process, port)
        return time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


def answering(process: "subprocess.Popen[str]", port: int) -> None:
    """Wait until the page answers; raises SystemExit for a process that ends before."""
    start = time.perf_counter()
    while process.poll() is None and time.perf_counter() - start < 60:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.01)
    raise SystemExit(f"{process.args!r} served nothing: {process.stderr.read() if process.stderr else ''}")
