"""The API as a program: models loaded first, faults that end it, and where it is served beside the page."""

import socket
import threading
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from playground.compare import Playground
from playground.errors import MadangError, SetupError, VariantError
from playground.server import app, serving
from playground.settings import Settings
from tests.playground.server.conftest import CATALOGUE, until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "variants.toml").write_text(CATALOGUE, encoding="utf-8")
    return Settings(data=tmp_path, port=free_port())


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[serving.Server]:
    """Every server that is made, so that a test can end it."""
    made: list[serving.Server] = []

    class Kept(serving.Server):
        def __init__(self, app: FastAPI, playground: Playground) -> None:
            super().__init__(app, playground)
            made.append(self)

    monkeypatch.setattr(serving, "Server", Kept)
    return made


def test_models_that_are_named_are_loaded_first(settings: Settings, servers: list[serving.Server]) -> None:
    running = threading.Thread(target=app.run, args=(settings, ["one", "other"]))
    running.start()
    url = f"http://127.0.0.1:{settings.port}"
    until(lambda: bool(servers) and servers[0].started)
    first = httpx.get(f"{url}/health").status_code
    until(lambda: httpx.get(f"{url}/health").status_code == 200)
    assert first in (200, 503)
    body = {"model": "other", "prompt": "a", "temperature": 0, "max_tokens": 99}
    assert httpx.post(f"{url}/v1/completions", json=body).json()["choices"][0]["text"] == "other heard: a"
    servers[0].should_exit = True
    running.join(20)
    assert not running.is_alive()


def test_health_is_503_until_they_are_there(settings: Settings) -> None:
    playground = Playground(settings)
    made = app.create(playground)
    load = app.loading(made, ["base", "other"])
    assert not made.state.dispatcher.loading.ready
    load()
    assert made.state.dispatcher.loading.ready
    assert {row.spec.name for row in playground.pool.loaded()} == {"base", "other"}
    playground.close()


def test_a_model_that_cannot_be_loaded_ends_the_server_with_the_reason(settings: Settings) -> None:
    with pytest.raises(VariantError, match="is broken"):
        app.run(settings, ["broken"])


def test_faults_are_told_before_anything_is_served(settings: Settings, servers: list[serving.Server]) -> None:
    with pytest.raises(MadangError, match="There is no variant named 'othr'"):
        app.run(settings, ["othr"])
    with pytest.raises(SetupError, match="no key is set"):
        app.run(settings.model_copy(update={"host": "0.0.0.0"}))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.port))
        taken.listen()
        with pytest.raises(SetupError, match=f"Port {settings.port} on 127.0.0.1 cannot be used"):
            app.run(settings)
    assert servers == []


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "0.0.0.0", "api_keys": "k"}, True),
        ({"mode": "space"}, False),
        ({"mode": "space", "host": "0.0.0.0", "api_keys": "k"}, True),
    ],
)
def test_beside_the_page_the_api_needs_a_key_where_others_come(changes: dict[str, str], served: bool) -> None:
    assert app.is_served_beside_the_page(Settings.model_validate(changes)) is served


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:7860"),
        ("0.0.0.0", "http://127.0.0.1:7860"),
        ("::", "http://[::1]:7860"),
        ("[::1]", "http://[::1]:7860"),
        ("box", "http://box:7860"),
    ],
)
def test_the_address_is_one_that_a_browser_here_can_open(host: str, address: str) -> None:
    assert serving.address(Settings(host=host)) == address
