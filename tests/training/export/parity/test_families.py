"""Architectures beyond the embedded one: tiny random models through merge, conversion and parity at F16."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue.variants import Base, Gguf
from playground.errors import MadangError
from playground.settings import Settings
from tests.training.export.ropes import LLAMA3
from training.export import gguf
from training.export.merge import merge
from training.export.parity import session

from . import tiny
from .planted import rewrite

pytestmark = pytest.mark.models
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": False}),
    "qwen2.5": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"tie_word_embeddings": False}),
    "mistral": ("mistral", {"sliding_window": None, "tie_word_embeddings": False}),
    "gemma2": ("gemma2", {"sliding_window": 1024, "query_pre_attn_scalar": 64}),
    "gemma3": ("gemma3_text", {"sliding_window": 1024, "query_pre_attn_scalar": 64}),
    "phi3": ("phi3", {"tie_word_embeddings": False, "original_max_position_embeddings": 2048, "pad_token_id": 0}),
}
SENTENCEPIECE = ("gemma2", "phi3")
"""Families whose converter reads a SentencePiece model and nothing else."""
REFUSED = ("qwen2.5",)
"""transformers reads any tokenizer in a qwen2 folder as Qwen's own: SmolLM2's comes out as one that nobody knows."""
SOONER = ("qwen3", "gemma2")
"""One of each kind of tokenizer among the slow tests; the others wait under long."""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Callable[[str], Path]:
    """A folder with base/, adapter/ and a catalogue in data/ of the named family; made once."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            folder = made[name] = tmp_path_factory.mktemp(name)
            kind, options = FAMILIES[name]
            ends = {"bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.06}
            pieces = {"vocab_size": tiny.SPM_SIZE, "faint": tiny.SPM_BYTES}
            words = pieces if name in SENTENCEPIECE else {"vocab_size": 49152}
            base = tiny.model(folder / "base", kind, **(options | ends | words))
            if name in SENTENCEPIECE:
                tiny.sentencepiece_tokenizer(base, prefix=name == "phi3")
            else:
                tiny.smollm_tokenizer(base, demo_models)
            tiny.catalogue(folder / "data", base, tiny.adapter(folder / "adapter", base))
            merge(base, folder / "adapter", folder / "merged", "float16")
        return made[name]

    return make


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SOONER else pytest.mark.long) for name in FAMILIES]
)
def test_a_familys_exports_pass(name: str, family: Callable[[str], Path]) -> None:
    folder = family(name)
    try:
        gguf.convert(folder / "merged", folder / "f16.gguf")
    except MadangError as error:
        if name not in REFUSED:
            raise
        pytest.skip(f"the converter refuses {name}: {error.message.splitlines()[-1]}")
    with session(Settings(data=folder / "data", threads=2), "tiny:lora") as opened:
        merged = opened.check(Base(name="merged", source=str(folder / "merged")), "merged")
        assert merged.verdict == "pass", "\n".join(merged.lines)
        built = opened.check(Gguf(name="f16", source=str(folder / "f16.gguf")), "gguf", "f16")
        assert built.verdict == "pass", "\n".join(built.lines)
        assert built.numbers["files"]["adapter_times"] == pytest.approx(1, abs=0.01)
        assert built.numbers["numbers"]["mean_kl"] < 0.001


@pytest.mark.long
def test_llama3s_stretched_positions_lost(family: Callable[[str], Path], tmp_path: Path) -> None:
    """The scaling is a tensor in GGUF: another converter might leave it out, or fill it with ones."""
    folder = family("llama3")
    if not (folder / "f16.gguf").exists():
        gguf.convert(folder / "merged", folder / "f16.gguf")
    flat = rewrite(folder / "f16.gguf", tmp_path / "x.gguf", tensors={"rope_freqs": lambda data: data * 0 + 1})
    with session(Settings(data=folder / "data", threads=2), "tiny:lora") as opened:
        verdict = opened.check(Gguf(name="flat", source=str(flat)), "gguf", "f16")
    assert (verdict.verdict, verdict.causes) == ("fail", ["hyperparameters"]), "\n".join(verdict.lines)


@pytest.mark.long
def test_gemmas_norms_without_their_one(family: Callable[[str], Path], tmp_path: Path) -> None:
    """transformers stores Gemma's norms less one, llama.cpp does not."""
    folder = family("gemma3")
    if not (folder / "f16.gguf").exists():
        gguf.convert(folder / "merged", folder / "f16.gguf")
    bare = rewrite(folder / "f16.gguf", tmp_path / "x.gguf", tensors={"blk.0.attn_norm": lambda data: data - 1})
    with session(Settings(data=folder / "data", threads=2), "tiny:lora") as opened:
        verdict = opened.check(Gguf(name="bare", source=str(bare)), "gguf", "f16")
    assert (verdict.verdict, verdict.causes) == ("fail", ["weights"]), "\n".join(verdict.lines)


@pytest.mark.long
def test_a_yarn_factor_lost(family: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(family("qwen3"), tmp_path / "x")
    for config in (folder / "base/config.json", folder / "merged/config.json"):
        row = json.loads(config.read_text(encoding="utf-8"))
        yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "rope_theta": 10000.0}
        config.write_text(json.dumps(row | {"rope_parameters": yarn}), encoding="utf-8")
    gguf.convert(folder / "merged", folder / "yarn.gguf")
    tiny.catalogue(folder / "data", folder / "base", folder / "adapter")
    lost = rewrite(folder / "yarn.gguf", folder / "lost.gguf", {"qwen3.rope.scaling.type": None})
    with session(Settings(data=folder / "data", threads=2), "tiny:lora") as opened:
        assert opened.check(Gguf(name="yarn", source=str(folder / "yarn.gguf")), "gguf", "f16").verdict == "pass"
        verdict = opened.check(Gguf(name="lost", source=str(lost)), "gguf", "f16")
    assert (verdict.verdict, verdict.causes) == ("fail", ["hyperparameters"]), "\n".join(verdict.lines)
