"""The chat templates that variants bring, read from their files without loading anything."""

from pathlib import Path

from playground.catalogue import gguf_files, gguf_header
from playground.catalogue.files import read_json
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf, Remote, Stored, Variant
from playground.errors import MadangError
from playground.prompts import own_template, prompt_format
from playground.thinking.habits import habits
from playground.traits import traits_of

ANY_TOKENS = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "unk", "pad")}
"""What a template may be given to see what it does with turns: whatever the tokens are, it does the same."""
THINKERS = ("thinker", "opener")
"""Ends of the sources of fakes that think (playground/backends/fake.py)."""


def chat_template(variant: Stored, path: Path, adapter: Path | None) -> str | None:
    """Return the chat template that a variant's files bring; an adapter's own wins over its base's."""
    if isinstance(variant, Gguf):
        return gguf_header.read(path).text("tokenizer.chat_template") or None
    folders = [folder for folder in (adapter, path) if folder is not None]
    configs = [folder / "tokenizer_config.json" for folder in folders]
    found = [own_template(one.parent, read_json(one) if one.exists() else {}) for one in configs]
    return next(filter(None, found), None)


def can_think(variant: Variant, catalogue: Catalogue) -> bool:
    """Return whether a variant's thinking can be switched, as far as files on this machine tell.

    A server elsewhere is taken to: what it does with the switch only it knows.
    """
    if isinstance(variant, Remote):
        return True
    if variant.is_fake:
        return variant.source.endswith(THINKERS)
    named = catalogue.prompt_format(variant)
    try:
        source = prompt_format(named).template if named else _here(variant, catalogue)
    except (MadangError, OSError):
        return False  # whoever asks it is told why
    return bool(source) and habits(source or "").thinks


def can_chat(variant: Variant, catalogue: Catalogue) -> bool:
    """Return whether a variant can be asked in Chat, as far as files on this machine tell; others are taken to."""
    if isinstance(variant, Remote) or variant.is_fake or catalogue.prompt_format(variant):
        return True
    base = variant if isinstance(variant, Gguf) else catalogue.base_of(variant) or variant
    try:
        source = _here(variant, catalogue)
    except (MadangError, OSError):
        return True  # whoever asks it is told why not
    if source is None:
        return isinstance(base, Stored) and not base.is_local
    traits = traits_of(source, ANY_TOKENS)
    return traits.asks and traits.takes


def _here(variant: Base | Adapter | Gguf, catalogue: Catalogue) -> str | None:
    """Return the template of a variant whose files are on this machine."""
    if isinstance(variant, Gguf):
        return chat_template(variant, gguf_files.chosen(variant.path, variant.file), None) if variant.is_local else None
    base = catalogue.base_of(variant) or variant
    adapter = variant.path if isinstance(variant, Adapter) and variant.is_local else None
    return chat_template(variant, base.path if base.is_local else Path("nowhere"), adapter)
