"""The tokenizer and the chat template of a merged model: the adapter's own where it brings them, as Chat has it."""

import json
import shutil
from pathlib import Path
from typing import Any

from playground.catalogue import adapters
from playground.catalogue.adapters import AdapterFiles, folder_template
from playground.prompts import prompt_format, token_text
from training.export import pieces
from training.export.pieces import CONFIG, TOKENIZER, complete, read, tokens

FILES = adapters.TOKENIZER
"""Copied as they are: writing a tokenizer again through transformers is a chance to change it."""
TEMPLATE, GENERATION = "chat_template.jinja", "generation_config.json"
ENDS = "eos_token_id"


def folder(adapter: AdapterFiles, base: Path) -> Path:
    """Return the folder whose tokenizer the two have together."""
    return adapter.folder if adapter.has_tokenizer else base


def template(adapter: AdapterFiles, base: Path, format_name: str = "") -> str | None:
    """Return the chat template that the two are asked with; a named format wins. None where there is none."""
    return prompt_format(format_name).template if format_name else adapter.template or folder_template(base)


def write(adapter: AdapterFiles, base: Path, out: Path, format_name: str = "") -> None:
    """Write tokenizer, template and ends into a merged model's folder, which has the base's generation_config.json."""
    carry(folder(adapter, base), out, FILES)
    complete(out, base)
    wanted = template(adapter, base, format_name)
    if wanted is not None and folder_template(out) != wanted:
        _set_template(out, wanted)
    if adapter.has_tokenizer:
        _add_end(out)


def carry(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    """Copy the files of `source` that match any of the patterns."""
    for pattern in patterns:
        for file in source.glob(pattern):
            if file.is_file():
                shutil.copyfile(file, target / file.name)


def end(place: Path) -> int | None:
    """Return the token that a folder's tokenizer ends an answer with; None where it names none that it spells."""
    named = token_text(read(place / CONFIG).get("eos_token"))
    return next((number for token, number in tokens(read(place / TOKENIZER)) if token == named), None)


def _set_template(out: Path, text: str) -> None:
    (out / TEMPLATE).write_text(text, encoding="utf-8")
    if "chat_template" in (row := pieces.read(out / CONFIG)):
        del row["chat_template"]  # the converter would read this one first
        _write(out / CONFIG, row)


def _add_end(out: Path) -> None:
    """Have answers end where the adapter's own tokenizer ends them, too: the base's file knows nothing of it."""
    own, row = end(out), read(out / GENERATION)
    ends = row.get(ENDS, read(out / "config.json").get(ENDS))
    known = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if own is not None and own not in known:
        _write(out / GENERATION, row | {ENDS: [*known, own]})


def _write(file: Path, row: dict[str, Any]) -> None:
    file.write_text(json.dumps(row, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
