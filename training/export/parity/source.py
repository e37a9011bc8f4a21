"""What an export should hold: the base's tensors with the adapter's change, computed row by row in float32."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from playground.catalogue.adapters import SPELLINGS
from playground.catalogue.files import read_json
from training.export.parity.lora import Lora, canonical
from training.export.parity.weights import F32, FolderWeights, Rows

HEAD, EMBEDDING = "lm_head.weight", "embed_tokens.weight"
NOT_WEIGHTS = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")
NO_TEXT = (
    *("vision_tower.", "multi_modal_projector.", "visual.", "vision_model.", "audio_tower.", "connector."),
    *("embed_vision.", "embed_audio.", "image_newline", "merger.", "projector.", "visual_embeddings_table."),
)


class Source:
    """A base folder and, perhaps, an adapter on it. Names are canonical: without `model.` in front."""

    def __init__(self, base: Path, adapter: Path | None) -> None:
        self.folder = base
        self.config: dict[str, Any] = text_config(read_json(base / "config.json"))
        self._weights = FolderWeights.of_model(base)
        self._names = {canonical(n): n for n in self._weights.names() if not is_foreign(canonical(n))}
        self.adapter = Lora(adapter) if adapter else None
        self.tokenizer = tokenizer_of(base, adapter)
        if self.tied:
            self._names.pop(HEAD, None)
        if self.adapter and (grown := self.adapter.shape(EMBEDDING)):
            self.config |= {"vocab_size": grown[0]}

    @property
    def tied(self) -> bool:
        """Whether the output layer is the embedding."""
        flag = self.config.get("tie_word_embeddings")
        return bool(flag) if flag is not None and HEAD in self._names else HEAD not in self._names

    @property
    def unties(self) -> bool:
        """Whether the adapter itself makes output layer and embedding differ."""
        return self.adapter is not None and not {HEAD, EMBEDDING}.isdisjoint(self.adapter.touched)

    @property
    def names(self) -> list[str]:
        """Return every tensor of the language model, canonically; not a head that is the embedding."""
        return list(self._names)

    @property
    def parameters(self) -> int:
        """Return how many numbers it holds."""
        return sum(math.prod(self.shape(name)) for name in self._names)

    @property
    def not_followed(self) -> list[str]:
        """Return what cannot be compared tensor by tensor: changes of unknown tensors, and unreadable tensors."""
        return self._lost + self._weights.unreadable

    @property
    def unknown(self) -> str:
        """Return why no tensor of a build can be judged; empty where they can."""
        if self.adapter is None or self.adapter.unknown:
            return self.adapter.unknown if self.adapter else ""
        return f"it changes {self._lost[0]}, which its base calls otherwise" if self._lost else ""

    @property
    def _lost(self) -> list[str]:
        """Return what the adapter changes of the language model under names that the base's files do not have."""
        touched = self.adapter.touched if self.adapter else []
        return [name for name in touched if name not in (*self._names, HEAD) and not is_foreign(name)]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a shape, rows first; a tied head has the embedding's, a vocabulary that grew with the adapter its."""
        own = self.adapter.shape(self._tied(name) or name) if self.adapter else None
        return own or self._weights.shape(self._stored(name))

    def base_rows(self, name: str, which: Rows) -> F32:
        """Return some rows without the adapter; those that came with it are zeros."""
        held, wanted = self._weights.shape(self._stored(name)), self.shape(name)
        if held == wanted or len(held) < 2:
            return self._weights.rows(self._stored(name), which)
        numbers = np.arange(math.prod(wanted[:-1]))[which]
        rows = np.zeros((len(numbers), held[-1]), dtype=np.float32)
        there = numbers < held[0]
        rows[there] = self._weights.rows(self._stored(name), numbers[there])
        return rows

    def change_rows(self, name: str, which: Rows, base: F32) -> F32 | None:
        """Return what the adapter adds to these rows; None where it leaves them alone."""
        return self.adapter.change(name, which, base, self._tied(name)) if self.adapter else None

    def _tied(self, name: str) -> str:
        """Return the embeddings for a head that is tied to them; empty for all else."""
        return EMBEDDING if name == HEAD and self.tied else ""

    def _stored(self, name: str) -> str:
        return self._names[EMBEDDING if name == HEAD and HEAD not in self._names else name]


def tokenizer_of(base: Path, adapter: Path | None) -> Path:
    """Return the folder whose tokenizer a variant has: the adapter's, where it brings one."""
    if adapter is None or not (adapter / "tokenizer_config.json").is_file():
        return base
    return adapter if any((adapter / name).is_file() for name in SPELLINGS) else base


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the language model's part of a config.json."""
    inner = config.get("text_config")
    return config | inner if isinstance(inner, dict) else config


def is_foreign(name: str) -> bool:
    """Return whether a tensor is no weight of the language model."""
    return name.endswith(NOT_WEIGHTS) or name.startswith(NO_TEXT)
