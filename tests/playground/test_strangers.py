"""What goes wrong is told to clients and a Space's visitors without paths of the machine; its log has them."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from playground.compare import Playground
from playground.errors import (
    ConfigError,
    ContextError,
    HubError,
    MadangError,
    MemoryBudgetError,
    SetupError,
    UnknownNameError,
    VariantError,
    WorkerError,
    bug,
)
from playground.escape import for_strangers
from playground.events import Failed
from playground.page.words import card, fault
from playground.server.app import create
from playground.server.wire.errors import from_madang, from_row
from playground.settings import Settings
from tests.playground.server.conftest import serving

SECRET = "/srv/geheim/My Models"
STAYS = (
    "An address ends in /v1; GET /v1/models lists them. http://[::1]:8000/v1/models, https://hf.co/a/b and o/n stay."
)
TEXTS = {
    f"{SECRET}/x.gguf cannot be read: Permission denied.": "x.gguf cannot be read: Permission denied.",
    f"[Errno 28] No space left on device: '{SECRET}/a b/run 1'": "[Errno 28] No space left on device: 'run 1'",
    f'It said "{SECRET}/x y.gguf": no': 'It said "x y.gguf": no',
    f"ended with SIGABRT (gguf_init_from_file: failed to open GGUF file {SECRET}/x.gguf; log: /var/log/w-1.log).": (
        "ended with SIGABRT (gguf_init_from_file: failed to open GGUF file x.gguf; log: w-1.log)."
    ),
    "Read ~/.cache/huggingface/token, or C:\\Users\\kim lee\\x.txt": "Read token, or x.txt",
    "It is in /srv/a and /srv/b.": "It is in a and b.",
    f"KeyError: PosixPath('{SECRET}/q')": "KeyError: PosixPath('q')",
    f'  File "{SECRET}/app.py", line 3, in f\n    open("/etc/x")': '  File "app.py", line 3, in f\n    open("x")',
    STAYS: STAYS,
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_path_is_cut_to_its_last_part_and_the_log_has_it(text: str, caplog: pytest.LogCaptureFixture) -> None:
    for_strangers.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert for_strangers(text) == TEXTS[text]
    assert caplog.messages == ([f"Told without its paths: {text}"] if TEXTS[text] != text else [])


KINDS = (ConfigError, ContextError, HubError, MemoryBudgetError, SetupError, VariantError, WorkerError, MadangError)
ERRORS: list[MadangError] = [kind(f"{SECRET}/x is wrong.", f"See {SECRET}/y.") for kind in KINDS]
ERRORS += [UnknownNameError("x", f"{SECRET}/x", []), bug(OSError(2, "No such file", f"{SECRET}/x"))]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_no_error_of_ours_takes_a_path_to_a_client_or_a_visitor(
    error: MadangError, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Failed(variant="v", message=error.message, hint=error.hint, error=type(error).__name__)
    monkeypatch.setenv("MADANG_MODE", "space")
    for told in (
        from_madang(error).problem.message,
        from_row(failed, None).problem.message,
        from_row(failed, "prompt").problem.message,
        fault("problem.page", error),
        card("problem.failed", error.message, error.hint),
    ):
        assert "geheim" not in told
        assert "My Models" not in told


def test_at_home_the_page_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MADANG_MODE", raising=False)
    assert SECRET in fault("problem.page", MadangError(f"{SECRET}/x is gone."))


ROWS = {
    "gone": ("base", "gone"),
    "gone.gguf": ("gguf", "gone.gguf"),
    "damaged.gguf": ("gguf", "damaged.gguf"),
    "empty": ("base", "empty"),
    "aborts": ("base", "fake:aborts"),
    "refused": ("base", "fake:broken"),
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    where = tmp_path_factory.mktemp("geheim") / "My Models"
    (where / "empty").mkdir(parents=True)
    (where / "damaged.gguf").write_bytes(b"GGUF" + b"\xff" * 200)
    rows = ""
    for name, (kind, source) in ROWS.items():
        place = source if source.startswith("fake:") else str(where / source)
        rows += f"[[variant]]\nname = {json.dumps(name)}\nkind = '{kind}'\nsource = {json.dumps(place)}\n"
    data = where / "data"
    data.mkdir()
    (data / "variants.toml").write_text(rows, encoding="utf-8")
    playground = Playground(Settings(data=data))
    with serving(create(playground)) as url:
        yield url
    playground.close()


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize"])
def test_a_variant_that_cannot_be_asked(name: str, path: str, address: str) -> None:
    body: dict[str, Any] = {"model": name}
    body |= {"content": "a"} if path == "/tokenize" else {"stream": True}
    body |= {"messages": [{"role": "user", "content": "a"}]} if "chat" in path else {}
    body |= {"prompt": "a"} if path == "/v1/completions" else {}
    answer = httpx.post(f"{address}{path}", json=body, timeout=60)
    assert answer.status_code >= 500
    assert answer.json()["error"]["message"]
    assert "geheim" not in answer.text
    assert "My Models" not in answer.text
