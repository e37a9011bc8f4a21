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


def corrected(kind: str, source: str) -> str:
    """Return the kind that a form says; where it says base, as it begins with, of a GGUF alone what that is."""
    path = Path(source).expanduser()
    is_alone = not path.is_dir() or not any(path.glob("*.safetensors"))
    return "gguf" if kind == "base" and is_alone and guess(source) == "gguf" else kind
