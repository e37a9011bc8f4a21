"""The tiny random models of the engines' own tests, and what the training tests train."""

import os
from pathlib import Path

import platformdirs
import pytest

from playground.settings import Settings
from tests.playground.backends.conftest import ask, tiny, tiny_adapter
from tests.training.trained import Train, trainer

__all__ = ["ask", "tiny", "tiny_adapter"]


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The embedded base model's folder, made without its GGUF builds: llama.cpp is not needed here."""
    from training.demo.prepare import BASE, prepare_base

    home = os.environ.get("MADANG_TEST_DATA") or platformdirs.user_cache_dir("madang-tests", appauthor=False)
    prepare_base(Path(home) / "models")
    return Path(home) / "models" / BASE


@pytest.fixture(scope="session")
def one_billion(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the shape of Llama-3.2-1B (but for its vocabulary), with the embedded model's tokenizer."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("one-billion") / "llama-1b"
    shape = LlamaConfig(
        vocab_size=49152,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM(shape).to(torch.bfloat16)
    model.save_pretrained(folder)
    del model
    torch.cuda.empty_cache()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(smollm2 / name, folder / name)
    return folder


@pytest.fixture
def train(tmp_path: Path, smollm2: Path) -> Train:
    """Trains a shipped recipe as `madang train` does, in a data folder of its own."""
    return trainer(Settings(data=tmp_path / "data"), smollm2.parent)
