"""The list of variants: in groups by base, and what it says of each."""

import re
from pathlib import Path

from playground.compare import Playground
from playground.settings import Settings
from playground.ui import picking
from tests.fakes import EMBEDDED

CATALOGUE = (
    """
[[variant]]
name = "far"
kind = "remote"
url = "http://127.0.0.1:9/v1"

[[variant]]
name = "mine"
kind = "base"
source = "fake:mine"
dtype = "fp32"

[[variant]]
name = "file"
kind = "gguf"
source = "{file}"
base = "mine"
"""
    + EMBEDDED
    + """
[[variant]]
name = "mine:tuned"
kind = "adapter"
source = "fake:tuned"
base = "mine"
"""
)


def shown(playground: Playground) -> dict[str, tuple[str, str]]:
    """The group and the facts of each variant, in English, by name."""
    html = re.sub(r'<span class="say-ko".*?</span>', "", picking.facts(playground))
    rows = re.findall(r'<p data-variant="(.*?)"><b>(.*?)</b>(.*?)</p>', html)
    return {name: tuple(" ".join(re.sub("<.*?>", " ", part).split()) for part in more) for name, *more in rows}  # type: ignore[misc]


def made(folder: Path, mode: str) -> Playground:
    file = folder / "file.gguf"
    file.write_bytes(b"x" * 3_000_000)
    (folder / "variants.toml").write_text(CATALOGUE.format(file=file), encoding="utf-8")
    return Playground(Settings.model_validate({"data": folder, "mode": mode}))


def test_what_descends_from_a_base_stands_behind_it_and_the_rest_last(tmp_path: Path) -> None:
    names = picking.ordered(made(tmp_path, "local").catalogue)
    assert names.index("mine") + 1 == names.index("file")
    assert names.index("mine") + 2 == names.index("mine:tuned")
    assert names[-1] == "far"
    assert sorted(names) == sorted(made(tmp_path, "local").catalogue.names)


def test_base_kind_size_dtype_and_whether_it_is_loaded(tmp_path: Path) -> None:
    found = shown(made(tmp_path, "local"))
    assert found["file"] == ("mine", "GGUF 3 MB not loaded")
    assert found["mine:tuned"] == ("mine", "adapter fp32 not loaded")
    assert found["far"] == ("Without a base here", "remote")


def test_visitors_of_a_space_learn_of_no_files_and_of_nobodys_answers(tmp_path: Path) -> None:
    found = shown(made(tmp_path, "space"))
    assert found["file"] == ("mine", "GGUF")
    assert found["mine:tuned"] == ("mine", "adapter fp32")
