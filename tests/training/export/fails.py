"""A converter that fails before it has imported anything."""

from pathlib import Path

from training.export.converter import explained


def convert(folder: str, file: str, level: str, name: str) -> None:
    raise explained(Path(folder), "FileNotFoundError: File not found: tokenizer.model", name)
