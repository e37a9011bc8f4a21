"""llama.cpp's own server over a GGUF file, out of the package `xllamacpp`; without it tests are skipped."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from .planted import free_port

LONGEST_S = 120


@contextmanager
def native_server(file: Path, folder: Path) -> Iterator[str]:
    """The server's address; its log is left in the folder."""
    if find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed: pip install xllamacpp==2026.10.11549")
    port = free_port()
    words = (
        f"--model {file} --alias native --host 127.0.0.1 --port {port} --ctx-size 4096 --parallel 2 --threads 1 --jinja"
    )
    command = [sys.executable, "-m", "playground.engines.llama_child", *words.split()]
    with (folder / "native.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + LONGEST_S
    while True:
        assert process.poll() is None, "it ended"
        assert time.monotonic() < deadline, "it never came up"
        try:
            if httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
