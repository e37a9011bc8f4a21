"""Which kind of variant a source looks like: asked wherever people name a source and no kind."""

from pathlib import Path

from playground.catalogue import gguf_files


def guess(source: str, base: str | None = None) -> str:
    """Return the kind that a source looks like; `base`: the variant it is said to descend from."""
    if source.startswith(("http://", "https://")):
        return "remote"
    path = Path(source).expanduser()
    if source.lower().endswith(".gguf") or gguf_files.is_gguf(path):
        return "gguf"
    if (path / "adapter_config.json").exists():
        return "adapter"
    return "adapter" if base is not None else "base"
