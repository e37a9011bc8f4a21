"""Models that Ollama keeps: a manifest a model, which names its files by their digests in one folder of blobs.

Layout: github.com/ollama/ollama, manifests/<host>/<namespace>/<model>/<tag> beside blobs/sha256-<digest>.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from playground.catalogue import kinds
from playground.catalogue.discovery.found import OLLAMA, Found, Look
from playground.catalogue.discovery.reading import folders, gguf_obstacle, json_object, size
from playground.catalogue.remarks import Remark

LAYER = "application/vnd.ollama.image."
DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
HOST, NAMESPACE = "registry.ollama.ai", "library"
LEAST_CONTEXT = 64


def look_at(root: Path, look: Look) -> None:
    """Add the models of one of Ollama's folders."""
    manifests = root / "manifests"
    for folder, names in folders(manifests, look):
        place = folder.relative_to(manifests).parts
        if len(place) == 3:
            look.found += [found for tag in names for found in _model(root, place, tag, look)]


def _model(root: Path, place: tuple[str, ...], tag: str, look: Look) -> list[Found]:
    manifest = json_object(root / "manifests" / Path(*place) / tag, look)
    layers = _layers(manifest.get("layers"))
    if not layers:
        return []
    host, namespace, model = place
    prefix = (
        "" if host == HOST and namespace == NAMESPACE else f"{namespace}/" if host == HOST else f"{host}/{namespace}/"
    )
    weights = layers.get("model")
    path = _blob(root, weights) if weights else None
    found = Found(
        place=OLLAMA,
        title=f"{prefix}{model}:{tag}",
        kind=kinds.guess(str(path)) if path else "gguf",
        source=str(path or root),
        path=path or root / "manifests" / Path(*place) / tag,
        size=size(path) if path else 0,
        context=_context(root, layers, look),
        notes=tuple(_notes(layers)),
        obstacle=_obstacle(layers, path),
    )
    return [found]


def _layers(rows: Any) -> dict[str, Mapping[str, Any]]:
    """Return a manifest's layers by what they are; of several of a kind the first."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and str(row.get("mediaType", "")).startswith(LAYER):
            found.setdefault(str(row["mediaType"]).removeprefix(LAYER).partition(";")[0], row)
    return found


def _blob(root: Path, layer: Mapping[str, Any]) -> Path | None:
    """Return where a layer's file is, under the name that Ollama gives it today or gave it once."""
    digest = DIGEST.fullmatch(str(layer.get("digest", "")))
    if digest is None:
        return None
    path = root.resolve() / "blobs" / f"sha256-{digest[1]}"
    before = path.with_name(f"sha256:{digest[1]}")
    return before if not path.exists() and before.exists() else path


def _obstacle(layers: Mapping[str, Mapping[str, Any]], path: Path | None) -> Remark | None:
    if "model" not in layers:
        return Remark("found.ollama_tensors" if "tensor" in layers else "found.ollama_no_model")
    if path is None or size(path) != layers["model"].get("size", size(path)) or not size(path):
        return Remark("found.incomplete")
    if "adapter" in layers:
        return Remark("found.ollama_adapter")
    return gguf_obstacle(path)


def _notes(layers: Iterable[str]) -> list[Remark]:
    """Return what Madang heeds of a model's layers and what not."""
    named = {"template": "found.ollama_template", "params": "found.ollama_params", "system": "found.ollama_system"}
    named |= {"messages": "found.ollama_messages", "projector": "remark.text_alone"}
    return [Remark(key) for layer, key in named.items() if layer in set(layers)]


def _context(root: Path, layers: Mapping[str, Mapping[str, Any]], look: Look) -> int | None:
    """Return the context that a model's parameters set (num_ctx), the one of them that a catalogue row holds."""
    path = _blob(root, layers["params"]) if "params" in layers else None
    context = json_object(path, look).get("num_ctx") if path else None
    return context if isinstance(context, int) and context >= LEAST_CONTEXT else None
