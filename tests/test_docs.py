"""What the docs name is there: links, files, functions, commands, flags, variables, and the tree of architecture.md.

What a reader brings or a run writes lies in no checkout. How it is written tells it apart, so that no list of
exceptions is kept. Ours are files that end in .py, .toml or .txt, paths that begin with a folder of the repository, and
folders written with a slash (`tests/`). Not ours are other bare names (`my-data.jsonl`), ids of the Hub, and the
folders that .gitignore names (`runs/`).
"""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import pytest
import typer
import yaml

import app
from playground.catalogue.variants import read
from playground.settings import ChildEnvironment, Settings
from tests.markdown import Doc, parsed
from tests.places import ROOT
from training.recipe import Recipe

README, KOREAN, ARCHITECTURE = ROOT / "README.md", ROOT / "README.ko.md", ROOT / "docs" / "architecture.md"
DOCS = [README, KOREAN, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = ("playground", "training", "eval", "tests", "benchmarks", "scripts", "docs")
IGNORED = {line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()}
OURS = {entry.name for entry in ROOT.iterdir()} - IGNORED - {".git"}
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*/?")
UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # of the click that typer brings along

every_doc = pytest.mark.parametrize("doc", [parsed(path) for path in DOCS], ids=[path.stem for path in DOCS])


def none(faults: Iterable[str]) -> None:
    """Fail with all faults at once."""
    found = sorted(set(faults))
    assert not found, "\n" + "\n".join(found)


# --- links


@every_doc
def test_links_lead_somewhere(doc: Doc) -> None:
    none(f"{link} leads nowhere" for link in doc.links if not re.match(r"https?:", link) and not leads(doc, link))


def leads(doc: Doc, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = doc.path.parent / name if name else doc.path
    return target.exists() and (not anchor or anchor in parsed(target).anchors())


# --- files, folders, modules, functions


@cache
def files() -> list[str]:
    """Every file of the repository's folders, by its path from the root."""
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()]
    found += [path for path in ROOT.iterdir() if path.is_file()]
    return [path.relative_to(ROOT).as_posix() for path in found if path.parent.name != "__pycache__"]


@every_doc
def test_files_and_folders_exist(doc: Doc) -> None:
    words = [word for code in (*doc.spans(), *doc.code("sh")) for word in re.split(r"""[\s,;=:"'()]+""", code)]
    paths = (word.replace("\\", "/") for word in words)
    none(f"there is no {path}" for path in paths if PATH.fullmatch(path) and is_ours(path) and not exists(path))


def is_ours(path: str) -> bool:
    first = path.split("/")[0]
    if path.strip("/") in IGNORED or first in IGNORED:
        return False
    return path.endswith((".py", ".toml", ".txt", "/")) or ("/" in path and first in OURS)


def exists(path: str) -> bool:
    """Whether it is there from the root, or, as in `backends/fake.py`, from a folder further down."""
    if path.endswith("/"):
        return any(f"/{file}".find(f"/{path}") >= 0 for file in files())
    return any(PurePosixPath(file).match(path) for file in files()) or (ROOT / path).exists()


@every_doc
def test_functions_are_defined_in_a_file_named_beside_them(doc: Doc) -> None:
    for block in doc.blocks:
        defined = {name for span in block if span.endswith(".py") for name in definitions(span)}
        calls = [span.removesuffix("()") for span in block if re.fullmatch(r"[A-Za-z_][\w.]*\(\)", span)]
        none(f"{call}() is in none of {block}" for call in calls if call not in defined)


@cache
def definitions(path: str) -> set[str]:
    """Functions, classes and methods (`Class.method`) of the files of this name."""
    found = set()
    for file in (file for file in files() if PurePosixPath(file).match(path)):
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            if isinstance(node, ast.ClassDef):
                methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
                found |= {f"{node.name}.{method.name}" for method in methods}
    return found


@every_doc
def test_modules_exist(doc: Doc) -> None:
    run = [words[words.index("-m") + 1] for words in doc.commands() + doc.mentions() if is_python(words, "-m")]
    named = [span for span in doc.spans() if re.fullmatch(rf"(?:{'|'.join(ROOMS)})(?:\.\w+)+", span)]
    none(f"there is no module {name}" for name in run + named if not is_module(name) and Path(name).suffix != ".md")


def is_python(words: list[str], flag: str) -> bool:
    return PurePosixPath(words[0]).name.startswith(("python", "py")) and flag in words[:-1]


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    if name.split(".")[0] in ROOMS:
        return place.with_suffix(".py").is_file() or place.is_dir()
    return find_spec(name.split(".")[0]) is not None


# --- commands


def starts(words: list[str], name: str) -> list[str] | None:
    """What follows the program, where that is what the command calls."""
    words = words[2:] if words[:2] == ["uv", "run"] else words
    words = [word for word in words if word != "--no-sync"]
    return words[1:] if words and PurePosixPath(words[0]).name == name else None


@every_doc
def test_madang_knows_the_verbs_and_flags(doc: Doc) -> None:
    whole = [refused(words) for command in doc.commands() if (words := starts(command, "madang")) is not None]
    part = [refused(words, part=True) for command in doc.mentions() if (words := starts(command, "madang"))]
    none(fault for fault in whole + part if fault)


def refused(words: list[str], part: bool = False) -> str:
    """What the command line would say to these words; a mention (`madang eval`) may leave out what a call needs."""
    command, called = typer.main.get_command(app.cli), "madang"
    while words and (verb := getattr(command, "commands", {}).get(words[0])):
        command, called, words = verb, f"{called} {words[0]}", words[1:]
    if words and hasattr(command, "commands") and not words[0].startswith("-"):
        return f"{called} has no verb {words[0]}"
    try:
        command.make_context(called, [word for word in words if word != "--help"])
    except UsageError as error:
        return "" if part and type(error).__name__ == "MissingParameter" else f"{called} {' '.join(words)}: {error}"
    return ""


@every_doc
def test_make_knows_the_targets_and_variables(doc: Doc) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    variables = set(re.findall(r"\$\(([A-Z_]+)\)", makefile))
    calls = [words for command in doc.commands() + doc.mentions() if (words := starts(command, "make"))]
    for word in (word for words in calls for word in words):
        name, is_variable, _ = word.partition("=")
        assert name in (variables if is_variable else targets), f"make knows no {word}"


@every_doc
def test_scripts_know_their_flags(doc: Doc) -> None:
    for words in doc.commands() + doc.mentions():
        for script in (word for word in words[:2] if word in files() and word.endswith(".py")):
            source = (ROOT / script).read_text(encoding="utf-8")
            flags = [word for word in words[words.index(script) :] if word.startswith("-")]
            none(f"{script} has no {flag}" for flag in flags if f'"{flag}"' not in source)


@every_doc
def test_variables_of_the_environment_are_settings(doc: Doc) -> None:
    known = {f"MADANG_{name.upper()}" for name in Settings.model_fields}
    known |= {name.upper() for name in ChildEnvironment.model_fields}
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").glob("*.py"))
    known |= set(re.findall(r"\bMADANG_[A-Z_]+\b", code))
    none(f"nobody reads {name}" for name in re.findall(r"\bMADANG_[A-Z_]+\b", doc.text) if name not in known)


def test_both_readmes_give_the_same_commands() -> None:
    assert parsed(README).commands() == parsed(KOREAN).commands()


# --- examples


@every_doc
def test_examples_of_the_catalogue_are_read(doc: Doc, tmp_path: Path) -> None:
    for number, text in enumerate(doc.code("toml")):
        (tmp_path / f"{number}.toml").write_text(text, encoding="utf-8")
        read(tmp_path / f"{number}.toml", Settings(data=tmp_path))


@every_doc
def test_examples_of_recipes_are_recipes(doc: Doc) -> None:
    for text in doc.code("yaml"):
        Recipe.model_validate(yaml.safe_load(text))


# --- the tree


def tree() -> Iterator[str]:
    """The paths of architecture.md's tree: two spaces a level, names with commas between, two spaces, what it is."""
    parents: list[str] = []
    for line in parsed(ARCHITECTURE).code("")[0].splitlines():
        level = (len(line) - len(line.lstrip())) // 2
        names = re.split(r"\s{2,}", line.strip())[0].split(", ")
        parents[level:] = [names[0]]
        yield from ("".join(parents[:level]) + name for name in names)


def test_the_tree_names_what_there_is() -> None:
    none(f"there is no {path}" for path in tree() if not any(f"{file}/".startswith(f"{path}") for file in files()))


def test_the_tree_names_every_folder() -> None:
    folders = {f"{parent}/" for file in files() for parent in PurePosixPath(file).parents if parent.name}
    told = {path for path in tree() if path.endswith("/")}
    data = {path for path in folders if any(path.startswith(f"{other}") for other in told if other.endswith("/data/"))}
    none(f"{folder} is not in the tree" for folder in folders - told - data)


def test_the_import_contracts_are_those_of_pyproject() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    named = [contract["name"] for contract in tools["importlinter"]["contracts"]]
    none(f"not told: {name}" for name in named if name not in parsed(ARCHITECTURE).text)
