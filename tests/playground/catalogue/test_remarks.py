"""What is said of a sound model when it is added: what its chat template cannot do, and what helps."""

import json
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue.remarks import remarks
from playground.catalogue.templates import can_chat
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf
from tests.playground.chat_templates import DROPS_ALL, DROPS_SYSTEM, LAST_ALONE, LLAMA2, PARTS

CASES = [
    (None, ["no_template"]),
    (LLAMA2, []),
    (PARTS, []),
    (DROPS_SYSTEM, ["no_system"]),
    (LAST_ALONE, ["no_system", "no_history"]),
    (DROPS_ALL, ["asks_nothing"]),
    ("{{ raise_exception('never') }}", ["refuses"]),
    ("{% if", ["refuses"]),
]
NO_CHAT = {"no_template", "asks_nothing", "refuses"}


def folder(path: Path, template: str | None) -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return path


def keys(found: list[str]) -> list[str]:
    return [key.removeprefix("remark.") for key in found]


@pytest.mark.parametrize(("template", "wanted"), CASES)
def test_what_a_template_cannot_do_is_said_of_a_folder_and_of_a_gguf(
    template: str | None, wanted: list[str], tmp_path: Path, model_files: Any
) -> None:
    base = folder(tmp_path / "base", template)
    fields = {"general.architecture": "llama"} | ({"tokenizer.chat_template": template} if template else {})
    file = model_files.gguf(tmp_path / "model.gguf", fields=fields)
    for variant, path in [(Base(name="b", source=str(base)), base), (Gguf(name="g", source=str(file)), file)]:
        found = remarks(variant, path, None, None)
        assert keys([one.key for one in found]) == wanted
        assert [one.no_chat for one in found] == [name in NO_CHAT for name in wanted]
        assert remarks(variant, path, None, "alpaca") == []  # a named format has no such faults


@pytest.mark.parametrize(("template", "wanted"), CASES)
def test_chat_is_offered_only_where_it_can_work(
    template: str | None, wanted: list[str], tmp_path: Path, model_files: Any
) -> None:
    base = Base(name="b", source=str(folder(tmp_path / "base", template)))
    fields = {"general.architecture": "llama"} | ({"tokenizer.chat_template": template} if template else {})
    file = Gguf(name="g", source=str(model_files.gguf(tmp_path / "model.gguf", fields=fields)))
    bare = tmp_path / "bare"
    bare.mkdir()
    adapter = Adapter(name="b:a", source=str(bare), base="b")
    named = Adapter(name="b:n", source=str(bare), base="b", prompt_format="alpaca")
    away = Base(name="away", source="owner/name")
    catalogue = Catalogue([base, file, adapter, named, away])
    works = not NO_CHAT & set(wanted)
    asked = {one.name: can_chat(one, catalogue) for one in catalogue}
    assert asked == {"b": works, "g": works, "b:a": works, "b:n": True, "away": True}


def test_an_adapter_may_bring_the_template_that_its_base_lacks(tmp_path: Path) -> None:
    base, own = folder(tmp_path / "base", None), folder(tmp_path / "own", LLAMA2)
    bare = tmp_path / "bare"
    bare.mkdir()
    variant = Adapter(name="b:a", source=str(own), base="b")
    assert remarks(variant, base, own, None) == []
    assert keys([one.key for one in remarks(variant, base, bare, None)]) == ["no_template"]


def test_a_model_for_embeddings_is_said_to_be_one(tmp_path: Path, model_files: Any) -> None:
    fields = {"general.architecture": "qwen3", "qwen3.pooling_type": 3}
    path = model_files.gguf(tmp_path / "x.gguf", fields=fields)
    said = remarks(Gguf(name="g", source=str(path)), path, None, "chatml")
    assert [one.key for one in said] == ["remark.embeds"]
    base = folder(tmp_path / "base", LLAMA2)
    (base / "modules.json").write_text("[]", encoding="utf-8")
    assert "remark.embeds" in [one.key for one in remarks(Base(name="b", source=str(base)), base, None, None)]
