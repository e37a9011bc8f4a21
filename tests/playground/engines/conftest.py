"""Catalogues of real-looking folders, free ports, and a program that behaves as an engine does from outside."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue.variants import Catalogue
from playground.settings import Settings
from tests.places import FAKE_ENGINE


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine of this machine, no key, nothing that the person who runs the tests has set."""
    for name in ("MADANG_VLLM", "MADANG_LLAMA_SERVER", "MADANG_API_KEYS", "MADANG_API_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DO_NOT_TRACK", "LLAMA_ARG_CORS_ORIGINS", "LLAMA_API_KEY", "VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fake(mode: str) -> tuple[str, ...]:
    """The command of a fake engine."""
    return (sys.executable, str(FAKE_ENGINE), mode)


class Shelf:
    """Writes models into a folder and rows about them into the catalogue beside it."""

    def __init__(self, folder: Path, files: Any) -> None:
        self.folder, self.files = folder, files
        self.settings = Settings(data=folder / "data")
        self.rows: list[str] = []

    def base(self, name: str = "qwen", template: bool = True, row: str = "", **config: Any) -> Path:
        folder: Path = self.files.base(self.folder / name, **config)
        if template:
            (folder / "chat_template.jinja").write_text("{{ messages }}")
        self.add(name, "base", f"source = {str(folder)!r}\n{row}")
        return folder

    def adapter(self, name: str, base: str = "qwen", row: str = "", **config: Any) -> Path:
        folder: Path = self.files.adapter(self.folder / name.replace(":", "-"), **config)
        self.add(name, "adapter", f"source = {str(folder)!r}\nbase = {base!r}\n{row}")
        return folder

    def gguf(self, name: str, row: str = "", template: bool = True) -> Path:
        fields = {"general.architecture": "llama", "tokenizer.ggml.model": "gpt2"}
        if template:
            fields["tokenizer.chat_template"] = "{{ messages }}"
        path: Path = self.files.gguf(self.folder / f"{name.replace(':', '-')}.gguf", fields=fields)
        self.add(name, "gguf", f"source = {str(path)!r}\n{row}")
        return path

    def add(self, name: str, kind: str, fields: str) -> None:
        self.settings.data.mkdir(exist_ok=True)
        with self.settings.catalogue.open("a", encoding="utf-8") as file:
            file.write(f"[[variant]]\nname = {name!r}\nkind = {kind!r}\n{fields}\n")

    def using(self, **changes: Any) -> Settings:
        return self.settings.model_copy(update=changes)

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue.load(self.settings)

    @property
    def remotes(self) -> list[str]:
        return [variant.name for variant in self.catalogue if variant.kind == "remote"]


@pytest.fixture
def shelf(tmp_path: Path, model_files: Any) -> Shelf:
    return Shelf(tmp_path, model_files)


@pytest.fixture
def fake_command() -> Callable[[str], tuple[str, ...]]:
    return fake
