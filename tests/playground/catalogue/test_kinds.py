"""The kind that a source looks like."""

from pathlib import Path

import pytest

from playground.catalogue import kinds


@pytest.mark.parametrize(
    ("files", "source", "base", "kind"),
    [
        ([], "https://api.example/v1", None, "remote"),
        ([], "owner/name", None, "base"),
        ([], "owner/name", "smollm2", "adapter"),
        ([], "missing.GGUF", None, "gguf"),
        (["blob"], "blob", None, "gguf"),  # as Ollama names its files
        (["a/m-00001-of-00002.gguf", "a/m-00002-of-00002.gguf"], "a", None, "gguf"),
        (["a/model.safetensors", "a/m.gguf"], "a", None, "gguf"),
        (["a/model.safetensors", "a/config.json"], "a", None, "base"),
        (["a/adapter_config.json", "a/adapter_model.safetensors"], "a", None, "adapter"),
    ],
)
def test_the_kind_is_guessed(tmp_path: Path, files: list[str], source: str, base: str | None, kind: str) -> None:
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"GGUF")
    source = str(tmp_path / source) if files else source
    assert kinds.guess(source, base) == kind


@pytest.mark.parametrize(
    ("files", "source", "said", "kind"),
    [
        (["m.gguf"], "m.gguf", "base", "gguf"),
        (["a/m.gguf"], "a", "base", "gguf"),
        (["a/m.gguf", "a/model.safetensors"], "a", "base", "base"),  # either would do: as it was said
        (["a/model.safetensors"], "a", "base", "base"),
        (["m.gguf"], "m.gguf", "adapter", "adapter"),
        ([], "owner/name", "base", "base"),
    ],
)
def test_a_gguf_that_a_form_calls_a_base_is_one(
    tmp_path: Path, files: list[str], source: str, said: str, kind: str
) -> None:
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"GGUF")
    assert kinds.corrected(said, str(tmp_path / source) if files else source) == kind
