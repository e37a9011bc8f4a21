"""What an adapter adds to its base, computed here from its files alone: neither PEFT nor our own merge is asked.

What is not computed here (experts put together, starts that rewrite the base, kinds beside LoRA) is said in `unknown`:
then the weights of a build cannot be judged, and its distributions and answers must be.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from playground.catalogue.adapters import targets
from playground.catalogue.files import read_json
from training.export.parity.weights import F32, FolderWeights, Rows

PREFIX = "base_model.model."
PARTS = re.compile(r"\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(\.weight|\.bias)?$")
WRAPPERS = re.compile(r"\.(base_layer|modules_to_save|token_adapter)(?=\.)")
TOKENS = ".trainable_tokens_delta"
COPY = ".original_module."
"""A module as it was before a whole one took its place; PEFT saves it where the vocabulary grew."""
STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""Starts that leave the base's weights as they are."""
UNKNOWN = {
    "target_parameters": "it changes parameters that are no layers",
    "layer_replication": "it repeats layers",
    "use_qalora": "it uses QALoRA",
    "use_bdlora": "its matrices are block-diagonal",
    "kasa_config": "it uses KaSA",
    "monteclora_config": "it uses MonteCLoRA",
    "alora_invocation_tokens": "it switches on at certain tokens",
    "arrow_config": "it routes between adapters",
}


def canonical(name: str) -> str:
    """Return a tensor's name without the wrappers that differ between files of one model."""
    return re.sub(r"^(base_model\.model\.|model\.|language_model\.|text_model\.)+", "", name)


class Lora:
    """An adapter folder. `touched` names the base's tensors that it changes, canonically."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = read_json(folder / "adapter_config.json")
        self.weights = FolderWeights([folder / "adapter_model.safetensors"])
        self._parts: dict[str, dict[str, str]] = {}
        self._replaced: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        for key in self.weights.names():
            self._sort(key)

    def _sort(self, key: str) -> None:
        """Put one tensor where it belongs: half of a pair, single tokens, or a whole tensor."""
        if match := PARTS.search(key):
            module = key[: match.start()].removeprefix(PREFIX)
            if targets(self.config, module):
                part = match.group(1) + (match.group(2) or "").replace(".weight", "")
                self._parts.setdefault(canonical(module), {"": module})[part] = key
        elif key.endswith(TOKENS):
            self._tokens[canonical(WRAPPERS.sub("", key.removesuffix(TOKENS) + ".weight"))] = key
        elif COPY not in key:
            self._replaced[canonical(WRAPPERS.sub("", key))] = key

    @property
    def unknown(self) -> str:
        """Return what about it is not computed here; empty where all of it is."""
        if str(self.config.get("peft_type")).upper() != "LORA":
            return f"its kind is {self.config.get('peft_type')}"
        start = self.config.get("init_lora_weights", True)
        if start not in STARTS:
            return f"its start rewrote the base's weights (init_lora_weights: {start})"
        found = next((option for option in UNKNOWN if self.config.get(option)), None)
        if found is not None:
            return f"{UNKNOWN[found]} ({found})"
        experts = [name for name in self._parts if ".experts." in name]
        scaled = ("use_rslora", "rank_pattern", "alpha_pattern")
        if experts and any(self.config.get(option) for option in scaled):
            return "the experts it changes are put together and scaled anew on loading"
        return ""

    @property
    def touched(self) -> list[str]:
        """Return the canonical names of the tensors it changes."""
        biases = [f"{module}.bias" for module, parts in self._parts.items() if "lora_B.bias" in parts]
        return [f"{module}.weight" for module in self._parts] + biases + [*self._replaced, *self._tokens]

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor that it brings whole; None for all others."""
        return self.weights.shape(self._replaced[name]) if name in self._replaced else None

    def change(self, name: str, which: Rows, base: F32, like: str = "") -> F32 | None:
        """Return what is added to these rows of a base's tensor; None where the adapter leaves it alone.

        `like` names a tensor that this one is tied to: what replaces that one replaces this.
        """
        shared = "" if self._stands_in(like) else like
        whole = next((self._replaced[one] for one in (name, shared) if one in self._replaced), None)
        start = self.weights.rows(whole, which) if whole else base
        tokens = next((self._tokens[one] for one in (name, like) if one in self._tokens), None)
        if tokens:
            start = self._with_tokens(tokens, which, start)
        added = self._added(name, which, start)
        if added is None and start is base:
            return None
        return start - base if added is None else start - base + added

    def _stands_in(self, name: str) -> bool:
        """Return whether a module of its own stands in for one of the base, whose tied layer then keeps the base's."""
        module = name.rpartition(".")[0]
        return any(re.match(rf"(.*\.)?{one}$", module) for one in self.config.get("modules_to_save") or ())

    def _with_tokens(self, key: str, which: Rows, start: F32) -> F32:
        """Return rows with those of single tokens replaced."""
        wanted = self.config.get("trainable_token_indices") or []
        if isinstance(wanted, dict):
            module = WRAPPERS.sub("", key.removesuffix(TOKENS))
            wanted = next((rows for name, rows in wanted.items() if re.match(rf"(.*\.)?{name}$", module)), [])
            wanted = wanted or next(iter(self.config["trainable_token_indices"].values()))
        places = {int(number): place for place, number in enumerate(wanted)}
        count = 1 + max(places, default=0)
        numbers = np.arange(max(count, which.stop or 0 if isinstance(which, slice) else int(which.max()) + 1))[which]
        found = [(row, places[int(number)]) for row, number in enumerate(numbers[: len(start)]) if number in places]
        if not found:
            return start
        rows, held = (list(part) for part in zip(*found, strict=True))
        changed = start.copy()
        changed[rows] = self._whole(key)[held]
        return changed

    def _added(self, name: str, which: Rows, start: F32) -> F32 | None:
        """Return what LoRA itself adds; None where it is on other tensors."""
        module, _, last = name.rpartition(".")
        parts = self._parts.get(module)
        if parts is None or (last == "bias" and "lora_B.bias" not in parts):
            return None
        if last == "bias":
            return self._scale(parts) * self._whole(parts["lora_B.bias"])
        added = self._scale(parts) * self._product(parts, which)
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

    def _scale(self, parts: dict[str, str]) -> float:
        first = parts.get("lora_A") or parts["lora_embedding_A"]
        rank = self.weights.shape(first)[0]
        alpha = float(_pattern(self.config.get("alpha_pattern") or {}, parts[""], self.config["lora_alpha"]))
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def _whole(self, key: str) -> F32:
        return self.weights.rows(key, slice(None))


def _pattern(patterns: dict[str, Any], module: str, otherwise: Any) -> Any:
    """Follow PEFT's rule: the first pattern that matches the module's end at a dot."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise
