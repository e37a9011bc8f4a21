"""From GGUF rows to llama.cpp's server, one process each; and the real one, over the embedded GGUF."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from pydantic import SecretStr

from playground.catalogue.hub import Hub
from playground.engines import llama_server
from playground.engines.llama_server import CHILD, has_template
from playground.engines.plan import Plan, Wish
from playground.engines.process import Engine
from playground.errors import ConfigError, MadangError, VariantError, WorkerError
from playground.prompts import prompt_format
from playground.settings import Settings


class Nowhere:
    """A hub that gives one file and is asked for nothing else."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def fetch_file(self, repo: str, name: str | None, revision: str | None, progress: Any) -> Path | None:
        progress(0.5, f"{repo}/{name}@{revision}")
        return self.path


NOWHERE = Nowhere()


def made(shelf: Any, *names: str, hub: Any = NOWHERE, **wish: Any) -> list[Plan]:
    settings = wish.pop("settings", shelf.using(threads=3))
    return llama_server.make(shelf.catalogue, hub, list(names), Wish(settings, **wish))


def after(command: tuple[str, ...], flag: str) -> str:
    assert command.count(flag) == 1, command
    return command[command.index(flag) + 1]


def test_one_gguf(shelf: Any) -> None:
    path = shelf.gguf("qwen:Q4")
    (plan,) = made(shelf, "qwen:Q4", command=("llama-server",))
    assert plan.command == (
        *("llama-server", "--model", str(path), "--alias", "qwen:Q4", "--host", "127.0.0.1"),
        *("--ctx-size", "16384", "--parallel", "4", "--threads", "3", "--jinja", "--metrics", "--port", "7860"),
    )
    assert plan.shown.startswith("LLAMA_ARG_CORS_ORIGINS=localhost llama-server --model ")
    assert [row.model_dump(exclude_defaults=True) for row in plan.rows] == [
        {"name": "qwen:Q4-llama-server", "url": "http://127.0.0.1:7860/v1", "model": "qwen:Q4", "base": "qwen:Q4"}
    ]


def test_several_ggufs_take_ports_in_a_row(shelf: Any) -> None:
    shelf.gguf("qwen:Q4")
    shelf.gguf("qwen:Q8")
    plans = made(shelf, "qwen:Q8", "qwen:Q4", settings=shelf.using(port=65_534))
    assert [(plan.rows[0].model, plan.port, after(plan.command, "--port")) for plan in plans] == [
        ("qwen:Q8", 65_534, "65534"),
        ("qwen:Q4", 65_535, "65535"),
    ]
    with pytest.raises(ConfigError, match="would go past 65535"):
        made(shelf, "qwen:Q8", "qwen:Q4", settings=shelf.using(port=65_535))


@pytest.mark.parametrize(
    ("row", "wish", "flag", "value"),
    [
        ("context = 2048", {}, "--ctx-size", "8192"),  # each of four answers has the row's context
        ("context = 2048", {"parallel": 1}, "--ctx-size", "2048"),
        ("", {"parallel": 8}, "--parallel", "8"),
        ("gpu_layers = 12", {}, "--n-gpu-layers", "12"),
        ("gpu_layers = 0", {}, "--n-gpu-layers", "0"),
    ],
)
def test_a_row_s_fields_become_flags(row: str, wish: dict[str, Any], flag: str, value: str, shelf: Any) -> None:
    shelf.gguf("qwen:Q4", row)
    assert after(made(shelf, "qwen:Q4", **wish)[0].command, flag) == value


def test_layers_are_llama_cpp_s_choice_by_default(shelf: Any) -> None:
    shelf.gguf("qwen:Q4")
    assert "--n-gpu-layers" not in made(shelf, "qwen:Q4")[0].command


def test_a_named_format_is_a_template_file_and_none_at_all_is_refused(shelf: Any) -> None:
    shelf.gguf("bare", template=False)
    shelf.gguf("named", "prompt_format = 'alpaca'", template=False)
    file = Path(after(made(shelf, "named")[0].command, "--chat-template-file"))
    assert file.read_text(encoding="utf-8") == prompt_format("alpaca").template
    with pytest.raises(VariantError, match="'bare' has no chat template") as caught:
        made(shelf, "bare")
    assert "prompt_format" in caught.value.hint


def test_files_on_the_hub_are_fetched(shelf: Any) -> None:
    path = shelf.gguf("here")
    shelf.add("far", "gguf", "source = 'owner/far'\nfile = 'x.gguf'\nrevision = 'abc'")
    told: list[str] = []
    wish = Wish(shelf.settings)
    (plan,) = llama_server.make(
        shelf.catalogue,
        cast(Hub, Nowhere(path)),
        ["far"],
        wish,
        lambda done, what: told.append(what),
    )
    assert told == ["owner/far/x.gguf@abc"]
    assert after(plan.command, "--model") == str(path)


@pytest.mark.parametrize(
    ("name", "error", "hint"),
    [
        ("qwen", "'qwen' is base", "Serve a build of it: qwen:Q4."),
        ("qwen:one", "'qwen:one' is an adapter", "madang export qwen:one --to gguf:q4_k_m"),
        ("afar", "'afar' is a server already", "Name a GGUF"),
        ("pretend", "'pretend' is a fake", "real GGUF"),
        ("gone", "does not exist", "madang models"),
        ("qwen:Q5", "no variant named 'qwen:Q5'", "Did you mean qwen:Q4"),
    ],
)
def test_what_is_no_gguf(name: str, error: str, hint: str, shelf: Any) -> None:
    shelf.base()
    shelf.adapter("qwen:one")
    shelf.gguf("qwen:Q4", "base = 'qwen'")
    shelf.add("afar", "remote", "url = 'http://far/v1'")
    shelf.add("pretend", "gguf", "source = 'fake:x'")
    shelf.add("gone", "gguf", "source = 'gone.gguf'")
    with pytest.raises(MadangError) as caught:
        made(shelf, name)
    assert error in caught.value.message
    assert hint in caught.value.hint


def test_which_program_serves(shelf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.gguf("q")
    monkeypatch.setattr(llama_server, "find_spec", lambda name: None)
    (plan,) = made(shelf, "q")
    assert plan.command[0] == "llama-server"
    assert "EXTRAS=llama-server" in plan.missing
    monkeypatch.setattr(llama_server, "find_spec", lambda name: name == "xllamacpp")
    (plan,) = made(shelf, "q")
    assert plan.command[:3] == CHILD
    assert plan.missing == ""
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert made(shelf, "q")[0].command[0] == "/bin/llama-server"
    monkeypatch.setenv("MADANG_LLAMA_SERVER", "/opt/llama-server")
    shelf.settings = Settings(data=shelf.settings.data)
    assert made(shelf, "q", flags=("--no-mmap",))[0].command[0] == "/opt/llama-server"
    assert made(shelf, "q", flags=("--no-mmap",))[0].command[-1] == "--no-mmap"


def test_the_key_is_in_the_environment_alone(shelf: Any) -> None:
    shelf.gguf("q")
    settings = shelf.using(api_keys=SecretStr("sesame"))
    (plan,) = made(shelf, "q", settings=settings)
    assert "sesame" not in plan.shown
    assert plan.full_environment(Wish(settings).key)["LLAMA_API_KEY"] == "sesame"
    assert plan.rows[0].key_env == "MADANG_API_KEYS"


def test_a_template_is_a_field_of_the_file(shelf: Any) -> None:
    path = shelf.gguf("q")
    assert has_template(path)
    bare = shelf.gguf("bare", template=False)
    bare.write_bytes(bare.read_bytes() + b"tokenizer.chat_template")
    assert not has_template(bare)


@pytest.fixture
def served(demo_models: Path, shelf: Any, free_port: int) -> Iterator[Engine]:
    """The embedded GGUF behind the real server of xllamacpp, with a key."""
    pytest.importorskip("xllamacpp", reason="the extra llama-server is not installed")
    path = next((demo_models / "smollm2-demo-gguf").glob("*Q4_K_M.gguf"))
    shelf.add("smol:Q4", "gguf", f"source = {str(path)!r}\ncontext = 512")
    settings = shelf.using(port=free_port, api_keys=SecretStr("sesame"))
    wish = Wish(settings, parallel=2, flags=("--cache-prompt", "false"))
    (plan,) = llama_server.make(shelf.catalogue, Nowhere(), ["smol:Q4"], wish)  # type: ignore[arg-type]
    engine = Engine(plan, settings, wish.key)
    try:
        engine.wait_ready(120)
        yield engine
    finally:
        engine.stop()


@pytest.mark.models
def test_the_real_server_answers(served: Engine) -> None:
    address, bearer = served.plan.address, {"Authorization": "Bearer sesame"}
    question = {"model": "smol:Q4", "messages": [{"role": "user", "content": "안녕?"}], "max_tokens": 8}
    assert httpx.post(f"{address}/v1/chat/completions", json=question).status_code == 401
    answer = httpx.post(f"{address}/v1/chat/completions", json=question, headers=bearer, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["model"] == "smol:Q4"
    assert answer.json()["choices"][0]["message"]["content"]
    assert answer.json()["usage"]["completion_tokens"] == 8
    foreign = bearer | {"Origin": "http://evil.example"}
    listed = httpx.get(f"{address}/v1/models", headers=foreign)
    assert [(row["id"], row["meta"]["n_ctx"]) for row in listed.json()["data"]] == [("smol:Q4", 512)]
    assert "access-control-allow-origin" not in listed.headers
    if os.name == "posix" and Path("/proc").is_dir():
        commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert not any(b"sesame" in command for command in commands)


@pytest.mark.models
def test_a_file_that_llama_cpp_cannot_read(shelf: Any, free_port: int) -> None:
    pytest.importorskip("xllamacpp", reason="the extra llama-server is not installed")
    shelf.gguf("bad")
    (plan,) = made(shelf, "bad", settings=shelf.using(port=free_port))
    assert plan.command[0] == sys.executable
    engine = Engine(plan, shelf.settings, None)
    try:
        with pytest.raises(WorkerError, match="exit code 2") as caught:
            engine.wait_ready(120)
    finally:
        engine.stop()
    assert "error: llama.cpp cannot serve" in caught.value.message
    assert "bad.gguf" in caught.value.message
