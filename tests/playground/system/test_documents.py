"""Files that people write: what is wrong with one is said with its name, its line and a remedy."""

from pathlib import Path

import pytest

from playground.errors import ConfigError, VariantError
from playground.system import documents
from playground.system.documents import Language


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("JSON", '{\n"a" 1}', "line 2"),
        ("TOML", "\na = b", "line 2"),
        ("YAML", "a: 1\nb: [", "line 2"),
        ("YAML", "\xff", "utf-8"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, language: Language, text: str, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(VariantError, match=f"file is not valid {language}: .*") as error:
        documents.read(path, language, VariantError, "Get it again.")
    assert said in error.value.message
    assert error.value.hint == "Get it again."


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        documents.read(tmp_path / "none", "TOML")


def test_numbers_of_yaml_are_those_of_yaml_1_2() -> None:
    assert documents.parse("[2e-4, 1E3, 7, 1.5, text]", "YAML") == [2e-4, 1000.0, 7, 1.5, "text"]


def test_a_list_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("- a")
    with pytest.raises(ConfigError, match="holds no recipe"):
        documents.read_fields(tmp_path / "r.yaml", "recipe", tmp_path)
