"""A home folder as the programs leave it that keep models: the Hub's cache, Ollama, LM Studio. Files are tiny."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMMIT = "c0ffee" * 6 + "c0ff"
LAYER = "application/vnd.ollama.image."


class Machine:
    """Writes into one home folder, in the programs' own layouts."""

    def __init__(self, home: Path, model_files: Any) -> None:
        self.home, self.model_files = home, model_files
        self.cache = home / ".cache" / "huggingface" / "hub"
        self.ollama = home / ".ollama" / "models"
        self.lm_studio = home / ".lmstudio" / "models"

    def cached(self, repo: str, ref: str = "main") -> Path:
        """An empty snapshot of a repository in the Hub's cache, for `cache_files`."""
        folder = self.cache / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / ref).write_text(COMMIT, encoding="utf-8")
        (folder / "blobs").mkdir(exist_ok=True)
        (folder / "snapshots" / COMMIT).mkdir(parents=True)
        return folder / "snapshots" / COMMIT

    def cache_files(self, snapshot: Path, source: Path) -> None:
        """Put the files of a folder into a snapshot: as links to blobs, as huggingface_hub does."""
        for path in sorted(source.rglob("*")):
            if path.is_file():
                raw, link = path.read_bytes(), snapshot / path.relative_to(source)
                blob = snapshot.parents[1] / "blobs" / hashlib.sha256(raw).hexdigest()
                blob.write_bytes(raw)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path("../" * (len(link.relative_to(snapshot).parts) + 1)) / "blobs" / blob.name)

    def pulled(self, name: str, layers: Mapping[str, bytes], host: str = "registry.ollama.ai") -> Path:
        """A model as `ollama pull` leaves it; returns its manifest."""
        model, _, tag = name.partition(":")
        owner, _, model = model.rpartition("/")
        manifest = self.ollama / "manifests" / host / (owner or "library") / model / tag
        manifest.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"mediaType": LAYER + kind, "digest": self.blob(raw), "size": len(raw)} for kind, raw in layers.items()]
        config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": self.blob(b"{}"), "size": 2}
        media = "application/vnd.docker.distribution.manifest.v2+json"
        manifest.write_text(json.dumps({"schemaVersion": 2, "mediaType": media, "config": config, "layers": rows}))
        return manifest

    def blob(self, raw: bytes) -> str:
        """One of Ollama's blobs; returns its digest."""
        digest = hashlib.sha256(raw).hexdigest()
        path = self.ollama / "blobs" / f"sha256-{digest}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        return f"sha256:{digest}"

    def raw_gguf(self, **fields: Any) -> bytes:
        """The bytes of a small GGUF; `fields` with `__` for a dot."""
        made: dict[str, Any] = {
            "general.architecture": "llama",
            "tokenizer.ggml.model": "gpt2",
            "llama.context_length": 64,
        }
        made |= {name.replace("__", "."): value for name, value in fields.items()}
        path = self.model_files.gguf(self.home / "scratch.gguf", fields=made)
        raw: bytes = path.read_bytes()
        path.unlink()
        return raw
