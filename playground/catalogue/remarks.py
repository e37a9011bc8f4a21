"""What people should know of a sound model before they use it. Faults are raised elsewhere; a remark stops nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from playground.catalogue import gguf_files
from playground.catalogue.files import read_json
from playground.catalogue.variants import Adapter, Gguf, Stored

SENSES = ("vision_config", "audio_config")
"""Parts of a config.json that stand for an encoder of pictures or sound beside the language model."""


@dataclass(frozen=True)
class Remark:
    """One sentence: its key in the locales and what stands in it."""

    key: str
    values: Mapping[str, object] = field(default_factory=dict)


def remarks(variant: Stored, path: Path, adapter: Path | None, prompt_format: str | None) -> list[Remark]:
    """Return what to say of a variant whose files were checked.

    `path` is the folder of the base's files or the GGUF file, `adapter` an adapter's folder, `prompt_format` the named
    format that the catalogue gives for it.
    """
    return list(_of_gguf(path)) if isinstance(variant, Gguf) else list(_of_base(variant, path))


def _of_gguf(path: Path) -> Iterator[Remark]:
    if any(gguf_files.beside(file.name) == "mmproj" for file in gguf_files.inside(path.parent)):
        yield Remark("remark.text_alone")


def _of_base(variant: Stored, folder: Path) -> Iterator[Remark]:
    if isinstance(variant, Adapter):
        return  # it was said of the base
    config = read_json(folder / "config.json")
    if any(config.get(part) for part in SENSES):
        yield Remark("remark.text_alone")
