"""Processes that Madang starts find no keys but their own: every start is looked at, and every program is started."""

import ast
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import app
from eval.ui import run_tab
from playground.catalogue import variants
from playground.catalogue.variants import Remote
from playground.engines.plan import Plan
from playground.engines.process import Engine
from playground.errors import MadangError
from playground.protocol import ModelSpec
from playground.settings import Settings, child_environment
from playground.system import hardware, jobs
from playground.workers.process import WorkerProcess
from tests.places import FAKE_ENGINE, ROOT
from tests.test_environment import PRODUCT
from tests.waiting import ended
from training import recipe as recipes
from training.data import as_loaded
from training.export import process
from training.run import runs
from training.trainer import supervise

STARTS = {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
OF_OS = ("system", "popen", "fork", "exec", "spawn", "posix_spawn", "startfile")
MODULES = ("multiprocessing", "pty", "concurrent.futures.process", "subprocess")
ELSEWHERE = {"create_subprocess_exec", "create_subprocess_shell", "subprocess_exec", "ProcessPoolExecutor"}
HANDS_ON = {"playground/engines/keeper.py"}
"""Its child gets what it got itself from `Engine`."""
KEYS = {
    "MADANG_API_KEYS": "sk-page",
    "MADANG_API_KEYS_FILE": "/keys",
    "FAR_API_KEY": "sk-far",
    "HF_TOKEN": "hf_x",
    "HUGGING_FACE_HUB_TOKEN": "hf_y",
    "WANDB_API_KEY": "w",
    "AWS_SECRET_ACCESS_KEY": "a",
    "AWS_ACCESS_KEY_ID": "a",
    "GITHUB_PAT": "g",
    "PGPASSWORD": "p",
    "BASIC_AUTH": "u:p",
    "DATABASE_URL": "postgres://me:secret@db/x",
    "HTTPS_PROXY": "http://me:secret@proxy:3128",
    "GOOGLE_APPLICATION_CREDENTIALS": "/gcp.json",
    "openai_api_key": "sk-small",
    "LLAMA_API_KEY": "somebody's",
    "MY_LETTERS": "listed by its owner",
}
OPEN = {
    "TOKENIZERS_PARALLELISM": "false",
    "MAX_TOKENS": "100",
    "MADANG_API_MAX_TOKENS": "100",
    "HTTP_PROXY": "http://proxy:3128",
    "KEYBOARD": "ko",
    "PATH": os.environ["PATH"],
}
HUB = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTPS_PROXY"}
TELLING = '#!/bin/sh\ncat /proc/$$/environ > "{here}/$$.environ"\nexec "{python}" "$@"\n'


def starts(source: str) -> list[tuple[int, str]]:
    """Line of each start of a process, with the source of its `env`; empty where it gets our own environment."""
    found: list[tuple[int, str]] = []
    if not re.search(r"subprocess|multiprocessing|\bpty\b|\bos\b|ProcessPool|concurrent", source):
        return found  # to parse them all takes seconds
    for node in ast.walk(ast.parse(source)):
        whole = ast.unparse(node) if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        if whole.rpartition(".")[2] in ELSEWHERE or whole.startswith(tuple(f"os.{one}" for one in OF_OS)):
            found.append((getattr(node, "lineno", 0), ""))
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func) in {f"subprocess.{one}" for one in STARTS}
        ):
            found.append((node.lineno, "".join(ast.unparse(word.value) for word in node.keywords if word.arg == "env")))
        if isinstance(node, ast.ImportFrom) and node.module in (*MODULES, "os"):
            taken = [one.name for one in node.names if node.module != "os" or one.name.startswith(OF_OS)]
            found += [(node.lineno, "") for _ in taken]
        if isinstance(node, ast.Import) and {one.name for one in node.names} & set(MODULES[:-1]):
            found.append((node.lineno, ""))
    return found


@pytest.mark.parametrize(
    "source",
    [
        "subprocess.run(x)",
        "from subprocess import Popen",
        "os.system('x')",
        "import os; os.execv(x, y)",
        "asyncio.create_subprocess_exec(x)",
    ],
)
def test_a_start_without_an_environment_is_found(source: str) -> None:
    assert [env for _, env in starts(source)] == [""]


def test_every_start_says_what_its_child_finds() -> None:
    found = {
        str(path.relative_to(ROOT)): [
            line for line, env in starts(path.read_text(encoding="utf-8")) if "environment(" not in env
        ]
        for path in PRODUCT
    }
    assert {name: lines for name, lines in found.items() if lines and name not in HANDS_ON} == {}


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADANG_KEY_VARIABLES", "*_API_KEY, MY_LETTERS, *")
    for name, value in {**KEYS, **OPEN}.items():
        monkeypatch.setenv(name, value)


def test_which_variables_are_keys(keyed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name: value for name, value in child_environment({}).items() if name in {**KEYS, **OPEN}} == OPEN
    assert child_environment({}, keys=["HF_TOKEN"])["HF_TOKEN"] == "hf_x"
    assert child_environment({"LLAMA_API_KEY": "its own"})["LLAMA_API_KEY"] == "its own"


@pytest.fixture
def children(keyed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, str]]]:
    """Gives what was in the environment of each process that was started, as the kernel has it."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("this system has no /proc")
    here = tmp_path / "told"
    here.mkdir()
    for name in ("python", "nvidia-smi"):
        script = here / name
        script.write_text(TELLING.format(here=here, python=sys.executable))
        script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(here / "python"))
    monkeypatch.setattr("playground.engines.process.KEEPER", (sys.executable, "-m", "playground.engines.keeper"))
    monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")

    def told() -> list[dict[str, str]]:
        texts = [path.read_bytes().decode() for path in here.glob("*.environ")]
        return [dict(line.partition("=")[::2] for line in text.split("\0") if line) for text in texts]

    return told


def a_worker(settings: Settings) -> None:
    worker = WorkerProcess(ModelSpec(engine="fake", name="f", path="fake:f"), settings.data / "log")
    worker.wait_loaded()
    worker.stop()


def an_engine(settings: Settings, **more: Any) -> None:
    row = Remote(name="x", url="http://127.0.0.1:1/v1", model="x")
    command = (sys.executable, str(FAKE_ENGINE), "crash")
    made = Plan("E", command, "127.0.0.1", 1, (row,), key_variable="VLLM_API_KEY", **more)
    engine = Engine(made, settings, "its own")
    engine.epitaph()
    engine.stop()


def a_job(settings: Settings) -> None:
    ended(settings, jobs.start(settings, "test", [sys.executable, "-c", ""]))


def a_benchmark(settings: Settings) -> None:
    variants.add(settings, Remote(name="far", url="http://127.0.0.1:1/v1", model="x", key_env="FAR_API_KEY"))
    run_tab._begin(settings, [sys.executable, "-c", ""], {"variants": ["far"]})
    [job] = jobs.listed(settings)
    ended(settings, job)


def a_trainer(settings: Settings, tracker: str = "none", program: Sequence[str] = ()) -> None:
    shipped = recipes.resolved(recipes.load(recipes.find("sft")), on_card=False)
    run = runs.create(settings, shipped.model_copy(update={"trainer": {**shipped.trainer, "report_to": tracker}}))
    recipe = run.recipe()
    (run.folder / "recipe.yaml").unlink()  # it ends before it loads an engine
    with pytest.MonkeyPatch.context() as patch:
        if program:
            patch.setattr(supervise, "command", lambda run, recipe: [sys.executable, *program])
        supervise._attempt(run, recipe, lambda: False, 1)


def an_export(settings: Settings) -> None:
    process.isolated(print, "x", what="A test")


def a_tokenizer(settings: Settings) -> None:
    as_loaded.loaded(settings.data)


def a_score(settings: Settings) -> None:
    app.score_quick(settings, [])


def a_card(settings: Settings) -> None:
    assert hardware.cards() == ()


STARTED: dict[str, tuple[Callable[[Settings], None], set[str]]] = {
    "a worker": (a_worker, set()),
    "an engine and its keeper": (an_engine, {"VLLM_API_KEY"}),
    "one that fetches its model": (partial(an_engine, keys=("HF_TOKEN",)), {"VLLM_API_KEY", "HF_TOKEN"}),
    "a job and its keeper": (a_job, HUB),
    "a benchmark of a remote": (a_benchmark, HUB | {"FAR_API_KEY"}),
    "a trainer": (partial(a_trainer, program=("-c", "")), set()),
    "a trainer that reports": (partial(a_trainer, program=("-c", ""), tracker="wandb"), {"WANDB_API_KEY"}),
    "a trainer with its engine": (a_trainer, set()),
    "a step of an export": (an_export, set()),
    "a tokenizer as it is loaded": (a_tokenizer, set()),
    "the scores of an export": (a_score, HUB),
    "the driver of a card": (a_card, set()),
}


SLOW = {"a trainer with its engine", "a tokenizer as it is loaded"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in STARTED]
)
def test_a_process_finds_the_keys_it_needs_and_no_others(
    name: str, children: Callable[[], list[dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, wanted = STARTED[name]
    monkeypatch.setattr(app, "PROGRAM", [sys.executable, "-c", ""])
    with suppress(MadangError):  # most have nothing to work on
        start(Settings(data=tmp_path))
    told = children()
    assert told
    for environment in told:
        assert {key for key in environment if key in KEYS or key == "VLLM_API_KEY"} == wanted
        assert environment["MAX_TOKENS"] == "100"
