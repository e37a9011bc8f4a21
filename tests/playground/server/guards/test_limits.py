"""How much the API takes: bodies, places in the queue, requests a minute. Hang-ups are seen and free their place."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from playground.compare import Playground
from playground.errors import ConfigError
from playground.events import Finished
from playground.presets import Sampling
from playground.server.app import create
from playground.server.guards import stack
from playground.server.guards.limits import BUCKETS, Body, Limits, Queue, Rate, _lasting
from playground.server.guards.record import Record, record_of
from playground.settings import Settings, load_settings
from tests.playground.server.conftest import HeardPool, serving, until
from tests.playground.server.small_app import KEY, OTHER, served, small

MB = 1_000_000


async def parts(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(size)


def test_the_caps_come_from_the_settings() -> None:
    settings = Settings(
        api_max_body_mb=0.5, api_max_prompt_tokens=10, api_max_tokens=7, api_queue=3, api_rate_per_minute=9
    )
    limits = Limits.of(settings)
    assert limits.model_dump() == {
        "body_bytes": 500_000,
        "prompt_tokens": 10,
        "answer_tokens": 7,
        "queue": 3,
        "rate_per_minute": 9,
    }
    assert limits.prompt_characters == 160


def test_no_answer_is_longer_than_a_sampling_can_be() -> None:
    most = load_settings(api_max_tokens=131_072).api_max_tokens
    assert Sampling(max_new_tokens=most).max_new_tokens == most
    with pytest.raises(ConfigError, match="api_max_tokens = 131073"):
        load_settings(api_max_tokens=most + 1)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("size", "status"), [(MB, 200), (MB + 1, 413)])
def test_a_body_that_is_too_large(tmp_path: Path, streamed: bool, size: int, status: int) -> None:
    async def asked() -> httpx.Response:
        async with small(tmp_path, api_max_body_mb=1).client() as it:
            return await it.post("/v1/echo", content=parts(size, 1) if streamed else bytes(size))

    answer = asyncio.run(asked())
    assert answer.status_code == status
    if status == 413:
        assert answer.json()["error"]["code"] == "request_too_large"
        assert "1 MB" in answer.json()["error"]["message"]
    else:
        assert answer.json() == {"size": size}


def test_a_body_without_an_end_is_read_no_further_than_the_limit() -> None:
    read = 0

    async def receive() -> Message:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": bytes(100), "more_body": True}

    answer = asyncio.run(_through(Body(_never, 1000), receive))
    assert answer[0]["status"] == 413
    assert read == 11


def test_a_length_that_is_a_lie_or_no_number_is_counted_all_the_same() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(2000), "more_body": False}

    for declared in (b"10", b"-1", b"ten", "２".encode()):
        answer = asyncio.run(_through(Body(_never, 1000), receive, [(b"content-length", declared)]))
        assert answer[0]["status"] == 413


def test_a_length_that_is_too_large_is_refused_before_anything_is_read() -> None:
    async def receive() -> Message:
        raise AssertionError("the client was asked to send")

    assert asyncio.run(_through(Body(_never, 1000), receive, [(b"content-length", b"1001")]))[0]["status"] == 413


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    assert asyncio.run(_through(Body(_never, 1000, wait_s=0), receive))[0]["status"] == 408


def test_a_client_that_leaves_while_it_uploads_is_not_answered() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    assert asyncio.run(_through(Body(_never, 1000), receive)) == []


def test_a_large_upload_to_a_real_server_gets_its_answer(tmp_path: Path) -> None:
    app = small(tmp_path, api_max_body_mb=1)
    with served(app.app) as url, httpx.Client(base_url=url) as client:
        for content in (bytes(30 * MB), (bytes(MB) for _ in range(30))):
            assert client.post("/v1/echo", content=content).status_code == 413
        assert client.post("/v1/echo", content=bytes(MB)).json() == {"size": MB}


def test_a_full_queue_tells_when_to_come_again(tmp_path: Path) -> None:
    async def scene() -> None:
        app = small(tmp_path, api_queue=2)
        async with app.client() as it:
            running = [asyncio.create_task(it.post("/v1/stream", content=b"{}")) for _ in range(2)]
            await app.began.wait()
            await asyncio.sleep(0)
            refused = await it.post("/v1/echo", content=b"{}")
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
            assert (await it.get("/v1/models/x")).status_code == 200
            app.go.set()
            assert [answer.text for answer in await asyncio.gather(*running)] == ["data: one\n\ndata: two\n\n"] * 2
            assert (await it.post("/v1/echo", content=b"{}")).status_code == 200

    asyncio.run(scene())


def test_an_error_gives_its_place_back(tmp_path: Path) -> None:
    async def scene() -> None:
        async with small(tmp_path, api_queue=1).client() as it:
            for path, status in (("/v1/bug", 500), ("/v1/none", 200), ("/v1/bug", 500), ("/v1/echo", 200)):
                assert (await it.post(path, content=b"")).status_code == status

    asyncio.run(scene())


def test_a_client_that_hangs_up_is_seen_and_gives_its_place_back(tmp_path: Path) -> None:
    app = small(tmp_path, api_queue=1)
    with served(app.app) as url, httpx.Client(base_url=url) as client:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as plug:
            plug.sendall(f"POST /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\r\n".encode())
            received = b""
            while b"one" not in received:
                received += plug.recv(4096)
            assert client.post("/v1/echo").status_code == 429
        while client.post("/v1/echo").status_code == 429:
            time.sleep(0.01)
        assert app.closed.is_set()
        assert "madang_clients_left_total 1.0" in client.get("/metrics").text


def test_a_client_that_reads_nothing_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stack, "Queue", partial(Queue, stall_s=0.5))
    row = "[[variant]]\nname = 'base'\nkind = 'base'\nsource = 'fake:base'\ncontext = 200_000\n"
    (tmp_path / "variants.toml").write_text(row, encoding="utf-8")
    settings = Settings(data=tmp_path, api_queue=1, api_max_tokens=100_000)
    pool = HeardPool(settings)
    asked = {"model": "base", "messages": [{"role": "user", "content": "!long" + "x" * 100}], "max_tokens": 100_000}
    body = json.dumps(asked | {"logprobs": True, "top_logprobs": 20, "stream": True}).encode()
    with (
        serving(create(Playground(settings, pool=pool))) as url,
        httpx.Client(base_url=url, timeout=30) as client,
        socket.socket() as plug,
    ):
        monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
        caplog.set_level(logging.ERROR, "uvicorn.error")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plug.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        plug.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        ping = {"model": "base", "content": "a"}
        until(lambda: client.post("/tokenize", json=ping).status_code == 429)
        until(lambda: client.post("/tokenize", json=ping).status_code == 200)
        until(lambda: any(isinstance(event, Finished) for event in pool.heard))
        metrics = client.get("/metrics").text
    pool.close()
    [finished] = [event for event in pool.heard if isinstance(event, Finished)]
    assert finished.reason == "cancelled"
    assert "madang_clients_left_total 1.0" in metrics
    assert not [record for record in caplog.records if record.exc_info]


def test_the_last_byte_frees_the_place_before_a_slow_client_has_read_it() -> None:
    held: list[int] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    queue = Queue(answer, 1)

    async def send(message: Message) -> None:
        held.append(len(queue.held))

    asyncio.run(queue({"type": "http", "method": "POST", "headers": []}, _nothing, send))
    assert held == [1, 1, 0]


def test_those_without_a_byte_of_their_answer_wait() -> None:
    queue = Queue(_never, 9)
    queue.held = {Record(), Record(first_token_s=0.1), Record(first_byte_s=0.1), Record()}
    assert queue.waiting() == 2


class Minutes:
    """A rate of 6 a minute with a clock that the test turns."""

    def __init__(self, a_minute: int | None = 6) -> None:
        self.now = 1000.0
        self.rate = Rate(self._answer, a_minute, lambda: self.now)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    def ask(self, caller: str = "key 1") -> tuple[int, dict[str, str]]:
        answer = asyncio.run(_through(self.rate, _nothing, caller=caller))
        return answer[0]["status"], {name.decode(): text.decode() for name, text in answer[0]["headers"]}


def test_a_rate_is_kept_and_told() -> None:
    minutes = Minutes()
    told = [minutes.ask() for _ in range(7)]
    assert [status for status, _ in told] == [200] * 6 + [429]
    assert [headers["x-ratelimit-remaining-requests"] for _, headers in told] == ["5", "4", "3", "2", "1", "0", "0"]
    assert told[0][1]["x-ratelimit-limit-requests"] == "6"
    assert [told[i][1]["x-ratelimit-reset-requests"] for i in (0, 5)] == ["10s", "1m0s"]
    assert told[6][1]["retry-after"] == "10"


def test_who_comes_again_when_told_is_served_and_another_key_has_its_own_rate() -> None:
    minutes = Minutes()
    while minutes.ask()[0] == 200:
        pass
    assert minutes.ask("key 2")[0] == 200
    minutes.now += 9.9
    assert minutes.ask()[0] == 429
    minutes.now += 0.1
    assert [minutes.ask()[0], minutes.ask()[0]] == [200, 429]
    minutes.now += 3600
    assert [minutes.ask()[0] for _ in range(7)] == [200] * 6 + [429]


def test_no_rate_no_headers() -> None:
    assert Minutes(None).ask() == (200, {})


def test_callers_of_the_past_are_forgotten() -> None:
    minutes = Minutes()
    buckets = minutes.rate.buckets
    assert buckets is not None
    for number in range(BUCKETS):
        buckets.take(f"{number}")
    minutes.now += 30
    minutes.ask("0")
    minutes.now += 30
    minutes.ask("new")
    assert set(buckets.by_caller) == {"0", "new"}


def test_each_key_has_a_rate_of_its_own_and_no_key_none(tmp_path: Path) -> None:
    async def scene() -> None:
        app = small(tmp_path, api_keys=f"{KEY},{OTHER}", api_rate_per_minute=2)
        async with app.client(key=KEY) as one, app.client(key=OTHER) as other, app.client(key="wrong") as wrong:
            assert [(await one.get("/v1/models/x")).status_code for _ in range(3)] == [200, 200, 429]
            assert [(await wrong.get("/v1/models/x")).status_code for _ in range(3)] == [401] * 3
            refused = await one.post("/v1/echo")
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
            assert int(refused.headers["retry-after"]) in (29, 30)
            assert (await other.get("/v1/models/x")).headers["x-ratelimit-remaining-requests"] == "1"
            assert (await one.get("/metrics")).status_code == 200
            assert (await one.get("/health")).status_code == 200

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0ms"), (0.02, "20ms"), (8.64, "8.64s"), (60, "1m0s"), (59.999, "1m0s"), (90.5, "1m30.5s")],
)
def test_times_are_told_as_openai_tells_them(seconds: float, said: str) -> None:
    assert _lasting(seconds) == said


async def _never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("the app was reached")


async def _nothing() -> Message:
    return {"type": "http.request", "body": b""}


async def _through(
    app: Body | Rate, receive: Receive, headers: list[tuple[bytes, bytes]] | None = None, caller: str = ""
) -> list[Message]:
    """What a guard sends by itself."""
    sent: list[Message] = []
    scope: Scope = {"type": "http", "method": "POST", "headers": headers or []}
    record_of(scope).caller = caller

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent
