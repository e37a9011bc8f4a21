"""Files that people write: what is wrong with one is said with its name, its line and a remedy."""

import os
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


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{before}'] * 10)}]\n" for before, one in zip("abcdefg", "bcdefgh", strict=True)
)
HOSTILE: dict[str, tuple[Language, str, str]] = {
    "deep YAML": ("YAML", "a: " + "[" * 100_000, "nested too deeply"),
    "deep YAML in lines": ("YAML", "- " * 1_000, "nested too deeply"),
    "a YAML list that holds itself": ("YAML", "a: &a [*a]", "nested too deeply"),
    "aliases of aliases": ("YAML", LAUGHS, "unfold to more than 100,000"),
    "a YAML key twice": ("YAML", "a:\n  b: 1\n  b: 2", "'b' stands twice, in line 3"),
    "a key that is no text": ("YAML", ".nan: 1", "the key nan is no text"),
    "a list as a key": ("YAML", "? [a]\n: 1", "unhashable key"),
    "a tag before another kind": ("YAML", "a: !!bool x", "a tag (!!)"),
    "a number without end": ("YAML", "a: " + "9" * 5_000, "4300 digits"),
    "deep TOML": ("TOML", "a = " + "[" * 100_000, "nested too deeply"),
    "a TOML key of many parts": ("TOML", ".".join("a" * 100_000) + " = 1", "nested too deeply"),
    "deep JSON": ("JSON", "[" * 100_000, "nested too deeply"),
    "JSON of many levels": ("JSON", '{"a":' * 100 + "1" + "}" * 100, "nested too deeply"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_no_reader_would_end_with_is_an_error(case: str) -> None:
    language, text, said = HOSTILE[case]
    with pytest.raises(ValueError, match=".") as error:
        documents.parse(text, language)
    assert said in str(error.value)


def test_yaml_keeps_aliases_merges_and_dates_as_text() -> None:
    text = "a: &a {r: 8, run: 2026-11-30}\nb: {<<: *a, r: 16}\nc: 2026-13-45"
    row = {"r": 8, "run": "2026-11-30"}
    assert documents.parse(text, "YAML") == {"a": row, "b": row | {"r": 16}, "c": "2026-13-45"}


def test_a_pipe_is_no_document(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, what in ((tmp_path / "pipe.yaml", "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(ConfigError, match=f"is {what} and no file"):
            documents.read(path, "YAML")


def test_a_list_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("- a")
    with pytest.raises(ConfigError, match="holds no recipe"):
        documents.read_fields(tmp_path / "r.yaml", "recipe", tmp_path)
