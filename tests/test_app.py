"""The front door: a busy port, errors in two lines, and nothing heavy before it is needed."""

import inspect
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import app
from playground.compare import Playground
from playground.errors import ConfigError, SetupError
from playground.page import events, look
from playground.page.components import Components
from playground.settings import Settings
from playground.system.ports import check_port
from tests.fakes import EMBEDDED
from tests.playground.server.conftest import serving

HEAVY = ("gradio", "torch", "transformers", "llama_cpp", "lm_eval", "pandas", "datasets", "peft", "numpy")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that someone listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_taken_port_ends_with_its_remedy_before_any_preparation(
    taken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "ensure", lambda settings: pytest.fail("it prepared first"))
    assert app.main(["--data", str(tmp_path / "d"), "--port", str(taken)]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: Port {taken} on 127.0.0.1 cannot be used: ")
    assert hint.endswith(f"--port {taken + 1}")
    assert not (tmp_path / "d").exists()


def test_a_port_that_is_free_passes_and_stays_free(taken: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    with pytest.raises(SetupError, match="cannot be used"):
        check_port("no-such-host.invalid", port)


def test_a_madang_error_becomes_two_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for hint, lines in (("Do that.", ["error: It broke.", "hint: Do that."]), ("", ["error: It broke."])):

        def broken(arguments: object, hint: str = hint) -> None:
            raise ConfigError("It broke.", hint)

        monkeypatch.setattr(app, "cli", broken)
        assert app.main([]) == 2
        assert capsys.readouterr().err.splitlines() == lines


def test_a_bug_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app, "cli", broken)
    with pytest.raises(ZeroDivisionError):
        app.main([])


@pytest.mark.parametrize(
    ("environment", "said"), [("MADANG_PORT=seven", "port = 'seven'"), ("MADANG_MODE=cloud", "mode = 'cloud'")]
)
def test_a_wrong_environment_is_an_error_and_no_traceback(
    environment: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*environment.split("="))
    assert app.main(["models"]) == 2
    assert said in capsys.readouterr().err


def run(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(app.__file__).parent,
        env=os.environ | environment,
    )
    return done.stdout


def test_importing_and_asking_for_help_load_nothing_heavy() -> None:
    code = f"""
import contextlib, io, json, sys
import app
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    app.main(["chat", "--help"])
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    app.main(["models"])
import playground.compare
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    assert json.loads(run(code)) == []


def test_the_demo_is_built_when_it_is_first_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Settings] = []
    monkeypatch.setattr(app, "ensure", built.append)
    monkeypatch.setattr(app, "build", lambda settings: ("page", settings.mode))
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.delitem(vars(app), "demo", raising=False)
    assert "demo" not in vars(app)
    assert app.demo == ("page", "local")
    assert app.demo is app.demo
    assert len(built) == 1
    monkeypatch.delitem(vars(app), "demo")
    monkeypatch.setattr(os, "environ", {**os.environ, "SPACE_ID": "owner/space"})
    assert app.demo == ("page", "space")
    monkeypatch.delitem(vars(app), "demo")
    with pytest.raises(AttributeError, match="no attribute 'dmeo'"):
        _ = app.dmeo


def test_other_machines_are_served_with_a_key_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "ensure", lambda settings: pytest.fail("it prepared first"))
    assert app.main(["--data", str(tmp_path), "--host", "0.0.0.0", "--port", "7999"]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert "open to other machines on 0.0.0.0, and no key is set" in error
    assert "MADANG_API_KEYS" in hint


@pytest.mark.parametrize(("mode", "served"), [("local", True), ("space", False)])
def test_page_and_api_share_a_port(tmp_path: Path, mode: str, served: bool) -> None:
    (tmp_path / "variants.toml").write_text(EMBEDDED, encoding="utf-8")
    playground = Playground(Settings.model_validate({"data": tmp_path, "mode": mode}))
    with serving(app.together(playground)) as address, httpx.Client(base_url=address, timeout=30) as http:
        page = http.get("/")
        assert page.status_code == 200
        assert "마당" in page.text
        assert http.get("/favicon.ico").content == look.HERE.joinpath("yard.svg").read_bytes()
        assert "--primary-50: #eef4f1" in http.get("/theme.css").text
        assert "Leaderboard" in http.get("/config").text
        body = {"model": "smollm2", "prompt": "a", "temperature": 0, "max_tokens": 99}
        answer = http.post("/v1/completions", json=body)
        assert (answer.status_code == 200) is served
        assert http.get("/health").status_code == (200 if served else 404)
        if served:
            assert answer.json()["choices"][0]["text"] == "smollm2 heard: a"
            assert http.get("/v1/nothing").json()["error"]["code"] == "unknown_url"
            assert http.get("/v1/models").json()["data"][0]["id"] == "smollm2"
    playground.close()


def test_every_handler_of_many_updates_is_made_by_the_one_place_that_ends_it_well(tmp_path: Path) -> None:
    """Gradio empties every output of a generator that yields nothing, and sends the last update of one once more."""
    (tmp_path / "variants.toml").write_text(EMBEDDED, encoding="utf-8")
    page = app.build(Settings(data=tmp_path))
    streaming = [one.fn for one in page.fns.values() if inspect.isgeneratorfunction(one.fn)]
    assert len(streaming) > 5
    inside = [vars(fn)["__wrapped__"].__code__ for fn in streaming]  # the page's edge is around each
    assert {(code.co_qualname, Path(code.co_filename)) for code in inside} == {
        ("flowing.<locals>.run", Path(events.__file__))
    }


def test_a_choice_of_several_is_heard_when_it_is_cleared(tmp_path: Path) -> None:
    """Gradio's cross that clears all, and its Backspace, raise `change` and no `input`."""
    (tmp_path / "variants.toml").write_text(EMBEDDED, encoding="utf-8")
    page = app.build(Settings(data=tmp_path))
    heard = {target for one in page.fns.values() for target in one.targets}
    several = [key for key, block in page.blocks.items() if getattr(block, "multiselect", False)]
    assert several
    assert {key for key in several if (key, "input") in heard} <= {key for key in several if (key, "change") in heard}


def test_the_words_of_all_wings_stand_on_one_page(tmp_path: Path) -> None:
    folders = [tab.locales for tab in app.tabs(Settings(data=tmp_path)) if tab.locales]
    assert len(folders) > 1
    Components("auto", folders)  # ValueError where two of them have one key
