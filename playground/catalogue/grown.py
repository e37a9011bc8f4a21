"""How many rows the embeddings of a base need for an adapter whose vocabulary is another; told from headers.

New rows that an adapter does not bring would be random, in PEFT as here: no two loads would answer alike.
"""

from pathlib import Path
from typing import Any

from playground.catalogue.adapters import EMBEDDINGS, HEAD, AdapterFiles
from playground.catalogue.files import read_json, safetensors_header, weight_files
from playground.errors import VariantError
from playground.wording import worded

LEAVES = {name.rpartition(".")[2] for name in EMBEDDINGS}


def rows(adapter: AdapterFiles, base: Path, words: int = 0) -> int | None:
    """Return the rows to resize the base's vocabulary to; None where it stays. Refuse rows that nobody trained.

    `words`: how many tokens the adapter's own tokenizer has, 0 where that is not asked.
    """
    stored = {name: row for file in weight_files(base) for name, row in safetensors_header(file).items()}
    here = next((int(stored[f"{name}.weight"]["shape"][0]) for name in EMBEDDINGS if f"{name}.weight" in stored), None)
    if here is None:
        return None
    wanted = needed(adapter, here)
    place = f"{base.name} has rows for {here}"
    if words > wanted:
        raise _untrained(adapter, words - wanted, "embeddings", place)
    parted = f"{HEAD}.weight" in stored and not read_json(base / "config.json").get("tie_word_embeddings")
    for names, what in ((LEAVES, "embeddings"), ({HEAD}, "output layer")):
        if wanted > here and (parted or names is LEAVES) and not _holds(adapter, names, here, wanted):
            raise _untrained(adapter, wanted - here, f"rows in the {what}", place)
    return wanted if wanted != here else None


def needed(adapter: AdapterFiles, here: int) -> int:
    """Return how many rows a vocabulary of `here` rows has once it is resized for an adapter."""
    return max(adapter.rows or here, *(index + 1 for index in adapter.new_rows), 0)


def _holds(adapter: AdapterFiles, names: set[str], begin: int, end: int) -> bool:
    """Return whether an adapter brings these rows of a table: the whole of it, or just these tokens."""
    own: dict[str, Any] = {
        name: row["shape"]
        for name, row in adapter.tensors.items()
        if names & set(name.split(".")) and ".lora_" not in name
    }
    single = any(name.endswith("trainable_tokens_delta") for name in own) and set(range(begin, end)) <= adapter.new_rows
    return single or any(len(shape) == 2 and shape[0] >= end for shape in own.values())


def _untrained(adapter: AdapterFiles, count: int, what: str, place: str) -> VariantError:
    return VariantError(
        worded("grown.vocabulary_grew_tokens", adapter=adapter.folder.name, count=count, what=what, place=place),
    )
