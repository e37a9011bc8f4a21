"""Healthy exports of a tiny random model and of the embedded one, made once; sessions that ask each source once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue.variants import Base, Gguf
from playground.settings import Settings
from training.export.merge import merge
from training.export.parity import Verdict, session
from training.export.parity.sessions import Session

from . import here, tiny


@dataclass(frozen=True)
class Made:
    """A source in a catalogue and its healthy builds: merged/, f16.gguf and the levels asked for."""

    settings: Settings
    source: str
    base: Path
    adapter: Path
    folder: Path

    @property
    def merged(self) -> Path:
        return self.folder / "merged"

    def file(self, level: str) -> Path:
        return self.folder / f"{level}.gguf"

    def convert(self, folder: Path, name: str, level: str = "f16") -> Path:
        """Another folder as GGUF."""
        file = self.folder / f"{name}.gguf"
        if not file.exists():
            here.convert(folder, file)
        if level != "f16":
            here.quantize(file, file.with_name(f"{name}-{level}.gguf"), level)
            return file.with_name(f"{name}-{level}.gguf")
        return file


def build(made: Made, levels: tuple[str, ...]) -> Made:
    merge(made.base, made.adapter, made.merged, "float16")
    here.convert(made.merged, made.file("f16"))
    for level in levels:
        here.quantize(made.file("f16"), made.file(level), level)
    return made


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Made:
    """A tiny Llama with SmolLM2's tokenizer and a random adapter: two layers, 14M numbers."""
    folder = tmp_path_factory.mktemp("small")
    options: dict[str, Any] = {
        "vocab_size": 49152,
        "tie_word_embeddings": True,
        "rope_theta": 100000.0,
        "eos_token_id": 2,
    }
    base = tiny.smollm_tokenizer(tiny.model(folder / "base", "llama", **options), demo_models)
    adapter = tiny.adapter(folder / "adapter", base)
    tiny.catalogue(folder / "data", base, adapter)
    made = Made(Settings(data=folder / "data", threads=2), "tiny:lora", base, adapter, folder)
    return build(made, ("q8_0", "q4_k_m"))


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Made:
    """The embedded model with its adapter. Half a minute to build."""
    settings = Settings(data=demo_models.parent, threads=2)
    base, adapter = demo_models / "smollm2", demo_models / "smollm2-demo"
    made = Made(settings, "smollm2:demo", base, adapter, tmp_path_factory.mktemp("embedded"))
    return build(made, ("q8_0", "q4_k_m"))


@pytest.fixture(scope="session")
def small_session(small: Made) -> Iterator[Session]:
    with session(small.settings, small.source) as opened:
        yield opened


@pytest.fixture(scope="session")
def embedded_session(embedded: Made) -> Iterator[Session]:
    with session(embedded.settings, embedded.source) as opened:
        yield opened


Check = Callable[..., Verdict]


def checker(opened: Session, made: Made) -> Check:
    """Check a GGUF file or a folder; quantized levels against the healthy F16 build."""

    def check(path: Path, level: str = "f16", kind: str = "") -> Verdict:
        reference = None
        if path.suffix == ".gguf":
            if level != "f16":
                reference = Gguf(name="healthy-f16", source=str(made.file("f16")))
            return opened.check(Gguf(name=path.stem, source=str(path)), kind or "gguf", level, reference)
        return opened.check(Base(name=path.name, source=str(path)), kind or "merged", level)

    return check


@pytest.fixture(scope="session")
def check(small: Made, small_session: Session) -> Check:
    return checker(small_session, small)


@pytest.fixture(scope="session")
def check_embedded(embedded: Made, embedded_session: Session) -> Check:
    return checker(embedded_session, embedded)
