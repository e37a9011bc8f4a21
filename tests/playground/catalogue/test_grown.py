"""Rows of a vocabulary that grew with an adapter: brought by it, or refused, since they would be random."""

from pathlib import Path
from typing import Any

import pytest

from playground.catalogue import grown
from playground.catalogue.adapters import AdapterFiles
from playground.errors import VariantError

EMBED, HEAD = "base_model.model.model.embed_tokens", "base_model.model.lm_head"


def base(folder: Path, tied: bool, files: Any) -> Path:
    tensors = {"model.embed_tokens.weight": (10, 4)} | ({} if tied else {"lm_head.weight": (10, 4)})
    made: Path = files.base(folder, tensors, tie_word_embeddings=tied)
    return made


def adapter(folder: Path, tensors: dict[str, list[int]], **config: Any) -> AdapterFiles:
    return AdapterFiles(folder, config, {name: {"dtype": "F32", "shape": shape} for name, shape in tensors.items()})


@pytest.mark.parametrize(
    ("tied", "tensors", "config", "rows"),
    [
        (True, {}, {}, None),
        (False, {f"{EMBED}.weight": [10, 4]}, {}, None),
        (True, {f"{EMBED}.weight": [13, 4]}, {}, 13),
        (True, {f"{EMBED}.base_layer.weight": [13, 4], f"{EMBED}.lora_embedding_A": [2, 13]}, {}, 13),
        (False, {f"{EMBED}.weight": [13, 4], f"{HEAD}.weight": [13, 4]}, {}, 13),
        (True, {f"{EMBED}.token_adapter.trainable_tokens_delta": [2, 4]}, {"trainable_token_indices": [10, 11]}, 12),
        (True, {f"{EMBED}.token_adapter.trainable_tokens_delta": [1, 4]}, {"trainable_token_indices": [3]}, None),
    ],
)
def test_rows_that_it_brings(  # noqa: PLR0913 - a parameter an axis
    tmp_path: Path,
    model_files: Any,
    tied: bool,
    tensors: dict[str, list[int]],
    config: dict[str, Any],
    rows: int | None,
) -> None:
    assert grown.rows(adapter(tmp_path / "a", tensors, **config), base(tmp_path / "b", tied, model_files)) == rows


@pytest.mark.parametrize(
    ("tied", "tensors", "config", "words", "reason"),
    [
        (False, {f"{EMBED}.weight": [13, 4]}, {}, 0, "3 tokens whose rows in the output layer"),
        (True, {f"{EMBED}.lora_embedding_A": [2, 13]}, {}, 0, "3 tokens whose rows in the embeddings"),
        (
            True,
            {f"{EMBED}.token_adapter.trainable_tokens_delta": [1, 4]},
            {"trainable_token_indices": [11]},
            0,
            "2 tokens whose rows in the embeddings",
        ),
        (True, {}, {}, 12, "2 tokens whose embeddings"),
    ],
)
def test_rows_that_nobody_trained(  # noqa: PLR0913 - a parameter an axis
    tmp_path: Path,
    model_files: Any,
    tied: bool,
    tensors: dict[str, list[int]],
    config: dict[str, Any],
    words: int,
    reason: str,
) -> None:
    with pytest.raises(VariantError, match=reason):
        grown.rows(adapter(tmp_path / "a", tensors, **config), base(tmp_path / "b", tied, model_files), words)
