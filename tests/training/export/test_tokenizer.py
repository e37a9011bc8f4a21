"""A merged model is asked as its adapter was trained: tokenizer, template and end, in every mixture of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.catalogue.adapters import folder_template, read
from playground.prompts import prompt_format
from tests.playground.backends.conftest import TEMPLATE, tokenizer
from training.export import merge
from training.export.tokenizer import end

OWN = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"


@pytest.fixture
def base(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """A base whose template stands in a file of its own and in tokenizer_config.json, as older ones have both."""
    folder = shutil.copytree(tiny("llama"), tmp_path / "base")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    return changed(folder, "tokenizer_config.json", chat_template=TEMPLATE)


@pytest.fixture
def adapter(base: Path, tiny_adapter: Callable[..., Path], tmp_path: Path) -> Path:
    return shutil.copytree(tiny_adapter(base), tmp_path / "adapter")


def changed(folder: Path, name: str, **fields: Any) -> Path:
    row = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps(row | fields), encoding="utf-8")
    return folder


def merged(base: Path, adapter: Path, tmp_path: Path, format_name: str = "") -> Path:
    merge.merge(base, adapter, tmp_path / "merged", "float16", format_name)
    assert (tmp_path / "merged" / "tokenizer.json").is_file()
    return tmp_path / "merged"


def ends(folder: Path) -> Any:
    return json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")


def test_nothing_of_its_own_leaves_the_bases_files_byte_for_byte(base: Path, adapter: Path, tmp_path: Path) -> None:
    out = merged(base, adapter, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (out / name).read_bytes() == (base / name).read_bytes()


def test_a_template_alone_wins(base: Path, adapter: Path, tmp_path: Path) -> None:
    (adapter / "chat_template.jinja").write_text(OWN, encoding="utf-8")
    out = merged(base, adapter, tmp_path)
    assert folder_template(out) == OWN
    assert "chat_template" not in json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert (out / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_a_config_without_a_vocabulary_is_no_tokenizer(base: Path, adapter: Path, tmp_path: Path) -> None:
    (adapter / "tokenizer_config.json").write_text(json.dumps({"chat_template": OWN}), encoding="utf-8")
    out = merged(base, adapter, tmp_path)
    assert folder_template(out) == OWN
    assert json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8")).get("eos_token")


@pytest.mark.parametrize("brings", [OWN, None], ids=["own template", "the base's"])
def test_a_tokenizer_of_its_own_wins_with_its_end(
    base: Path, adapter: Path, tmp_path: Path, brings: str | None
) -> None:
    words = tokenizer()
    words.eos_token, words.chat_template = "<|endoftext|>", brings
    words.save_pretrained(adapter)
    assert read(adapter).has_tokenizer
    out = merged(base, adapter, tmp_path)
    assert folder_template(out) == (brings or TEMPLATE)
    assert (out / "tokenizer.json").read_bytes() == (adapter / "tokenizer.json").read_bytes()
    assert ends(out) == [ends(base), words.eos_token_id]
    assert end(out) == words.eos_token_id


def test_a_named_format_wins_over_all(base: Path, adapter: Path, tmp_path: Path) -> None:
    (adapter / "chat_template.jinja").write_text(OWN, encoding="utf-8")
    assert folder_template(merged(base, adapter, tmp_path, "alpaca")) == prompt_format("alpaca").template
