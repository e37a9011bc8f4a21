"""Pages of other sites at the API: those that the owner named, with a key."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from playground.errors import ConfigError
from playground.settings import Settings
from tests.playground.server.small_app import KEY, small

MINE, FOREIGN = "https://my.site", "https://evil.example"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}


def ask(tmp_path: Path, method: str, origin: str, origins: str = MINE, **sent: Any) -> httpx.Response:
    """The answer to a page's request."""
    it = small(tmp_path, api_keys=KEY, api_origins=origins, api_rate_per_minute=9)
    key, headers = sent.pop("key", ""), {"origin": origin, "sec-fetch-site": "cross-site", **sent.pop("headers", {})}

    async def asked() -> httpx.Response:
        async with it.client("198.51.100.1", "https://madang.example", key) as http:
            return await http.request(method, sent.pop("path", "/v1/echo"), headers=headers, **sent)

    return asyncio.run(asked())


def test_a_preflight_is_answered_before_the_keys(tmp_path: Path) -> None:
    answer = ask(tmp_path, "OPTIONS", MINE, headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == MINE
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", "http://my.site", "https://my.site.evil.example", "https://my.sit"]
)
def test_other_pages_are_not_let_in(tmp_path: Path, origin: str) -> None:
    for method, headers in (("OPTIONS", PREFLIGHT), ("POST", {})):
        answer = ask(tmp_path, method, origin, headers=headers, key=KEY)
        assert "access-control-allow-origin" not in answer.headers
    assert ask(tmp_path, "OPTIONS", origin, headers=PREFLIGHT).status_code == 400


def test_a_page_needs_a_key_and_may_read_why(tmp_path: Path) -> None:
    without = ask(tmp_path, "POST", MINE, json={})
    assert without.status_code == 401
    assert without.headers["access-control-allow-origin"] == MINE
    answer = ask(tmp_path, "POST", MINE, json={}, key=KEY)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == MINE
    assert answer.headers["access-control-expose-headers"] == "*"  # x-request-id and what is left of the rate


def test_every_page_may_be_named_but_no_cookie_is_heeded(tmp_path: Path) -> None:
    cookie = {"cookie": "madang=anything"}
    answer = ask(tmp_path, "POST", FOREIGN, origins="*", json={}, key=KEY, headers=cookie)
    assert answer.status_code == 200
    assert "access-control-allow-credentials" not in answer.headers
    assert ask(tmp_path, "POST", FOREIGN, origins="*", json={}, headers=cookie).status_code == 401


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/queue/join"])
def test_the_page_is_opened_to_nobody(tmp_path: Path, path: str) -> None:
    assert "access-control-allow-origin" not in ask(tmp_path, "GET", MINE, path=path).headers


def test_by_default_no_page_is_let_in(tmp_path: Path) -> None:
    assert ask(tmp_path, "OPTIONS", MINE, origins="", headers=PREFLIGHT).status_code == 401
    assert "access-control-allow-origin" not in ask(tmp_path, "POST", MINE, origins="", json={}, key=KEY).headers


def test_without_a_key_no_page_can_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no key is set"):
        small(tmp_path, api_origins=MINE)


@pytest.mark.parametrize(
    "wrong", ["my.site", "https://my.site/", "https://my.site/a", "null", "ftp://a", "https://A", "https://a b"]
)
def test_what_is_no_origin_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="is no origin"):
        Settings(api_origins=f"{MINE}, {wrong}")
