"""What transformers 5 leaves out of a SentencePiece tokenizer that it saves, and llama.cpp's converter reads.

Saved by it, a Gemma, Phi-3 or Mistral keeps tokenizer.json alone: the model of pieces is not written again, and the
control tokens are no longer listed in tokenizer_config.json. Converted so, `<start_of_turn>` is plain text.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from playground.catalogue.files import read_json

PIECES, TOKENIZER, CONFIG = "tokenizer.model", "tokenizer.json", "tokenizer_config.json"
HINT = f"Copy {PIECES} from the base's own repository into the base's folder: transformers 5 leaves it out."
LISTED = "added_tokens_decoder"


def complete(folder: Path, base: Path) -> None:
    """Put back what is missing from a merged model's tokenizer; one that is no SentencePiece stays byte for byte.

    The pieces come from the base, where the tokenizer gives every token of the base the same number.
    """
    if not (folder / PIECES).is_file() and (base / PIECES).is_file() and _extends(folder, base):
        shutil.copyfile(base / PIECES, folder / PIECES)
    if (folder / PIECES).is_file():
        _list_control_tokens(folder)


def is_lost(folder: Path) -> bool:
    """Return whether this is a SentencePiece tokenizer without its model of pieces: BPE that falls back to bytes."""
    model = read(folder / TOKENIZER).get("model") or {}
    return bool(model.get("byte_fallback")) and not (folder / PIECES).is_file()


def tokens(tokenizer: dict[str, Any]) -> list[tuple[str, int]]:
    """Return the tokens of a tokenizer.json with their ids, those that were added last."""
    words = (tokenizer.get("model") or {}).get("vocab") or {}
    rows = enumerate(row[0] for row in words) if isinstance(words, list) else ((words[token], token) for token in words)
    added = [(row["content"], row["id"]) for row in tokenizer.get("added_tokens") or []]
    return [(str(token), int(number)) for number, token in rows] + added


def _extends(folder: Path, base: Path) -> bool:
    """Return whether the tokenizer gives every token of the base the same number."""
    ours, theirs = (dict(tokens(read(where / TOKENIZER))) for where in (folder, base))
    return bool(theirs) and theirs.items() <= ours.items()


def _list_control_tokens(folder: Path) -> None:
    config, added = read(folder / CONFIG), read(folder / TOKENIZER).get("added_tokens")
    if not added or config.get(LISTED):
        return
    rows = {str(row["id"]): {key: value for key, value in row.items() if key != "id"} for row in added}
    text = json.dumps(config | {LISTED: rows}, indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def read(file: Path) -> dict[str, Any]:
    """Return a JSON object from a model folder; empty where there is no such file."""
    return read_json(file) if file.is_file() else {}
