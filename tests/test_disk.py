"""Where the machine says no: a full disk, a folder closed to us, no more files. One sentence says so, everywhere."""

import errno
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi.testclient import TestClient

import app
from playground.catalogue import variants
from playground.catalogue.variants import Base
from playground.compare import Playground, Question
from playground.errors import SetupError, bug, disk_full, refused
from playground.events import Failed
from playground.messages import Message
from playground.page import edge
from playground.presets import Sampling
from playground.server.app import create
from playground.settings import Settings
from playground.ui import models
from playground.ui.page import build

NO = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk is full",
    errno.EROFS: "written: Read-only file system",
    errno.EACCES: "written: Permission denied",
    errno.EMFILE: "Too many files are open at once",
}
Refuse = Callable[[int], None]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data=tmp_path / "data")
    variants.add(made, Base(name="old", source="fake:old"))
    return made


@pytest.fixture
def refuse(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Have everything that would write below the data folder fail with an error of the system's."""

    def fails(number: int) -> None:
        def guarded(real: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
            def call(path: Any, *values: Any, **named: Any) -> Any:
                inside = isinstance(path, str | os.PathLike) and str(path).startswith(str(settings.data))
                if inside and writes(*values, **named):
                    raise OSError(number, os.strerror(number), str(path))
                return real(path, *values, **named)

            return call

        def opens(mode: str = "r", *values: Any, **named: Any) -> bool:
            return any(sign in mode for sign in "wax+")

        monkeypatch.setattr(io, "open", guarded(io.open, opens))
        monkeypatch.setattr("builtins.open", io.open)
        flags = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        monkeypatch.setattr(os, "open", guarded(os.open, lambda flag, *rest, **named: bool(flag & flags)))
        monkeypatch.setattr(os, "mkdir", guarded(os.mkdir, lambda *values, **named: True))

    return fails


def question(name: str) -> Question:
    return Question(variant=name, messages=(Message(role="user", content="Hi"),), sampling=Sampling())


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", NO)
def test_the_system_s_words_become_a_sentence_with_a_remedy(number: int, tmp_path: Path) -> None:
    error = OSError(number, os.strerror(number), str(tmp_path / "x.toml"))
    wrapped = RuntimeError("something went wrong")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        told = refused(one)
        assert told is not None
        assert NO[number] in told.message
        assert str(tmp_path) not in told.message  # which clients see
        assert told.hint
    assert isinstance(bug(error), SetupError)


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(errno.ENOENT, "x", "y"), ValueError("x"), OSError("x"), OSError(errno.ECONNREFUSED, "x")],
)
def test_a_bug_stays_one(error: Exception) -> None:
    assert refused(error) is None
    assert "A fault inside Madang" in bug(error).message


def test_writers_in_rust_bring_words_without_a_number() -> None:
    assert disk_full(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"))
    told = refused(RuntimeError("I/O error: Read-only file system (os error 30)"))
    assert told is not None
    assert "Read-only file system" in told.message


VERBS = {
    "add": ("models", "add", "new", "fake:new", "--kind", "base"),
    "remove": ("models", "remove", "old"),
}


@pytest.mark.parametrize("number", NO)
@pytest.mark.parametrize("verb", ["add", "remove"])
def test_the_terminal_says_so_in_two_lines(
    verb: str, number: int, settings: Settings, refuse: Refuse, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(settings.data)
    refuse(number)
    assert app.main(["--data", str(settings.data), *VERBS[verb]]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]
    assert NO[number] in lines[0]
    assert tree(settings.data) == before  # nothing is half there


@pytest.mark.parametrize("number", NO)
def test_an_answer_says_so_in_its_pane(number: int, settings: Settings, refuse: Refuse) -> None:
    playground = Playground(settings)
    refuse(number)
    try:
        [failed] = [event for event in playground.ask([question("old")]) if isinstance(event, Failed)]
    finally:
        playground.close()
    assert NO[number] in failed.message
    assert "A fault inside" not in failed.message


@pytest.mark.parametrize("number", NO)
def test_the_api_and_its_health_say_so(number: int, settings: Settings, refuse: Refuse) -> None:
    playground = Playground(settings)
    try:
        with TestClient(
            create(playground), raise_server_exceptions=False, base_url="http://127.0.0.1", client=("127.0.0.1", 1)
        ) as client:
            assert client.get("/health").status_code == 200
            refuse(number)
            sick = client.get("/health")
            asked = {"model": "old", "messages": [{"role": "user", "content": "Hi"}]}
            answer = client.post("/v1/chat/completions", json=asked)
    finally:
        playground.close()
    assert (sick.status_code, sick.json()["error"]["code"]) == (503, "disk")
    for found in (sick, answer):
        assert NO[number] in found.json()["error"]["message"]
    assert answer.status_code == 500
    assert str(settings.data) not in sick.text


def test_every_handler_of_the_page_has_the_edge(settings: Settings) -> None:
    handlers = [event.fn for event in build(Playground(settings), settings).fns.values() if event.fn is not None]
    assert handlers
    assert {handler.__code__.co_filename for handler in handlers} == {edge.__file__}


@pytest.mark.parametrize("number", NO)
def test_the_edge_of_the_page_says_so(number: int, settings: Settings) -> None:
    def writes() -> None:
        raise OSError(number, os.strerror(number), str(settings.data / "x"))

    def yields() -> Iterator[int]:
        yield 1
        writes()

    with gr.Blocks() as small:
        button = gr.Button()
        button.click(writes)
        button.click(yields, None, button)
    edge.guard(small)
    once, steps = (event.fn for event in small.fns.values())
    assert once is not None
    with pytest.raises(gr.Error, match=NO[number]):
        once()
    assert steps is not None
    with pytest.raises(gr.Error, match=NO[number]):
        list(steps())


def test_the_page_s_form_says_so(settings: Settings, refuse: Refuse) -> None:
    playground = Playground(settings)
    empty = dict.fromkeys(set().union(*models.FIELDS.values()))
    refuse(errno.ENOSPC)
    told = models.add(playground, empty | {"kind": "base", "name": "new", "source": "fake:new"})
    assert "The disk is full" in told.html
    assert not told.good


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with 256 kB, which is closed to writers with `mount -o remount,ro`."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    with ExitStack() as stack:
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], capture_output=True)
        if made.returncode:
            pytest.skip("this container may not mount")
        stack.callback(subprocess.run, ["umount", "-l", str(place)], check=False)
        yield place


def fill(disk: Path) -> None:
    (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free))


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_on_a_real_disk(how: str, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(data=small_disk / "data")
    variants.add(settings, Base(name="old", source="fake:old"))
    variants.add(settings, Base(name="other", source="fake:other"))
    before = settings.catalogue.read_bytes()
    if how == "full":
        fill(small_disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    said = "The disk is full" if how == "full" else "Read-only file system"
    for verb in ("add", "remove"):
        assert app.main(["--data", str(settings.data), *VERBS[verb]]) == 2
        assert said in capsys.readouterr().err.splitlines()[0]
    assert settings.catalogue.read_bytes() == before
    assert not list(settings.data.rglob("*.part"))
    with TestClient(
        create(playground := Playground(settings)), base_url="http://127.0.0.1", client=("127.0.0.1", 1)
    ) as client:
        assert said in client.get("/health").json()["error"]["message"]
    playground.close()
