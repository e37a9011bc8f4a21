"""Who may use the API: keys, loopback, proxies, rebinding and other sites' pages."""

import asyncio
import hmac
import logging
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from playground.errors import ConfigError, SetupError
from playground.server.guards import keys
from playground.server.guards.keys import Keyring, check_binding, is_loopback, read_keys
from playground.settings import Settings, load_settings
from tests.playground.server.small_app import KEY, OTHER, Small, small


def ask(app: Small, path: str = "/v1/models/x", headers: dict[str, str] | None = None, **client: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with app.client(**client) as it:
            return await it.get(path, headers=headers)

    return asyncio.run(asked())


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MADANG_{name.upper()}", raising=False)


def test_keys_come_from_the_environment_and_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# for the lab\n{OTHER}\n\n")
    monkeypatch.setenv("MADANG_API_KEYS", f" {KEY} ,, sk-third")
    monkeypatch.setenv("MADANG_API_KEYS_FILE", str(file))
    assert [key.get_secret_value() for key in read_keys(load_settings())] == [KEY, "sk-third", OTHER]


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("# none\n", "holds no key"), ("열쇠", "ASCII")])
def test_a_file_of_keys_that_is_none(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "keys").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_keys(Settings(api_keys_file=tmp_path / "keys"))


def test_a_key_is_never_printed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = load_settings(api_keys=SecretStr(KEY))
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()} {read_keys(settings)}"
    assert KEY not in shown
    with pytest.raises(ConfigError) as caught:
        load_settings(api_keys="sk-secret with spaces", port=0)
    assert "api_keys" in caught.value.message
    assert "port = 0" in caught.value.message
    error: BaseException | None = caught.value
    while error is not None:
        assert "sk-secret" not in str(error)
        error = error.__cause__


def test_every_key_is_compared_whole_however_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Keyring(read_keys(Settings(api_keys=SecretStr(f"{KEY},{OTHER}"))))
    compared: list[tuple[int, int]] = []

    def counted(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys, "hmac", type("hmac", (), {"compare_digest": staticmethod(counted)}))
    assert [ring.number(key) for key in (KEY, OTHER, KEY[:-1], "")] == [1, 2, None, None]
    assert compared == [(32, 32)] * 8


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer  {OTHER} ", 200),
        (f"Bearer {KEY}x", 401),
        (f"Bearer {KEY[:-1]}", 401),
        (f"Bearer {KEY},{OTHER}", 401),
        (f"Basic {KEY}", 401),
        (KEY, 401),
        ("Bearer", 401),
        ("Bearer 열쇠", 401),
        (None, 401),
    ],
)
def test_with_keys_a_key_is_wanted_and_the_place_does_not_matter(
    tmp_path: Path, header: str | None, status: int
) -> None:
    app = small(tmp_path, api_keys=SecretStr(f"{KEY},{OTHER}"))
    raw = {} if header is None else {"Authorization": header}
    far = {"Origin": "https://other.example", "X-Forwarded-For": "203.0.113.9"}
    for address, headers in (("127.0.0.1", {}), ("203.0.113.9", far)):

        async def asked(address: str = address, headers: dict[str, str] = headers) -> httpx.Response:
            async with app.client(address, url="http://madang.example") as it:
                sent = [(name.encode(), text.encode()) for name, text in (raw | headers).items()]
                return await it.get("/v1/models/x", headers=sent)

        answer = asyncio.run(asked())
        assert answer.status_code == status
        if status == 401:
            error = answer.json()["error"]
            assert error["code"] == "invalid_api_key"
            assert set(error) == {"message", "type", "param", "code"}
            assert answer.headers["www-authenticate"] == "Bearer"
            assert KEY[:-1] not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/x",
        "/v1/echo",
        "/v1",
        "/v1/none",
        "/v1/models/x/",
        "/tokenize",
        "/detokenize/",
        "/metrics",
        "/metrics/",
        "/tokenize%0A",
        "/detokenize%0A",
        "/metrics%0A",
        "/health%00",
        "/%7F",
    ],
)
def test_the_api_is_guarded_whatever_the_path_ends_in(tmp_path: Path, path: str) -> None:
    assert ask(small(tmp_path, api_keys=SecretStr(KEY)), path).status_code == 401
    assert ask(small(tmp_path), path, address="203.0.113.9").status_code == 403
    assert ask(small(tmp_path), path, {"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("path", ["/health", "/", "/gradio_api/info", "/config", "/assets/a.js", "/v1x", "/metricsx"])
def test_health_and_the_page_are_open_to_all(tmp_path: Path, path: str) -> None:
    app = small(tmp_path, api_keys=SecretStr(KEY))
    answer = ask(app, path, {"Origin": "https://other.example"}, address="203.0.113.9", url="http://other.example")
    assert answer.status_code == 200
    assert "x-request-id" not in answer.headers


def test_a_prefix_that_the_server_stands_behind_hides_nothing(tmp_path: Path) -> None:
    app = small(tmp_path, api_keys=SecretStr(KEY))
    app.app.root_path = "/madang"
    assert ask(app, "/madang/v1/models/x").status_code == 401
    assert ask(app, "/madang/v1/models/x", key=KEY).status_code == 200
    assert ask(app, "/v1/models/x").status_code == 401
    assert ask(app, "/madang/health").status_code == 200


def test_metrics_are_read_with_the_key(tmp_path: Path) -> None:
    answer = ask(small(tmp_path, api_keys=SecretStr(KEY)), "/metrics", key=KEY)
    assert "madang_requests_in_flight 0.0" in answer.text


@pytest.mark.parametrize(
    ("address", "served"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.168.0.7", False)]
    + [("203.0.113.9", False), ("::ffff:203.0.113.9", False), ("fe80::1%eth0", False), ("", False), ("unix", False)],
)
def test_without_a_key_only_this_machine_is_served(tmp_path: Path, address: str, served: bool) -> None:
    answer = ask(small(tmp_path, host="0.0.0.0"), address=address)
    assert answer.status_code == (200 if served else 403)
    if not served:
        assert answer.json()["error"]["code"] == "api_key_required"
        assert "MADANG_API_KEYS" in answer.json()["error"]["message"]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "x-forwarded-proto", "Forwarded", "Via", "X-Real-IP"])
def test_what_a_proxy_hands_on_is_not_of_this_machine(tmp_path: Path, header: str) -> None:
    assert ask(small(tmp_path), headers={header: "127.0.0.1"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "served"),
    [("localhost:7860", True), ("LOCALHOST", True), ("127.0.0.1", True), ("127.0.1.1:80", True), ("[::1]:7860", True)]
    + [("evil.example:7860", False), ("localhost.evil.example", False), ("127.0.0.1.evil.example", False)]
    + [("0.0.0.0:7860", False), ("[", False), ("a@evil.example", False), ("", False)],
)
def test_without_a_key_the_name_asked_for_means_this_machine(tmp_path: Path, host: str, served: bool) -> None:
    for listening in ("127.0.0.1", "0.0.0.0", "::"):
        answer = ask(small(tmp_path, host=listening), headers={"Host": host})
        assert answer.status_code == (200 if served else 403)


def test_the_name_that_the_owner_listens_on_is_no_strangers(tmp_path: Path) -> None:
    assert ask(small(tmp_path, host="Lab-PC"), headers={"Host": "lab-pc:7860"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ({"Origin": "http://127.0.0.1:7860"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "http://127.0.0.1:3000"}, False),
        ({"Origin": "http://localhost:7860"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "http://["}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_without_a_key_no_page_of_another_site_is_served(tmp_path: Path, headers: dict[str, str], served: bool) -> None:
    assert ask(small(tmp_path), headers=headers).status_code == (200 if served else 403)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"])
def test_binding_to_this_machine_needs_no_key(host: str) -> None:
    check_binding(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "", "192.168.0.7", "203.0.113.9", "fe80::1"])
def test_binding_elsewhere_wants_a_key(host: str) -> None:
    with pytest.raises(SetupError) as caught:
        check_binding(Settings(host=host))
    assert "MADANG_API_KEYS" in caught.value.hint
    assert "MADANG_HOST=127.0.0.1" in caught.value.hint
    check_binding(Settings(host=host, api_keys=SecretStr(KEY)))


def test_a_name_is_what_it_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"lab": ["127.0.1.1"], "both": ["127.0.0.1", "192.168.0.7"], "far": ["192.168.0.7"]}

    def resolve(host: str, port: None, **_: Any) -> list[tuple[Any, ...]]:
        if host not in known:
            raise socket.gaierror("no such name")
        return [(0, 0, 0, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    check_binding(Settings(host="lab"))
    for host in ("both", "far"):
        with pytest.raises(SetupError, match="open to other machines"):
            check_binding(Settings(host=host))
    with pytest.raises(SetupError, match="no address of this machine"):
        check_binding(Settings(host="nowhere"))


def test_a_name_is_no_address() -> None:
    assert not is_loopback("localhost")
