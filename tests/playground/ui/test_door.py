"""Who comes onto the page: rebound names, other sites' pages, other machines, and people with a key."""

import asyncio
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from pydantic import SecretStr

from playground.settings import Settings
from playground.ui import door
from playground.ui.door import COOKIE, shut

HERE = "http://127.0.0.1:7860"
KEY, OTHER = "sk-first-and-secret", "sk-other"
FORM = {"content-type": "application/x-www-form-urlencoded"}
PATHS = ("/", "/config", "/gradio_api/info", "/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/heartbeat/x")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "PAUSE_S", 0.0)


def app(**settings: Any) -> FastAPI:
    made = FastAPI(openapi_url=None)
    shut(made, Settings(**settings))
    made.mount("/", PlainTextResponse("the page"))
    return made


def ask(
    it: FastAPI,
    path: str = "/",
    method: str = "GET",
    client: str = "127.0.0.1",
    url: str = HERE,
    cookies: dict[str, str] | None = None,
    **sent: Any,
) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(it, client=(client, 5000))
        async with httpx.AsyncClient(transport=transport, base_url=url, cookies=cookies) as http:
            return await http.request(method, path, **sent)

    return asyncio.run(asked())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("status", "how"),
    [
        (200, {}),
        (200, {"url": "http://localhost:7860"}),
        (200, {"headers": {"origin": HERE}}),
        (403, {"url": "http://rebound.example:7860"}),
        (403, {"headers": {"origin": "http://evil.example"}}),
        (403, {"headers": {"origin": "null"}}),
        (403, {"headers": {"origin": "http://127.0.0.1:8000"}}),
        (403, {"headers": {"sec-fetch-site": "cross-site"}}),
        (403, {"headers": {"x-forwarded-for": "1.2.3.4"}}),
        (403, {"client": "192.168.0.7"}),
    ],
)
def test_without_a_key_this_machine_alone(path: str, status: int, how: dict[str, Any]) -> None:
    for method in ("GET", "POST"):
        assert ask(app(), path, method, **how).status_code == status


@pytest.mark.parametrize("path", PATHS)
def test_with_a_key_every_path_asks_for_it(path: str) -> None:
    it = app(api_keys=SecretStr(f"{KEY},{OTHER}"))
    for method in ("GET", "POST"):
        assert ask(it, path, method).status_code == 401
        assert ask(it, path, method, headers={"authorization": "Bearer sk-wrong"}).status_code == 401
        assert ask(it, path, method, headers={"cookie": COOKIE.encode() + b"=\xff"}).status_code == 401
        assert ask(it, path, method, client="10.0.0.1", headers={"authorization": f"Bearer {OTHER}"}).text == "the page"


def test_a_key_in_the_form_opens_the_page_for_this_browser() -> None:
    it = app(api_keys=SecretStr(KEY), host="0.0.0.0")
    there: dict[str, Any] = {"client": "10.0.0.1", "url": "http://lab.example:7860"}
    assert ask(it, "/health", **there).text == "the page"  # for load balancers
    form = ask(it, headers={"accept": "text/html", "accept-language": "ko-KR"}, **there)
    assert (form.status_code, "들어가기" in form.text, KEY in form.text) == (401, True, False)
    wrong = ask(it, "/", "POST", headers=FORM, content="key=sk-wrong", **there)
    assert (wrong.status_code, "no key of this server" in wrong.text, len(wrong.cookies)) == (401, True, 0)
    right = ask(it, "/?theme=dark", "POST", headers=FORM, content=f"key={KEY}", **there)
    assert (right.status_code, right.headers["location"]) == (303, "./")
    said = right.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=lax" in said
    assert KEY not in said
    cookies = {COOKIE: right.cookies[COOKIE]}
    assert ask(it, "/config", cookies=cookies, **there).text == "the page"
    assert ask(app(api_keys=SecretStr(OTHER)), "/config", cookies=cookies).status_code == 401


def test_a_cookie_serves_no_page_of_another_site() -> None:
    it = app(api_keys=SecretStr(KEY))
    cookies = {COOKIE: ask(it, "/", "POST", headers=FORM, content=f"key={KEY}").cookies[COOKIE]}
    join = "/gradio_api/queue/join"
    assert ask(it, join, "POST", cookies=cookies, headers={"origin": "http://evil.example"}).status_code == 403
    proxied = {"origin": "https://lab.example", "host": "127.0.0.1:7860", "x-forwarded-host": "lab.example"}
    assert ask(it, join, "POST", cookies=cookies, headers=proxied).status_code == 200
    silent = {"origin": "https://lab.example", "sec-fetch-site": "same-origin"}  # of a proxy that tells no name
    assert ask(it, join, "POST", cookies=cookies, headers=silent).status_code == 200


@pytest.mark.parametrize(
    ("at", "asked", "lands"),
    [
        ("https://lab.example/madang/", "/", "https://lab.example/madang/"),  # what the proxy hands on has no prefix
        ("https://lab.example/madang/logs/day", "/logs/day", "https://lab.example/madang/logs/day"),
        ("https://lab.example//evil.example", "//evil.example", "https://lab.example/evil.example"),
        ("https://lab.example/https:evil.example", "/https:evil.example", "https://lab.example/https:evil.example"),
    ],
)
def test_who_signs_in_stays_where_the_proxy_serves_the_page(at: str, asked: str, lands: str) -> None:
    answer = ask(app(api_keys=SecretStr(KEY)), HERE + asked, "POST", headers=FORM, content=f"key={KEY}")
    assert urljoin(at, answer.headers["location"]) == lands


@pytest.mark.parametrize("keys", ["", KEY])
@pytest.mark.parametrize(
    ("status", "path", "method", "changed"),
    [
        (200, "/", "GET", {}),
        (200, "/?theme=dark", "GET", {"sec-fetch-site": "same-site"}),
        (403, "/", "POST", {}),
        (403, "/", "GET", {"sec-fetch-dest": "iframe"}),
        (403, "/", "GET", {"sec-fetch-dest": "script"}),
        (403, "/", "GET", {"origin": "https://wiki.example"}),
        (403, "/config", "GET", {}),
        (403, "/gradio_api/info", "GET", {}),
    ],
)
def test_a_link_on_another_site_opens_the_page(
    keys: str, status: int, path: str, method: str, changed: dict[str, str]
) -> None:
    it = app(api_keys=SecretStr(keys))
    cookies = {COOKIE: ask(it, "/", "POST", headers=FORM, content=f"key={KEY}").cookies[COOKIE]} if keys else None
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", **changed}
    assert ask(it, path, method, cookies=cookies, headers=headers).status_code == status


def test_a_form_without_end_is_no_key() -> None:
    it = app(api_keys=SecretStr(KEY))
    assert ask(it, "/", "POST", headers=FORM, content=f"key={KEY}&x=" + "y" * 5000).status_code == 401


def test_a_space_is_open() -> None:
    assert ask(app(mode="space"), url="https://someone-madang.hf.space", client="10.0.0.1").text == "the page"
