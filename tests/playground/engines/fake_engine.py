"""A server like vLLM's or llama.cpp's from outside: `fake_engine.py MODE ... --port N ...`.

ready: answers 503, then 200. crash: says why and ends. never: 503 for ever. stubborn: does not hear SIGTERM, and has a
child. cpu: ready, and says that it computes on one. other: serves another model. `/die` ends it as a crash does;
`/about` tells its words and the keys in its environment.
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODE, WORDS = sys.argv[1], sys.argv[2:]
BEGAN = time.monotonic()


def models() -> list[str]:
    """What it says that it serves: what it was told to, the LoRA modules among them."""
    if MODE == "other":
        return ["somebody-else"]
    named = [WORDS[at + 1] for at, word in enumerate(WORDS) if word in ("--served-model-name", "--alias")]
    modules = [word.partition("=")[0] for word in WORDS if "=" in word and not word.startswith("-")]
    return [*(named or ["x"]), *modules]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/die":
            sys.stderr.write("CUDA error: an illegal memory access\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGABRT)
            time.sleep(60)  # the signal may take effect a moment later: no answer until then
        ready = MODE != "never" and time.monotonic() - BEGAN > 0.3
        if self.path == "/v1/models":
            return self.tell(200, {"data": [{"id": name} for name in models()]})
        about = {name: value for name, value in os.environ.items() if name.endswith("API_KEY")}
        told = {"words": WORDS, "keys": about, "quiet": os.environ.get("DO_NOT_TRACK")}
        self.tell(200 if ready else 503, told)

    def tell(self, status: int, what: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(what).encode())

    def log_message(self, *arguments: object) -> None:
        pass


if MODE == "crash":
    sys.stderr.write("loading\nValueError: out of memory on this card\n")
    sys.exit(3)
if MODE == "cpu":
    sys.stderr.write("Initializing an engine with config: dtype=torch.bfloat16, device_config=cpu, seed=0\n")
if MODE == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(os.environ["FAKE_PIDS"]).write_text(f"{os.getpid()} {child.pid}")
ThreadingHTTPServer(("127.0.0.1", int(WORDS[WORDS.index("--port") + 1])), Handler).serve_forever()
