"""Small model files, written by hand: no engine is needed to check one."""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from playground.catalogue.discovery import offers as discovery
from playground.compare import Playground
from playground.settings import Settings
from tests.playground.machine import Machine

SIZES = {"F32": 4, "BF16": 2, "F16": 2, "U8": 1, "F8_E4M3": 1}
Shapes = Mapping[str, Sequence[int]]

LAYERS = {
    "model.embed_tokens.weight": (32, 8),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.layers.0.mlp.down_proj.weight": (8, 24),
    "model.norm.weight": (8,),
}
LORA = {
    "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight": (2, 24),
    "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight": (8, 2),
}


LLAMA: dict[str, Any] = {"general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "llama.context_length": 64}
WIDTH = 8


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _promised(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Add what every model says of itself, where these fields are a model's."""
    architecture = fields.get("general.architecture")
    if architecture is None:
        return dict(fields)
    numbers = {"block_count": 1, "embedding_length": WIDTH, "context_length": 64}
    lists = {"tokenizer.ggml.tokens": ["a", "b"], "tokenizer.ggml.merges": ["a b"]}
    return {f"{architecture}.{name}": number for name, number in numbers.items()} | lists | dict(fields)


def _weights(fields: Mapping[str, Any]) -> Shapes:
    """Return the least tensors of a model: embeddings for its vocabulary, and something in its one layer."""
    return {
        "token_embd.weight": (WIDTH, max(1, len(fields.get("tokenizer.ggml.tokens", ())))),
        "blk.0.ffn_up.weight": (WIDTH, WIDTH),
    }


def _value(value: Any) -> bytes:
    """Write a field of a GGUF with its type."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, list):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    return struct.pack("<Ii", 5, value)


class ModelFiles:
    """Writes model folders, whole or damaged."""

    def safetensors(self, path: Path, shapes: Shapes, dtype: str = "F32") -> Path:
        header, end = {}, 0
        for name, shape in shapes.items():
            begin, size = end, SIZES[dtype]
            for side in shape:
                size *= side
            end = begin + size
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(end))
        return path

    def base(self, folder: Path, shapes: Shapes = LAYERS, dtype: str = "F32", **config: Any) -> Path:
        folder.mkdir(parents=True)
        self.json(folder / "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama"} | config)
        self.json(folder / "tokenizer.json", {})
        self.safetensors(folder / "model.safetensors", shapes, dtype)
        return folder

    def sharded(self, folder: Path, shapes: Shapes = LAYERS) -> Path:
        self.base(folder)
        (folder / "model.safetensors").unlink()
        names = {tensor: f"model-{number:05}-of-{len(shapes):05}.safetensors" for number, tensor in enumerate(shapes)}
        for tensor, name in names.items():
            self.safetensors(folder / name, {tensor: shapes[tensor]})
        self.json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": names})
        return folder

    def adapter(self, folder: Path, shapes: Shapes = LORA, **config: Any) -> Path:
        folder.mkdir(parents=True)
        plain = {
            "peft_type": "LORA",
            "r": 2,
            "lora_alpha": 4,
            "target_modules": ".*",
            "bias": "none",
            "base_model_name_or_path": "owner/base",
        }
        self.json(folder / "adapter_config.json", plain | config)
        self.safetensors(folder / "adapter_model.safetensors", shapes)
        return folder

    def gguf(
        self,
        path: Path,
        version: int = 3,
        order: str = "<",
        fields: Mapping[str, Any] = LLAMA,
        tensors: Shapes | None = None,
    ) -> Path:
        """Write a GGUF whose tensors are F32 and whose fields are texts, numbers, true or false, or lists of texts."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = _promised(fields)
        tensors = _weights(fields) if tensors is None else tensors
        raw = b"GGUF" + struct.pack(f"{order}IQQ", version, len(tensors), len(fields))
        raw += b"".join(_text(key) + _value(value) for key, value in fields.items())
        end = 0
        for name, shape in tensors.items():
            raw += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, end)
            end += -(-prod(shape) * 4 // 32) * 32
        path.write_bytes(raw + bytes(-len(raw) % 32) + b"\1" * end)
        return path

    def gguf_shards(self, folder: Path, stem: str = "x", count: int = 3) -> list[Path]:
        """Write a model in shards as llama.cpp writes them: only the first says what model it is."""
        made = []
        for number in range(count):
            fields = {"split.no": number, "split.count": count, "split.tensors.count": count}
            path = folder / f"{stem}-{number + 1:05}-of-{count:05}.gguf"
            tensors = (
                {f"blk.{number - 1}.ffn_up.weight": (WIDTH, WIDTH)} if number else {"token_embd.weight": (WIDTH, 2)}
            )
            first = {} if number else LLAMA | {"llama.block_count": count - 1}
            made.append(self.gguf(path, fields=first | fields, tensors=tensors))
        return made

    def json(self, path: Path, content: Any) -> Path:
        path.write_text(json.dumps(content), encoding="utf-8")
        return path


@pytest.fixture(scope="session")
def model_files() -> ModelFiles:
    return ModelFiles()


ROWS = {
    "base": "kind = 'base'\nsource = 'fake:base'\ncontext = 4096",
    "one": "kind = 'adapter'\nbase = 'base'\nsource = 'fake:one'",
    "two": "kind = 'adapter'\nbase = 'base'\nsource = 'fake:two'",
    "other": "kind = 'gguf'\nsource = 'fake:other'",
    "third": "kind = 'gguf'\nsource = 'fake:third'",
    "wide": "kind = 'base'\nsource = 'fake:wide'\ncontext = 2000000",
    "broken": "kind = 'base'\nsource = 'fake:broken'",
    "aborts": "kind = 'base'\nsource = 'fake:aborts'",
    "sleepy": "kind = 'base'\nsource = 'fake:sleepy'",
    "noisy": "kind = 'base'\nsource = 'fake:noisy'",
    "far": "kind = 'base'\nsource = 'owner/far'",
}


@pytest.fixture
def fake_settings(tmp_path: Path) -> Settings:
    """Settings whose catalogue holds fakes alone, beside the built-in rows."""
    text = "".join(f"[[variant]]\nname = '{name}'\n{row}\n" for name, row in ROWS.items())
    (tmp_path / "variants.toml").write_text(text, encoding="utf-8")
    return Settings(data=tmp_path)


@pytest.fixture
def playground(fake_settings: Settings) -> Iterator[Playground]:
    """A playground of fakes, closed at the end."""
    playground = Playground(fake_settings)
    yield playground
    playground.close()


@pytest.fixture
def machine(tmp_path: Path, model_files: Any, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """An empty home of somebody; nothing of the real one is seen."""
    home = tmp_path / "home"
    home.mkdir()
    made = Machine(home, model_files)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.setattr(discovery, "OLLAMA_HOMES", ("~/.ollama/models",))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(made.cache))
    return made
