"""The environment is read in playground/settings.py alone, and docs/settings.md holds all that is read there."""

import ast
import runpy

import pytest

from playground.settings import ChildEnvironment, Environment, Settings, child_environment, set_defaults, unset
from tests.places import ROOT

READER = ROOT / "playground" / "settings.py"
PRODUCT = [
    ROOT / "app.py",
    *(path for wing in ("playground", "training", "eval") for path in (ROOT / wing).rglob("*.py")),
]
OWN = {"environ", "environb", "getenv", "getenvb", "putenv"}


def looks(source: str) -> list[int]:
    """Lines that name os.environ or its like, whichever way they were imported."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in OWN:
            found.append(node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module == "os" and OWN & {one.name for one in node.names}:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "source", ["import os\nos.environ['A']", "import os as o\no.getenv('A')", "from os import environ"]
)
def test_a_look_is_found_however_it_is_written(source: str) -> None:
    assert looks(source)


def test_only_the_settings_look_at_the_environment() -> None:
    """No exceptions: child processes, libraries and keys have a function each in settings.py."""
    assert looks(READER.read_text(encoding="utf-8"))
    assert {str(path.relative_to(ROOT)) for path in PRODUCT if looks(path.read_text(encoding="utf-8"))} == {
        str(READER.relative_to(ROOT))
    }


def test_the_page_of_settings_is_what_make_docs_writes() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "settings_doc.py"))["page"]()
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == made, "run `make docs`"
    for kind, prefix in ((Settings, "MADANG_"), (Environment, ""), (ChildEnvironment, "")):
        for name, field in kind.model_fields.items():
            assert field.description, name
            assert f"| `{prefix}{name.upper()}` |" in made


def test_a_child_gets_changes_over_ours_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "ours")
    monkeypatch.delenv("FREE", raising=False)
    made = child_environment({"SET": "set"}, {"OURS": "default", "FREE": "default"})
    assert (made["OURS"], made["FREE"], made["SET"]) == ("ours", "default", "set")
    assert child_environment({"OURS": "set"})["OURS"] == "set"
    assert unset({"OURS": "1", "FREE": "1"}) == {"FREE": "1"}


def test_what_is_set_stays_for_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "ours")
    monkeypatch.setenv("FREE", "")
    monkeypatch.delenv("FREE")
    set_defaults(OURS="1", FREE="1")
    assert unset({"OURS": "", "FREE": ""}) == {}
    assert child_environment({})["OURS"] == "ours"
