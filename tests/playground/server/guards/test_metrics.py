"""What Prometheus reads: counted as requests end, with labels that no client can multiply."""

import asyncio
from pathlib import Path

import httpx
import pytest
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families

from playground.server.guards.metrics import MODELS, Meters
from playground.server.guards.record import Record
from tests.playground.server.small_app import Small, small


def value(meters: Meters, name: str, **labels: str) -> float | None:
    return meters.registry.get_sample_value(name, labels)


def count(meters: Meters, route: str, model: str, status: str) -> float | None:
    return value(meters, "madang_requests_total", route=route, model=model, status=status)


def ask(app: Small, *paths: tuple[str, str]) -> list[httpx.Response]:
    async def asked() -> list[httpx.Response]:
        async with app.client() as it:
            return [await it.request(method, path, content=b"") for method, path in paths]

    return asyncio.run(asked())


def test_requests_are_counted_by_route_model_and_status(tmp_path: Path) -> None:
    app = small(tmp_path)
    ask(app, ("POST", "/v1/echo"), ("POST", "/v1/echo"), ("POST", "/v1/bug"), ("GET", "/v1/models/made:up"))
    ask(app, ("GET", "/v1/echo"), ("GET", "/v1/none/one"), ("GET", "/v1/none/two"), ("GET", "/health"), ("GET", "/"))
    meters: Meters = app.app.state.meters
    assert count(meters, "/v1/echo", "small", "200") == 2
    assert count(meters, "/v1/bug", "none", "500") == 1
    assert count(meters, "/v1/models/{model}", "none", "200") == 1
    assert count(meters, "other", "none", "200") == 3
    assert value(meters, "madang_prompt_tokens_total", model="small") == 6
    assert value(meters, "madang_answer_tokens_total", model="small") == 8
    assert value(meters, "madang_request_seconds_count", route="/v1/echo", model="small") == 2
    assert value(meters, "madang_first_byte_seconds_count", route="/v1/echo", model="small") == 2
    assert value(meters, "madang_first_token_seconds_count", route="/v1/echo", model="small") is None


def test_the_page_of_metrics_is_in_prometheus_own_format(tmp_path: Path) -> None:
    app = small(tmp_path)
    _, page = ask(app, ("POST", "/v1/echo"), ("GET", "/metrics"))
    assert page.headers["content-type"] == CONTENT_TYPE_LATEST
    found = {family.name for family in text_string_to_metric_families(page.text)}
    assert {"madang_requests", "madang_requests_in_flight", "madang_request_seconds", "madang_answer_tokens"} <= found
    assert 'madang_requests_total{model="small",route="/v1/echo",status="200"} 1.0' in page.text
    assert "/metrics" not in page.text.replace("# ", "")


def test_each_app_counts_for_itself(tmp_path: Path) -> None:
    one, other = small(tmp_path), small(tmp_path)
    ask(one, ("POST", "/v1/echo"))
    assert count(other.app.state.meters, "/v1/echo", "small", "200") is None


def test_what_runs_and_what_waits(tmp_path: Path) -> None:
    async def scene() -> list[tuple[float | None, float | None]]:
        app, seen = small(tmp_path), []
        meters: Meters = app.app.state.meters

        def look() -> None:
            seen.append((value(meters, "madang_requests_in_flight"), value(meters, "madang_requests_waiting")))

        async with app.client() as it:
            await it.get("/v1/models/x")
            look()
            running = asyncio.create_task(it.post("/v1/stream", content=b""))
            while value(meters, "madang_requests_in_flight") == 0:
                await asyncio.sleep(0)
            look()
            await app.began.wait()
            look()
            app.go.set()
            await running
            look()
        return seen

    assert asyncio.run(scene()) == [(0, 0), (1, 1), (1, 0), (0, 0)]


@pytest.mark.parametrize(
    ("reason", "changes", "client", "asked"),
    [
        ("key", {"api_keys": "sk-1"}, {}, {}),
        ("place", {}, {"address": "203.0.113.9"}, {}),
        ("host", {}, {"url": "http://evil.example"}, {}),
        ("origin", {}, {}, {"headers": {"Origin": "https://evil.example"}}),
        ("body", {"api_max_body_mb": 0.001}, {}, {"content": bytes(1001)}),
    ],
)
def test_what_is_turned_away_is_counted_by_reason(
    tmp_path: Path, reason: str, changes: dict[str, object], client: dict[str, str], asked: dict[str, object]
) -> None:
    app = small(tmp_path, **changes)

    async def scene() -> None:
        async with app.client(**client) as it:
            await it.post("/v1/echo", **asked)  # type: ignore[arg-type]

    asyncio.run(scene())
    meters: Meters = app.app.state.meters
    assert value(meters, "madang_requests_rejected_total", reason=reason) == 1
    assert value(meters, "madang_request_seconds_count", route="other", model="none") is None


def test_a_first_token_is_timed_where_a_route_tells_of_it() -> None:
    meters, record = Meters(), Record(route="/v1/completions", model="m", first_token_s=0.2, seconds=3, status=200)
    meters.observe(record)
    bucket = {"route": "/v1/completions", "model": "m"}
    assert value(meters, "madang_first_token_seconds_bucket", le="0.25", **bucket) == 1
    assert value(meters, "madang_first_token_seconds_bucket", le="0.1", **bucket) == 0
    assert value(meters, "madang_request_seconds_sum", **bucket) == 3


def test_the_first_token_is_the_first() -> None:
    record = Record()
    record.first_token()
    first = record.first_token_s
    record.first_token()
    assert first is not None
    assert record.first_token_s == first


def test_more_models_than_a_catalogue_holds_share_a_label() -> None:
    meters = Meters()
    for number in range(MODELS + 50):
        meters.tokens(f"model {number}", 1, 0)
    meters.tokens("model 3", 1, 0)
    assert value(meters, "madang_prompt_tokens_total", model="other") == 50
    assert value(meters, "madang_prompt_tokens_total", model="model 3") == 2
    assert value(meters, "madang_prompt_tokens_total", model=f"model {MODELS}") is None
