"""What people should know of a sound model before they use it. Faults are raised elsewhere; a remark stops nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from playground.catalogue import architectures, gguf_files, gguf_header
from playground.catalogue.files import read_json
from playground.catalogue.templates import ANY_TOKENS, chat_template
from playground.catalogue.variants import Adapter, Gguf, Stored
from playground.prompts import format_names
from playground.traits import traits_of


@dataclass(frozen=True)
class Remark:
    """One sentence: its key in the locales and what stands in it."""

    key: str
    values: Mapping[str, object] = field(default_factory=dict)
    no_chat: bool = False
    """Whether it cannot be asked in Chat as things stand."""


def remarks(variant: Stored, path: Path, adapter: Path | None, prompt_format: str | None) -> list[Remark]:
    """Return what to say of a variant whose files were checked.

    `path` is the folder of the base's files or the GGUF file, `adapter` an adapter's folder, `prompt_format` the named
    format that the catalogue gives for it.
    """
    of_files = _of_gguf(path) if isinstance(variant, Gguf) else _of_base(variant, path)
    return [*of_files, *(() if prompt_format else _of_template(chat_template(variant, path, adapter)))]


def _of_template(source: str | None) -> Iterator[Remark]:
    named = {"formats": ", ".join(format_names())}
    if source is None:
        yield Remark("remark.no_template", named, no_chat=True)
        return
    traits = traits_of(source, ANY_TOKENS)
    if not traits.takes:
        yield Remark("remark.refuses", named, no_chat=True)
    elif not traits.asks:
        yield Remark("remark.asks_nothing", named, no_chat=True)
    elif not traits.system:
        yield Remark("remark.no_system")
    if traits.asks and not traits.history:
        yield Remark("remark.no_history")


def _of_gguf(path: Path) -> Iterator[Remark]:
    if any(gguf_files.beside(file.name) == "mmproj" for file in gguf_files.inside(path.parent)):
        yield Remark("remark.text_alone")
    header = gguf_header.read(path)
    if header.number(f"{header.text('general.architecture')}.pooling_type"):
        yield Remark("remark.embeds")


def _of_base(variant: Stored, folder: Path) -> Iterator[Remark]:
    if isinstance(variant, Adapter):
        return  # it was said of the base
    config = read_json(folder / "config.json")
    if architectures.is_multimodal(config):
        yield Remark("remark.text_alone")
    if (folder / "modules.json").exists():  # of sentence-transformers
        yield Remark("remark.embeds")
