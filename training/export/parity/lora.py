"""What an adapter adds to its base, computed here from its files alone: neither PEFT nor our own merge is asked."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from playground.catalogue.files import read_json
from training.export.parity.weights import F32, FolderWeights, Rows

PREFIX = "base_model.model."
PARTS = re.compile(r"\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(\.weight|\.bias)?$")


def canonical(name: str) -> str:
    """Return a tensor's name without the wrappers that differ between files of one model."""
    return re.sub(r"^(base_model\.model\.|model\.|language_model\.)+", "", name)


class Lora:
    """An adapter folder. `touched` names the base's tensors that it changes, canonically."""

    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = read_json(folder / "adapter_config.json")
        self.weights = FolderWeights([folder / "adapter_model.safetensors"])
        self._parts: dict[str, dict[str, str]] = {}
        self._replaced: dict[str, str] = {}
        for key in self.weights.names():
            if match := PARTS.search(key):
                module = canonical(key[: match.start()])
                self._parts.setdefault(module, {})[match.group(1) + (match.group(2) or "").replace(".weight", "")] = key
            else:
                self._replaced[canonical(key).replace(".base_layer.", ".")] = key

    @property
    def touched(self) -> list[str]:
        """Return the canonical names of the tensors it changes."""
        biases = [f"{module}.bias" for module, parts in self._parts.items() if "lora_B.bias" in parts]
        return [f"{module}.weight" for module in self._parts] + biases + list(self._replaced)

    def change(self, name: str, which: Rows, base: F32) -> F32 | None:
        """Return what is added to these rows of a base's tensor; None where the adapter leaves it alone."""
        start = self.weights.rows(self._replaced[name], which) if name in self._replaced else base
        added = self._added(name, which, start)
        if added is None and start is base:
            return None
        return start - base if added is None else start - base + added

    def _added(self, name: str, which: Rows, start: F32) -> F32 | None:
        """Return what LoRA itself adds; None where it is on other tensors."""
        module, _, last = name.rpartition(".")
        parts = self._parts.get(module)
        if parts is None or (last == "bias" and "lora_B.bias" not in parts):
            return None
        if last == "bias":
            return self._scale(module, parts) * self._whole(parts["lora_B.bias"])
        added = self._scale(module, parts) * self._product(parts, which)
        return self._dora(parts, which, start, added) if "lora_magnitude_vector" in parts else added

    def _product(self, parts: dict[str, str], which: Rows) -> F32:
        """Return rows of B @ A, or of its transpose where the base stores layers transposed and in embeddings."""
        if "lora_embedding_A" in parts:
            a, b = self._whole(parts["lora_embedding_A"]), self._whole(parts["lora_embedding_B"])
            return np.asarray(a.T[which] @ b.T)
        a, b = self._whole(parts["lora_A"]), self._whole(parts["lora_B"])
        if self.config.get("fan_in_fan_out"):
            return np.asarray(a.T[which] @ b.T)
        return np.asarray(b[which] @ a)

    def _dora(self, parts: dict[str, str], which: Rows, base: F32, added: F32) -> F32:
        """Return what DoRA adds, which gives each row a length of its own."""
        moved = base + added
        length = self._whole(parts["lora_magnitude_vector"]).reshape(-1)[which]
        norm = np.linalg.norm(moved, axis=1)
        return np.asarray(moved * (length / norm)[:, None] - base, dtype=np.float32)

    def _scale(self, module: str, parts: dict[str, str]) -> float:
        first = parts.get("lora_A") or parts["lora_embedding_A"]
        rank = self.weights.shape(first)[0]
        alpha = float(_pattern(self.config.get("alpha_pattern") or {}, module, self.config["lora_alpha"]))
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def _whole(self, key: str) -> F32:
        return self.weights.rows(key, slice(None))


def _pattern(patterns: dict[str, Any], module: str, otherwise: Any) -> Any:
    """Follow PEFT's rule: the first pattern that matches the module's end at a dot."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise
