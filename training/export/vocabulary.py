"""How many rows the embeddings of a merged model have, where an adapter's vocabulary is another than its base's.

Reads headers and tokenizer files alone.
"""

from pathlib import Path
from typing import Any

from playground.catalogue.adapters import EMBEDDINGS, HEAD, AdapterFiles
from playground.catalogue.files import read_json, safetensors_header, weight_files
from playground.errors import VariantError
from training.export import pieces

TABLES = {name.rpartition(".")[2] for name in EMBEDDINGS}


def rows(adapter: AdapterFiles, base: Path) -> int | None:
    """Return the rows to resize the base's vocabulary to; None where it stays. Refuse rows that nobody trained."""
    stored = {name: row for file in weight_files(base) for name, row in safetensors_header(file).items()}
    here = next((int(stored[f"{name}.weight"]["shape"][0]) for name in EMBEDDINGS if f"{name}.weight" in stored), None)
    if here is None:
        return None
    wanted = max(adapter.rows or here, max(adapter.new_rows, default=-1) + 1)
    if (tokens := _tokens(adapter)) > wanted:
        raise _untrained(adapter, tokens - wanted, "embeddings", f"{base.name} has rows for {here}")
    parted = f"{HEAD}.weight" in stored and not read_json(base / "config.json").get("tie_word_embeddings")
    for names, what in ((TABLES, "embeddings"), ({HEAD}, "output layer")):
        if wanted > here and (parted or names is TABLES) and not _holds(adapter, names, here, wanted):
            raise _untrained(adapter, wanted - here, f"rows in the {what}", f"{base.name} has rows for {here}")
    return wanted if wanted != here else None


def _holds(adapter: AdapterFiles, names: set[str], begin: int, end: int) -> bool:
    """Return whether an adapter brings these rows of a table: the whole of it, or just these tokens."""
    own: dict[str, Any] = {
        name: row["shape"]
        for name, row in adapter.tensors.items()
        if names & set(name.split(".")) and ".lora_" not in name
    }
    single = any(name.endswith("trainable_tokens_delta") for name in own) and set(range(begin, end)) <= adapter.new_rows
    return single or any(len(shape) == 2 and shape[0] >= end for shape in own.values())


def _tokens(adapter: AdapterFiles) -> int:
    """Return how many tokens the adapter's own tokenizer has; 0 where it has none, or none that is read here."""
    spelled = adapter.folder / pieces.TOKENIZER
    if not adapter.has_tokenizer or not spelled.is_file():
        return 0
    return 1 + max((number for _, number in pieces.tokens(pieces.read(spelled))), default=-1)


def _untrained(adapter: AdapterFiles, count: int, what: str, here: str) -> VariantError:
    return VariantError(
        f"The vocabulary of {adapter.folder.name} grew by {count} tokens whose {what} it does not hold: {here}.",
        "Save the adapter again with them: modules_to_save for both layers, or save_embedding_layers=True on saving.",
    )
