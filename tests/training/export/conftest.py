"""A tiny adapter in the catalogue, and an export whose slow steps are played: what it does around them is real."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import app
from playground.catalogue import variants
from playground.catalogue.variants import Adapter, Base
from playground.settings import Settings
from playground.system.atomic import replacing
from tests.playground.backends.conftest import tiny_adapter
from training.export import building, gguf, parity
from training.export.parity import Grade, Verdict

__all__ = ["tiny_adapter"]
NAME = "tiny:tuned"


@pytest.fixture
def source(settings: Settings, tiny: Callable[[str], Path], tiny_adapter: Callable[..., Path]) -> str:
    """The name of an adapter variant on a tiny Llama."""
    base = tiny("llama")
    variants.add(settings, Base(name="tiny", source=str(base)))
    variants.add(settings, Adapter(name=NAME, source=str(tiny_adapter(base)), base="tiny"))
    return NAME


class Verdicts:
    """A session of parity that says what it is told; remembers what it was asked."""

    def __init__(self) -> None:
        self.say: dict[str, Grade] = {}
        self.asked: list[tuple[str, str, str | None]] = []

    def __call__(self, settings: Settings, source: str) -> "Verdicts":
        return self

    def __enter__(self) -> "Verdicts":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def check(self, built: Any, kind: str, level: str, reference: Any, progress: Any) -> Verdict:
        label = level or kind
        self.asked.append((built.name, label, reference.name if reference else None))
        assert Path(built.source).exists()
        verdict = self.say.get(label, "pass")
        return Verdict(verdict=verdict, causes=["weights"] if verdict == "fail" else [], lines=["Looked."])


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> Verdicts:
    """What judges this test's exports."""
    session = Verdicts()
    monkeypatch.setattr(parity, "session", session)
    return session


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Conversion and quantization played, merging done in this process; the list says what was done."""
    done: list[str] = []

    def convert(hf_dir: Path, out: Path, outtype: str, name: str) -> None:
        assert (hf_dir / "model.safetensors").exists()
        _write(out, f"{outtype} {name}")
        done.append(f"convert {outtype}")

    def quantize(gguf: Path, out: Path, level: str, imatrix: Path | None) -> None:
        assert gguf.read_bytes().startswith(b"GGUF")
        _write(out, level)
        done.append(f"quantize {level}")

    def isolated(function: Callable[..., None], *args: object, what: str) -> None:
        done.append(what)
        function(*map(str, args))

    monkeypatch.setattr(gguf, "convert", convert)
    monkeypatch.setattr(gguf, "quantize", quantize)
    monkeypatch.setattr(building, "isolated", isolated)
    return done


def _write(out: Path, text: str) -> None:
    with replacing(out) as part:
        part.write_bytes(b"GGUF" + text.encode())


def madang(settings: Settings, *arguments: str) -> int:
    """The exit code."""
    try:
        return app.main(["--data", str(settings.data), *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def tree(folder: Path) -> list[str]:
    """Every file and folder, with sizes."""
    return sorted(
        f"{path.relative_to(folder)} {path.stat().st_size if path.is_file() else ''}" for path in folder.rglob("*")
    )
