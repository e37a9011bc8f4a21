"""Searches the Hub for models that can be added, by what the Hub says of them: size, licence, gated or not."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playground.catalogue.files import DTYPE_SIZE

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

MOST = 30
BASE = "base_model:adapter:"


@dataclass(frozen=True)
class HubModel:
    """A repository as a search tells it; 0 and empty texts where the Hub does not say."""

    source: str
    kind: str
    parameters: int = 0
    download: int = 0
    """Bytes of safetensors; of GGUFs the files tell."""
    licence: str = ""
    gated: bool = False
    downloads: int = 0
    base: str = ""


def search(query: str) -> list[HubModel]:
    """Return what the Hub finds, what is downloaded most first; raises what huggingface_hub raises."""
    from huggingface_hub import HfApi

    found = HfApi().list_models(
        search=query,
        sort="downloads",
        limit=MOST,
        expand=["safetensors", "gguf", "gated", "downloads", "tags", "library_name"],
    )
    return [model for model in map(_model, found) if model.kind]


def _model(info: "ModelInfo") -> HubModel:
    tags = [str(tag) for tag in info.tags or ()]
    sizes: dict[str, int] = dict(info.safetensors.parameters) if info.safetensors else {}
    return HubModel(
        source=info.id,
        kind=_kind(info.library_name or "", tags, bool(sizes)),
        parameters=_parameters(info, sizes),
        download=sum(int(count * DTYPE_SIZE.get(dtype, 2)) for dtype, count in sizes.items()),
        licence=next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), ""),
        gated=bool(info.gated),
        downloads=info.downloads or 0,
        base=next((tag.removeprefix(BASE) for tag in tags if tag.startswith(BASE)), ""),
    )


def _kind(library: str, tags: list[str], safetensors: bool) -> str:
    """Return the kind of variant that a repository would be; empty for what Madang cannot run."""
    if "gguf" in tags or library == "gguf":
        return "gguf"
    if library == "peft" or any(tag.startswith(BASE) for tag in tags):
        return "adapter"
    return "base" if library in ("transformers", "") and (safetensors or "safetensors" in tags) else ""


def _parameters(info: "ModelInfo", sizes: dict[str, int]) -> int:
    said: Any = info.safetensors.total if info.safetensors else (info.gguf or {}).get("total", 0)
    return int(said or sum(sizes.values()))
