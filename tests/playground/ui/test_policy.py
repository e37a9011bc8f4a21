"""The Content-Security-Policy of what is served: pages, files, answers to calls and the form in front of them."""

import asyncio
import base64
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from playground.settings import Settings
from playground.ui.door import shut

from .served import API, HERE, Page, page_of


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page_of(Settings(data=tmp_path_factory.mktemp("data"))) as page:
        yield page


def get(page: Page, path: str, **headers: str) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with page.client() as http:
            return await http.get(path, headers=headers)

    return asyncio.run(asked())


def rules(answer: httpx.Response) -> dict[str, list[str]]:
    said = answer.headers.get("content-security-policy", "")
    return {name: values for name, *values in (rule.split() for rule in said.split(";") if rule.strip())}


def digests(html: str, kind: str) -> set[str]:
    """The hashes that a browser takes of what is written out in a page."""
    texts = re.findall(rf"<{kind}(?:\s(?!src=)[\w-]+(?:=\"[^\"]*\")?)*>(.*?)</{kind}>", html, re.DOTALL)
    assert texts
    return {f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts}


@pytest.mark.parametrize("encoding", ["identity", "gzip, br"])
def test_a_page_runs_its_own_scripts_and_no_others(page: Page, encoding: str) -> None:
    answer = get(page, "/", **{"accept-encoding": encoding})
    said = rules(answer)
    ours = digests(answer.text, "script")
    assert set(said["script-src"]) == ours | {"'self'", "'unsafe-eval'"}
    assert said["default-src"] == said["connect-src"] == said["form-action"] == said["base-uri"] == ["'self'"]
    assert said["object-src"] == said["frame-src"] == ["'none'"]
    assert said["frame-ancestors"] == ["'self'"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert re.search(r"<[a-z][^>]*\son\w+\s*=", answer.text) is None, "an inline handler"


@pytest.mark.parametrize(
    "path", ["/?x=<script>1</script>", "/?deep_link=<script>1</script>", "/?__theme=</script><script>1"]
)
def test_what_is_asked_for_becomes_no_script_of_ours(page: Page, path: str) -> None:
    assert len(rules(get(page, path))["script-src"]) == len(rules(get(page, "/"))["script-src"])


@pytest.mark.parametrize("path", [f"{API}/info", f"{API}/file=x.html", f"{API}/app_id", "/config"])
def test_what_is_no_page_does_nothing(page: Page, path: str) -> None:
    said = rules(get(page, path))
    assert said["default-src"] == said["frame-ancestors"] == ["'none'"]
    assert "sandbox" in said


def test_only_the_hub_shows_a_space_in_a_frame(tmp_path: Path) -> None:
    with page_of(Settings(data=tmp_path, mode="space")) as space:
        said = rules(get(space, "/"))
    assert said["frame-ancestors"] == said["connect-src"] == ["'self'", "https://huggingface.co"]


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_form_in_front_runs_nothing(language: Literal["ko", "en"]) -> None:
    app = FastAPI(openapi_url=None)
    shut(app, Settings(api_keys=SecretStr("sk-1"), language=language))

    async def asked(method: str, path: str, **sent: Any) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HERE) as http:
            return await http.request(method, path, headers={"accept": "text/html"}, **sent)

    for answer in (asyncio.run(asked("GET", "/")), asyncio.run(asked("POST", "/", data={"key": "sk-wrong"}))):
        said = rules(answer)
        assert said["default-src"] == ["'none'"]
        assert said["form-action"] == said["frame-ancestors"] == ["'self'"]
        assert set(said["style-src"]) == digests(answer.text, "style")
        assert "script" not in answer.text
    gone = asyncio.run(asked("POST", f"{HERE}//elsewhere.example/x", data={"key": "sk-1"}))
    assert (gone.status_code, gone.headers["location"]) == (303, "./x")
