"""A Space as a stranger finds it: app.py started as Hugging Face starts it, and everything called that can be reached.

The program writes down each folder and file that it opens, and each process that it starts: what strangers name in
their calls must not be among them.
"""

import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes import EMBEDDED
from tests.places import ROOT

PROGRAM = """
import runpy, sys, training.cli.demo
training.cli.demo.ensure = lambda settings: None  # the fakes need no models
touched = open(sys.argv.pop(1), "a", buffering=1)
def note(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "subprocess.Popen"):
        touched.write(f"{event} {arguments[:2]!r}\\n")
sys.addaudithook(note)
sys.argv[0] = "app.py"
runpy.run_path("app.py", run_name="__main__")
"""
NUMBER = re.compile(r'"owner": "[0-9a-f]+"|[0-9.]+')
"""What differs between two answers that say the same: numbers, and the key drawn for a browser that has none."""
SECRET = "owners-secret-variant"
FOREIGN = "strangers-folder"
RESULT = {
    "results": {"kobest_copa": {"alias": "kobest_copa", "acc,none": 0.5}},
    "n-samples": {"kobest_copa": {"original": 1000, "effective": 1000}},
    "model_name": SECRET,
    "config": {"model": SECRET},
    "date": 1.0,
}


@dataclass
class Space:
    """A running Space: its address, its data folder, and what it has touched since it was asked last."""

    url: str
    data: Path
    notes: Path
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    def touched(self, word: str) -> list[str]:
        """Everything opened or started so far whose name holds a word."""
        return [line for line in self.notes.read_text("utf-8").splitlines() if word in line]

    def join(self, number: int, data: list[Any], session: str, proxied: str, **event: Any) -> httpx.Response:
        """The reply to a raw call of the queue. `proxied`: what the Space's proxy tells of who calls."""
        body = {"fn_index": number, "data": data, "session_hash": session, **event}
        return self.http.post(f"{self.url}/gradio_api/queue/join", json=body, headers={"x-forwarded-for": proxied})

    def heard(self, session: str) -> Iterator[dict[str, Any]]:
        """The messages that a session gets, until its call has ended."""
        with self.http.stream("GET", f"{self.url}/gradio_api/queue/data?session_hash={session}") as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data: ") or "{}")
                yield message
                if message.get("msg") in ("process_completed", "close_stream", "unexpected_error"):
                    return

    def call(self, number: int, data: list[Any], session: str, proxied: str, **event: Any) -> str:
        """What a raw call answers until it has ended; a refusal as it is."""
        joined = self.join(number, data, session, proxied, **event)
        if joined.status_code != 200:
            return joined.text
        outputs = [message["output"] for message in self.heard(session) if message.get("output")]
        return json.dumps([[output.get(part) for part in ("data", "error")] for output in outputs], ensure_ascii=False)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    """app.py with SPACE_ID, its embedded models fakes."""
    data = tmp_path_factory.mktemp("space")
    (data / "variants.toml").write_text(EMBEDDED, encoding="utf-8")
    foreign = data.parent / FOREIGN
    foreign.mkdir(exist_ok=True)
    (foreign / "results_1.json").write_text(json.dumps(RESULT), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MADANG_")}
    told = {"SPACE_ID": "owner/space", "MADANG_DATA": str(data), "MADANG_PORT": str(port), "PYTHONPATH": str(ROOT)}
    told["MADANG_SPACE_RATE_PER_MINUTE"] = "6"
    notes = data.parent / "touched.txt"
    command = [sys.executable, "-c", PROGRAM, str(notes), "--no-open"]
    program = subprocess.Popen(command, env=bare | told, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert program.stderr is not None
        for line in program.stderr:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    try:
        while (line := lines.get()) and not line.startswith("Madang: "):
            pass
        assert line, "it ended before it listened"
        yield Space(f"http://127.0.0.2:{port}", data, notes)  # another address than the default
    finally:
        program.terminate()
        program.wait()


@pytest.fixture(scope="module")
def config(space: Space) -> Any:
    """What the page is made of."""
    return space.http.get(f"{space.url}/config").json()


def test_a_space_gets_its_mode_its_style_and_no_api(space: Space, config: Any) -> None:
    tabs = [one["props"]["id"] for one in config["components"] if one["type"] == "tabitem"]
    assert tabs == ["chat", "leaderboard"]
    assert "--primary-50: #eef4f1" in space.http.get(f"{space.url}/theme.css").text
    for path in ("v1/completions", "v1/chat/completions", "tokenize"):
        assert space.http.post(f"{space.url}/{path}", json={"model": "smollm2"}).status_code in (404, 405)
    assert str(space.data) not in json.dumps(config)


def test_a_space_has_no_public_endpoint(space: Space, config: Any) -> None:
    for query in ("", "?all_endpoints=1", "?all_endpoints=true&page="):
        info = space.http.get(f"{space.url}/gradio_api/info{query}").json()
        assert info == {"named_endpoints": {}, "unnamed_endpoints": {}}
    assert {one["api_visibility"] for one in config["dependencies"]} == {"private"}


NOWHERE = [
    ("GET", "gradio_api/file=/etc/passwd"),
    ("GET", "gradio_api/file=app.py"),
    ("GET", "gradio_api/file=https://example.com/"),
    ("GET", "gradio_api/file/etc/passwd"),
    ("GET", "gradio_api/proxy=https://owner-space.hf.space/"),
    ("GET", "gradio_api/deep_link?session_hash=stranger"),
    ("GET", "gradio_api/openapi.json"),
    ("GET", "gradio_api/upload_progress?upload_id=a"),
    ("GET", "gradio_api/stream/a/b/c/playlist-file"),
    ("GET", "gradio_api/vibe-code"),
    ("GET", "gradio_api/dev/reload"),
    ("GET", "gradio_api/runs"),
    ("GET", "monitoring"),
    ("GET", "monitoring/summary"),
    ("POST", "gradio_api/upload"),
    ("POST", "gradio_api/upload/"),
    ("POST", "gradio_api/upload\n"),
    ("POST", "gradio_api//upload"),
    ("POST", "gradio_api/component_server"),
    ("POST", "gradio_api/process_recording"),
    ("POST", "gradio_api/vibe-edit"),
    ("POST", "gradio_api/call/anew"),
    ("POST", "gradio_api/call/v2/anew"),
    ("POST", "gradio_api/api/anew"),
    ("POST", "gradio_api/run/anew"),
    ("POST", "gradio_api/stream/a"),
    ("PUT", "gradio_api/queue/join"),
    ("DELETE", "gradio_api/queue/join"),
    ("GET", "docs"),
    ("GET", "openapi.json"),
    ("GET", "metrics"),
]


@pytest.mark.parametrize(("method", "path"), NOWHERE)
def test_what_the_page_itself_never_calls_is_not_there(space: Space, method: str, path: str) -> None:
    url = f"{space.url}/{path}".replace("\n", "%0A")
    sent: dict[str, Any] = {}
    if method == "POST" and "upload" in path:
        sent = {"files": {"files": ("a.txt", b"a" * 1000)}}
    elif method == "POST":
        sent = {"json": {"data": [], "fn_index": 0, "session_hash": "stranger"}}
    answer = space.http.request(method, url, **sent)
    assert answer.status_code in (403, 404, 405), answer.text[:300]
    assert "root:" not in answer.text


def hostile(component: Any, there: str) -> Any:
    """What a stranger might put into a component: a folder where text fits, numbers out of range, what is no choice."""
    kind = component["type"]
    if kind in ("textbox", "state", "html"):
        return there
    if kind == "dropdown":
        return [there] if component["props"].get("multiselect") else there
    return {"checkbox": True, "number": 1e308, "slider": -1e308}.get(kind, there)


def harmless(component: Any, there: str) -> Any:
    """The component as it is, but for texts, which name a folder: such a call runs to its end."""
    return there if component["type"] == "textbox" else component["props"].get("value")


@pytest.mark.parametrize("fill", [hostile, harmless])
def test_no_raw_call_touches_what_a_visitor_names(space: Space, config: Any, fill: Any) -> None:
    components = {one["id"]: one for one in config["components"]}
    folder, before, called = space.data.parent / FOREIGN, held(space.data), 0
    for event in (one for one in config["dependencies"] if one["backend_fn"]):
        replies: list[str] = []
        asks = event["api_name"].startswith("run")
        for there in (str(folder), *([] if asks else [f"{folder}-that-is-not-there"])):
            data = [fill(components[one], there) for one in event["inputs"]]
            more = {"event_data": {"name": there, "action": "remove", "language": there}, "trigger_id": 1}
            session = f"s{event['id']}-{len(replies)}"
            said = space.call(event["id"], data, session, f"203.0.113.{event['id']}", **more)
            replies.append(NUMBER.sub("", said.replace(there, "THERE")))
        called += 1
        assert SECRET not in "".join(replies), event["api_name"]
        assert len(set(replies)) == 1, event["api_name"]
    assert called > 40
    assert held(space.data) == before
    assert space.touched(FOREIGN) == []
    assert [line for line in space.touched("subprocess.Popen") if "app.py" in line] == []  # no job


def held(data: Path) -> dict[str, bytes]:
    """What a data folder holds, but for the logs of workers."""
    return {str(file): file.read_bytes() for file in data.rglob("*") if file.is_file() and file.suffix != ".log"}


class Asking:
    """A visitor of Chat who calls the queue without the page."""

    def __init__(self, space: Space, config: Any, proxied: str) -> None:
        self.space, self.proxied = space, proxied
        self.components = {one["id"]: one for one in config["components"]}
        self.named = {one["id"]: one["props"].get("elem_id") for one in config["components"]}
        numbers = {name: number for number, name in self.named.items()}
        self.events = {name: self._event(config, numbers[name]) for name in ("send", "stop")}

    def _event(self, config: Any, component: int) -> Any:
        return next(one for one in config["dependencies"] if [component, "click"] in one["targets"])

    def values(self, event: str = "send", **changed: Any) -> list[Any]:
        """What the page would send with an event, but for some components by their id on the page."""
        fixed = {"variants": ["smollm2"], **changed}
        inputs = self.events[event]["inputs"]
        return [fixed.get(self.named[one], self.components[one]["props"].get("value")) for one in inputs]

    def ask(self, session: str, text: str, **changed: Any) -> str:
        """The answer to a question, or why there is none."""
        sent = self.values(ask=text, **changed)
        return self.space.call(self.events["send"]["id"], sent, session, self.proxied)

    def begin(self, session: str, text: str) -> Iterator[dict[str, Any]]:
        """Ask and wait for the first words; the messages that follow."""
        joined = self.space.join(self.events["send"]["id"], self.values(ask=text), session, self.proxied)
        assert joined.status_code == 200, joined.text
        messages = self.space.heard(session)
        assert any("heard" in json.dumps(message) for message in messages)
        return messages

    def stop(self, session: str) -> None:
        """Press Stop."""
        data = self.values("stop", variants=[])
        body = {"fn_index": self.events["stop"]["id"], "data": data, "session_hash": session}
        assert self.space.http.post(f"{self.space.url}/gradio_api/run/stop", json=body).status_code == 200


def test_a_visitor_holds_a_quarter_of_the_places_and_others_are_answered(space: Space, config: Any) -> None:
    greedy = Asking(space, config, "198.51.100.1")
    streams = [greedy.begin(f"greedy{number}", "!long !slow") for number in range(4)]
    for proxied in ("198.51.100.1", "192.0.2.9, 198.51.100.1", "198.51.100.1, 10.1.2.3, 127.0.0.1"):
        said = Asking(space, config, proxied).ask(f"more {proxied}", "one more")
        assert "4 of your questions are being answered" in said
    assert "heard: hello" in Asking(space, config, "198.51.100.2").ask("modest", "hello")
    for number, stream in enumerate(streams):
        greedy.stop(f"greedy{number}")
        assert list(stream)[-1]["msg"] == "process_completed"
    assert "heard: again" in greedy.ask("later", "again")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"text": "x" * 8001}, "8,001 characters; 8,000"),
        ({"text": "a", "system": "x" * 8001}, "8,001 characters; 8,000"),
        ({"text": "a", "stop-strings": ["x" * 100] * 81}, "8,100 characters; 8,000"),
        ({"text": "x" * 2_000_001}, "Content Too Large"),
    ],
)
def test_a_question_and_what_stands_around_it_are_bounded(
    space: Space, config: Any, changed: dict[str, Any], said: str
) -> None:
    assert said in Asking(space, config, "198.51.100.3").ask(f"long {sorted(changed)} {said}", **changed)


def test_a_visitor_asks_so_often_a_minute_under_whatever_session(space: Space, config: Any) -> None:
    eager = Asking(space, config, "198.51.100.4")
    said: list[str] = []
    while not said or "heard: hi" in said[-1]:
        said.append(eager.ask(f"eager{len(said)}", "hi"))
    assert len(said) > 6
    assert "6 questions a minute" in said[-1]
