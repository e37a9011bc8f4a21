"""The front door: a busy port, errors in two lines, and nothing heavy before it is needed."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from playground.errors import ConfigError, SetupError
from playground.settings import Settings

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
    app.check_port("127.0.0.1", port)
    app.check_port("127.0.0.1", port)
    with pytest.raises(SetupError, match="cannot be used"):
        app.check_port("no-such-host.invalid", port)


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
    monkeypatch.setenv("SPACE_ID", "owner/space")
    assert app.demo == ("page", "space")
    monkeypatch.delitem(vars(app), "demo")
    with pytest.raises(AttributeError, match="no attribute 'dmeo'"):
        _ = app.dmeo
