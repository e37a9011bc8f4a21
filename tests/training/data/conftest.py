"""Encoders: of the embedded model, and of a tiny one whose tokenizer adds BOS."""

import json
from pathlib import Path

import pytest

from training.data.encoder import Encoder

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h", "<s>", "</s>", "<unk>", ":"]


@pytest.fixture(scope="session")
def encoder(demo_models: Path) -> Encoder:
    """The embedded model's."""
    return Encoder(demo_models / "smollm2", name="smollm2")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder whose tokenizer knows a few words, adds BOS, and brings no chat template."""
    return tiny_model(tmp_path / "tiny")


def tiny_model(folder: Path, template: str | None = None) -> Path:
    """A tokenizer of whole words; `<s>` is added in front of every text."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 8)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "model_max_length": 1e30}
    if template:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 96}))
    return folder
