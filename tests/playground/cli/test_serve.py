"""`madang serve` as a person types it: what it prints, what it refuses, what is in the catalogue while it runs."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

import app
from playground.catalogue.variants import Catalogue
from playground.compare import Playground
from playground.engines import registry
from playground.settings import Settings
from playground.ui import models
from tests.places import FAKE_ENGINE

pytestmark = pytest.mark.timeout(120)
Shell = Callable[..., tuple[int, str, str]]


def fake(mode: str) -> str:
    return f"'{sys.executable}' '{FAKE_ENGINE}' {mode}"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MADANG_VLLM", "MADANG_LLAMA_SERVER", "MADANG_API_KEYS", "MADANG_API_KEYS_FILE", "MADANG_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(app, "ensure", lambda settings: pytest.fail("nobody asked for the embedded models"))


@pytest.fixture
def settings(tmp_path: Path, model_files: Any) -> Settings:
    """A catalogue with a base, two adapters of which vLLM cannot serve one, and a GGUF."""
    folder = model_files.base(tmp_path / "qwen")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    good, bad = model_files.adapter(tmp_path / "good"), model_files.adapter(tmp_path / "bad", use_dora=True)
    gguf = model_files.gguf(tmp_path / "q4.gguf")
    rows = {
        "qwen": f"kind = 'base'\nsource = {str(folder)!r}",
        "qwen:good": f"kind = 'adapter'\nbase = 'qwen'\nsource = {str(good)!r}",
        "qwen:bad": f"kind = 'adapter'\nbase = 'qwen'\nsource = {str(bad)!r}",
        "qwen:Q4": f"kind = 'gguf'\nbase = 'qwen'\nprompt_format = 'alpaca'\nsource = {str(gguf)!r}",
        "qwen:Q8": f"kind = 'gguf'\nbase = 'qwen'\nprompt_format = 'alpaca'\nsource = {str(gguf)!r}",
    }
    settings = Settings(data=tmp_path / "data")
    settings.data.mkdir()
    text = "".join(f"[[variant]]\nname = '{name}'\n{row}\n" for name, row in rows.items())
    settings.catalogue.write_text(text, encoding="utf-8")
    return settings


@pytest.fixture
def shell(settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs `madang serve …`, and gives exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code: Any = app.main(["--data", str(settings.data), "serve", *words])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return int(code or 0), out, err

    return run


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def remotes(settings: Settings) -> list[str]:
    return [variant.name for variant in Catalogue.load(settings) if variant.kind == "remote"]


@pytest.fixture
def ourselves(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What our own server was started with."""
    started: list[Any] = []
    module = ModuleType("playground.server.app")
    module.run = lambda settings, models: started.append((settings.host, settings.port, models))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "playground.server.app", module)
    monkeypatch.setattr(app, "ensure", lambda settings: started.append("prepared"))
    return started


def test_without_an_engine_it_is_our_own_server(shell: Shell, ourselves: list[Any]) -> None:
    assert shell("qwen", "qwen:good", "--port", "9001", "--host", "::1")[0] == 0
    assert ourselves == [("::1", 9001, ["qwen", "qwen:good"])]
    ourselves.clear()
    assert shell()[0] == 0  # all of them, the embedded ones too
    assert ourselves == ["prepared", ("127.0.0.1", 8000, [])]


@pytest.mark.parametrize(
    "words",
    [
        ("--print",),
        ("--keep",),
        ("--name", "x"),
        ("--command", "x"),
        ("--parallel", "4"),
        ("--no-adapters",),
        ("--timeout", "9"),
        ("--", "--tensor-parallel-size", "2"),
    ],
)
def test_what_only_engines_take(words: tuple[str, ...], shell: Shell, ourselves: list[Any]) -> None:
    code, _, err = shell("qwen", *words)
    assert (code, ourselves) == (2, [])
    assert "Madang's own API takes no" in err
    assert "--engine vllm" in err


def test_printing_starts_nothing_and_passes_flags_on(shell: Shell, settings: Settings, tmp_path: Path) -> None:
    code, out, err = shell("qwen", "--engine", "vllm", "--print", "--", "--tensor-parallel-size", "2", "--seed", "1")
    assert code == 0
    assert out.splitlines() == [
        f"vllm serve {tmp_path}/qwen --served-model-name qwen --host 127.0.0.1 --port 8000 --dtype auto "
        "--max-model-len auto --allowed-origins '[]' --enable-lora --max-lora-rank 8 --max-loras 1 "
        f"--lora-modules qwen:good={tmp_path}/good "
        "--tensor-parallel-size 2 --seed 1"
    ]
    assert "qwen:bad is left out. vLLM cannot serve 'qwen:bad' beside its base: it uses DoRA (use_dora)." in err
    assert "madang export qwen:bad --to merged" in err
    assert remotes(settings) == []
    code, out, _ = shell("qwen:Q4", "qwen:Q8", "--engine", "llama-server", "--print", "--command", "ls", "--port", "7")
    assert [line.split(" --port ")[1] for line in out.splitlines()] == ["7", "8"]


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("--engine", "vllm"), "Which variant should vllm serve?", "qwen, qwen:good, qwen:bad."),
        (("--engine", "llama-server"), "Which variant should llama-server", "qwen:Q4, qwen:Q8."),
        (("qwen", "--engine", "vllm"), "vLLM is not here.", "Or run it where it is: vllm serve"),
        (("qwen:bad", "--engine", "vllm"), "it uses DoRA", "madang export qwen:bad --to merged"),
        (("qwen:Q4", "--engine", "vllm"), "is a GGUF", "--engine llama-server"),
        (("qwne", "--engine", "vllm"), "no variant named 'qwne'", "Did you mean qwen"),
        (("qwen", "--engine", "vllm", "--host", "0.0.0.0"), "open to other machines", "MADANG_API_KEYS"),
        (("qwen", "--engine", "vllm", "--name", "a", "--name", "b"), "1 variants and 2 names", "--name once for each"),
        (("qwen", "--engine", "vllm", "--print", "--name", "no name"), "no name", "letters"),
        (("qwen", "--engine", "vllm", "--print", "--", "--host", "0.0.0.0"), "--host after --", "Madang's own --host"),
        (("qwen", "--engine", "vllm", "--print", "--", "--port=9"), "--port=9 after --", "Madang's own --port"),
        (("qwen", "--engine", "vllm", "--print", "--", "--served_model_name", "x"), "would hide the engine", "--name"),
        (("qwen:Q4", "--engine", "llama-server", "--print", "--", "--api-key", "x"), "--api-key", "MADANG_API_KEYS"),
    ],
)
def test_what_is_wrong_is_said_in_two_lines(words: tuple[str, ...], error: str, hint: str, shell: Shell) -> None:
    code, out, err = shell(*words)
    assert (code, out) == (2, "")
    assert error in err
    assert hint in err
    assert err.splitlines()[-2].startswith("error: ")
    assert err.splitlines()[-1].startswith("hint: ")


def test_a_taken_name_or_port_is_refused_before_the_start(shell: Shell, settings: Settings, port: int) -> None:
    words = ("qwen", "--engine", "vllm", "--command", fake("ready"), "--port", str(port))
    code, _, err = shell(*words, "--name", "qwen:good")
    assert code == 2
    assert "a variant named 'qwen:good' already" in err
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        code, _, err = shell(*words)
    assert code == 2
    assert f"Port {port} on 127.0.0.1 cannot be used" in err
    assert not settings.logs_dir.exists()


def test_a_crash_at_the_start_leaves_no_row(shell: Shell, settings: Settings, port: int) -> None:
    code, _, err = shell("qwen", "--engine", "vllm", "--command", fake("crash"), "--port", str(port))
    assert code == 2
    assert "error: vLLM ended before it was ready with exit code 3: ValueError: out of memory on this card" in err
    assert remotes(settings) == []


def test_one_that_is_never_ready_is_ended(shell: Shell, settings: Settings, port: int) -> None:
    words = ("qwen", "--engine", "vllm", "--command", fake("never"), "--port", str(port), "--timeout", "1")
    code, _, err = shell(*words)
    assert code == 2
    assert "vLLM was not ready within 1 s" in err
    assert remotes(settings) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health")


def test_adapters_on_a_cpu_are_refused_since_vllm_mixes_them_up_there(
    shell: Shell, settings: Settings, port: int
) -> None:
    words = ("qwen", "--engine", "vllm", "--command", fake("cpu"), "--port", str(port))
    code, _, err = shell(*words)
    assert code == 2
    assert "error: vLLM computes on a CPU here, and there it lets qwen answer with the weights of its adapters." in err
    assert "--no-adapters" in err
    assert remotes(settings) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health")


class Serving:
    """`madang serve …` in a process of its own."""

    def __init__(self, settings: Settings, *words: str) -> None:
        self.settings = settings
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MADANG_")}
        self.process = subprocess.Popen(
            [sys.executable, app.__file__, "--data", str(settings.data), "serve", *words],
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"COLUMNS": "200"},
        )

    def ready(self, rows: int) -> list[str]:
        """The rows, once there are so many."""
        for _ in range(600):
            if len(found := remotes(self.settings)) >= rows:
                return found
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            time.sleep(0.1)
        raise AssertionError(remotes(self.settings))

    def end(self) -> tuple[int, str]:
        """Exit code and what it said."""
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@pytest.fixture
def serving(settings: Settings) -> Iterator[Callable[..., Serving]]:
    started: list[Serving] = []

    def start(*words: str) -> Serving:
        started.append(Serving(settings, *words))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def test_a_base_alone_may_be_served_on_a_cpu(serving: Callable[..., Serving], port: int) -> None:
    words = ("qwen", "--engine", "vllm", "--no-adapters", "--command", fake("cpu"), "--port", str(port))
    assert serving(*words).ready(1) == ["qwen-vllm"]


def test_a_port_that_another_engine_still_loads_on_is_refused(
    serving: Callable[..., Serving], shell: Shell, settings: Settings, port: int
) -> None:
    words = ("--engine", "vllm", "--port", str(port))
    serving("qwen", *words, "--no-adapters", "--command", fake("never"))
    while not list((settings.data / "engines").glob(f"port-{port}.lock")) or not list(settings.logs_dir.glob("*.log")):
        time.sleep(0.1)
    code, _, err = shell("qwen:good", *words, "--command", fake("ready"), "--name", "other")
    assert code == 2
    assert f"Port {port} is held by another `madang serve --engine`." in err
    assert f"--port {port + 1}" in err
    assert remotes(settings) == []


def healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.HTTPError:
        return False


def unreachable(port: int) -> bool:
    for _ in range(200):
        try:
            httpx.get(f"http://127.0.0.1:{port}/health")
        except httpx.ConnectError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_rows_while_it_runs_and_none_after(
    number: int, serving: Callable[..., Serving], settings: Settings, port: int
) -> None:
    running = serving("qwen", "--engine", "vllm", "--command", fake("ready"), "--port", str(port), "--name", "big")
    assert running.ready(2) == ["big", "qwen:good-vllm"]
    row = Catalogue.load(settings).get("big")
    assert row.model_dump(exclude_defaults=True) == {
        "name": "big",
        "url": f"http://127.0.0.1:{port}/v1",
        "model": "qwen",
        "base": "qwen",
    }
    told = httpx.get(f"http://127.0.0.1:{port}/about").json()
    assert told["words"][0] == "serve"
    running.process.send_signal(number)
    code, err = running.end()
    assert code == 0
    assert f"Ready at http://127.0.0.1:{port}/v1, in the catalogue as big, qwen:good-vllm." in err
    assert "Stopped." in err
    assert "Traceback" not in err
    assert remotes(settings) == []
    assert unreachable(port)


def test_a_crash_takes_the_rows_out(serving: Callable[..., Serving], settings: Settings, port: int) -> None:
    running = serving("qwen:good", "--engine", "vllm", "--command", fake("ready"), "--port", str(port))
    assert running.ready(2) == ["qwen-vllm", "qwen:good-vllm"]
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/die")
    code, err = running.end()
    assert code == 2
    assert "error: vLLM ended with SIGABRT: CUDA error: an illegal memory access" in err
    assert remotes(settings) == []


def test_one_of_two_that_crashes_ends_the_other(serving: Callable[..., Serving], settings: Settings, port: int) -> None:
    words = ("qwen:Q4", "qwen:Q8", "--engine", "llama-server", "--command", fake("ready"), "--port", str(port))
    running = serving(*words)
    assert running.ready(2) == ["qwen:Q4-llama-server", "qwen:Q8-llama-server"]
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/die")
    assert running.end()[0] == 2
    assert remotes(settings) == []
    assert unreachable(port + 1)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_kept_rows_outlive_it_and_serve_again(serving: Callable[..., Serving], settings: Settings, port: int) -> None:
    words = ("qwen:good", "--engine", "vllm", "--command", fake("ready"), "--port", str(port))
    for _ in range(2):
        running = serving(*words, "--keep")
        while not healthy(port):  # from the second start on, rows say nothing
            time.sleep(0.1)
        running.ready(2)
        while list((settings.data / "engines").glob("*.json")):
            time.sleep(0.1)
        running.process.send_signal(signal.SIGTERM)
        assert running.end()[0] == 0
        assert remotes(settings) == ["qwen-vllm", "qwen:good-vllm"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("by", ["engine", "models", "page"])
def test_a_kill_leaves_rows_that_the_next_one_sweeps(
    by: str, serving: Callable[..., Serving], settings: Settings, port: int, shell: Shell
) -> None:
    running = serving("qwen:good", "--engine", "vllm", "--command", fake("ready"), "--port", str(port))
    running.ready(2)
    (record,) = (settings.data / "engines").glob("*.json")
    assert {row["name"] for row in json.loads(record.read_text())["rows"]} == set(remotes(settings))
    running.process.kill()
    running.end()
    assert remotes(settings) == ["qwen-vllm", "qwen:good-vllm"]
    assert unreachable(port)
    if by == "models":
        assert "qwen-vllm" not in listed(settings)
    elif by == "page":
        models.table(Playground(settings), ask=False)
    else:
        assert shell("qwen", "--engine", "vllm", "--print")[0] == 0
    assert remotes(settings) == []
    registry.sweep(settings)


def listed(settings: Settings) -> str:
    """What `madang models` prints."""
    words = [sys.executable, app.__file__, "--data", str(settings.data), "models"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_a_key_goes_to_the_engine_by_its_environment(
    shell: Shell, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MADANG_API_KEYS", "sesame")
    code, out, err = shell("qwen", "--engine", "vllm", "--host", "0.0.0.0", "--print")
    assert code == 0
    assert out.startswith('VLLM_API_KEY="$MADANG_API_KEYS" vllm serve ')
    assert "sesame" not in out + err
