"""The API's log: one line of JSON for each request, and nothing in it that is a secret."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from playground.server.guards.record import LOGGER, Record, RequestLog, log_to
from playground.server.guards.stack import Recorder
from tests.playground.server.small_app import KEY, Small, small

PROMPT = "내 비밀 prompt"
BODY = {"model": "small", "messages": [{"role": "user", "content": PROMPT}], "user": "someone"}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a server that logs would print, with everything that other loggers say but the client's own."""
    logging.getLogger("httpx").propagate = False
    stream = io.StringIO()
    everything = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level, LOGGER.level
    root.addHandler(everything)
    root.setLevel(logging.DEBUG)
    log_to(stream)
    yield stream
    root.removeHandler(everything)
    root.setLevel(before[0])
    LOGGER.handlers.clear()
    LOGGER.setLevel(before[1])
    LOGGER.propagate = logging.getLogger("httpx").propagate = True


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]


def ask(app: Small, path: str = "/v1/echo", key: str = "", **options: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with app.client(key=key) as it:
            return await it.post(path, **options)

    return asyncio.run(asked())


def test_one_line_tells_of_a_request_and_names_it_as_the_answer_does(tmp_path: Path, log: io.StringIO) -> None:
    answer = ask(small(tmp_path), json=BODY)
    (line,) = lines(log)
    assert line["id"] == answer.headers["x-request-id"]
    assert line["id"].startswith("req_")
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line.pop("seconds") >= 0
    del line["id"]
    assert line == {
        "method": "POST",
        "route": "/v1/echo",
        "model": "small",
        "status": 200,
        "prompt_tokens": 3,
        "answer_tokens": 4,
        "client": "127.0.0.1",
    }


@pytest.mark.parametrize("prompts", [False, True])
@pytest.mark.parametrize("path", ["/v1/echo", "/v1/bug", "/v1/none"])
def test_no_key_no_header_no_query_and_no_prompt_is_logged(
    tmp_path: Path, log: io.StringIO, prompts: bool, path: str
) -> None:
    app = small(tmp_path, api_keys=KEY, api_log_prompts=prompts, api_rate_per_minute=2)
    for key in (KEY, f"{KEY}-wrong", KEY, KEY):
        ask(
            app, f"{path}?key={KEY}&secret=in-the-query", key, json=BODY | {"api_key": KEY}, headers={"Cookie": "crumb"}
        )
    ask(app, f"/v1/{KEY}", KEY, json=BODY)
    told = log.getvalue()
    assert len(lines(log)) == 5
    for secret in (KEY, "in-the-query", "Bearer", "crumb", "someone"):
        assert secret not in told
    asked = [line["asked"] for line in lines(log) if "asked" in line]
    assert (PROMPT in str(asked)) == prompts
    assert all("asked" not in line for line in lines(log) if line["status"] == 401)
    if not prompts:
        assert "prompt" not in told.replace("prompt_tokens", "")
        assert json.dumps(PROMPT)[1:9] not in told


def test_every_ending_has_its_line(tmp_path: Path, log: io.StringIO) -> None:
    app = small(tmp_path, api_keys=KEY)
    broken = ask(app, "/v1/bug", KEY)
    refused = ask(app)
    told = {line["id"]: line for line in lines(log)}
    assert (broken.status_code, refused.status_code) == (500, 401)
    assert told[broken.headers["x-request-id"]]["status"] == 500
    assert broken.headers["x-request-id"] in broken.json()["error"]["message"]
    assert told[refused.headers["x-request-id"]]["rejected"] == "key"
    assert told[refused.headers["x-request-id"]]["route"] == "other"


def test_a_client_that_left_is_told_of(tmp_path: Path, log: io.StringIO) -> None:
    app = small(tmp_path)

    async def gone(path: str) -> None:
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": path, "headers": [(b"host", b"localhost")]}
        scope |= {"client": ("127.0.0.1", 1), "query_string": b"", "asgi": {"spec_version": "2.3"}}
        received = iter([{"type": "http.request"}, {"type": "http.disconnect"}] if path == "/v1/stream" else [])

        async def receive() -> Any:
            await asyncio.sleep(0)
            return next(received, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            await asyncio.sleep(0)

        await app.app(scope, receive, send)

    asyncio.run(gone("/v1/echo"))
    asyncio.run(gone("/v1/stream"))
    early, late = lines(log)
    assert (early["status"], early["left"]) == (499, True)
    assert (late["status"], late["left"]) == (200, True)


def test_health_the_page_and_metrics_are_not_logged(tmp_path: Path, log: io.StringIO) -> None:
    for path in ("/health", "/", "/metrics"):
        ask(small(tmp_path), path)
    assert lines(log) == []


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"prompt": "a\\nb\\u2028\\u001b[2J", "n": 1}', {"prompt": "a\nb\u2028\x1b[2J"}),
        (b'{"prompt": [1, 2]}', {"prompt": [1, 2]}),
        (b'{"content": "x"}', {"content": "x"}),
        (b"not JSON", None),
        (b"\xff\xfe\xff", None),
        (b"[" * 100_000, None),
        (b'["prompt"]', None),
        (b"", None),
    ],
)
def test_what_was_asked_is_one_line_of_plain_ascii(log: io.StringIO, body: bytes, asked: object) -> None:
    RequestLog(prompts=True).write(Record(body=body))
    assert log.getvalue().isascii()
    assert len(log.getvalue().splitlines()) == 1
    assert "\x1b" not in log.getvalue()
    assert lines(log)[0].get("asked") == asked


def test_prompts_are_left_out_whatever_the_record_holds(log: io.StringIO) -> None:
    RequestLog(prompts=False).write(Record(body=b'{"prompt": "x"}'))
    assert "asked" not in lines(log)[0]


def test_the_end_of_an_answer_is_no_hang_up() -> None:
    ended: list[Record] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all"})
        assert (await receive())["type"] == "http.disconnect"

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        return None

    asyncio.run(Recorder(app, [ended.append])({"type": "http", "method": "POST"}, receive, send))
    assert [(record.left, record.status, record.first_byte_s is None) for record in ended] == [(False, 200, False)]


def test_nothing_is_written_where_nobody_listens(capfd: pytest.CaptureFixture[str]) -> None:
    RequestLog(prompts=True).write(Record(body=b'{"prompt": "x"}'))
    assert capfd.readouterr() == ("", "")
