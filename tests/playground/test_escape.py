"""Text of others does nothing: on the page, in a terminal, in Markdown, in a sheet. The page's sources keep to it."""

import ast
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from playground import escape
from playground.page.markdown import markdown
from tests.places import ROOT

SOURCES = sorted([*(ROOT / "playground/page").glob("*.py"), *ROOT.glob("*/ui/*.py")])
RAW = {"str", "repr", "format", "getattr", "Path", "join", "sorted", "next", "min", "max"}
"""Calls that hand on what they got, so that it is as unsafe as before."""
OWN = {"state", "standing", "verdict"}
"""Attributes whose types allow words of the program's own alone (Literal)."""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hub/a&b", '<a href="https://hub/a&amp;b" target="_blank" rel="noopener">hub/a&amp;b</a>'),
        ("javascript:alert(1)", "javascript:alert(1)"),
        ("data:text/html,<b>", "data:text/html,&lt;b&gt;"),
    ],
)
def test_only_addresses_of_the_web_become_links(url: str, shown: str) -> None:
    assert escape.link(url) == shown


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("kobest_copa 31.2 [30.1, 32.4] *", "kobest_copa 31.2 [30.1, 32.4] *"),
        ("<img src=x onerror=f()>", "\\<img src=x onerror=f()>"),
        ("[x](javascript:f())", "[x\\](javascript:f())"),
        ("[x][y]\n[y]: javascript:f()", "[x\\][y] [y\\]: javascript:f()"),
        ("a | `b` \\ c", "a \\| \\`b\\` \\\\ c"),
        ("red\x1b[31m", "red␛[31m"),
        ("half\udcff", "half\ufffd"),
    ],
)
def test_markdown_of_names_is_text(text: str, written: str) -> None:
    assert escape.in_markdown(text) == written
    assert not any(tag in markdown(escape.in_markdown(text)) for tag in ("<a", "<img", "<code", "<table"))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("@x", "'@x"),
        ("-1+1", "'-1+1"),
        ("m:a", "m:a"),
        ("m\x1b[2J", "m␛[2J"),
        ("m\ud800", "m\ufffd"),
        (-1.5, -1.5),
    ],
)
def test_spreadsheets_compute_no_name(value: object, written: object) -> None:
    assert escape.in_sheet(value) == written


def test_halves_of_signs_are_sent_to_no_page() -> None:
    assert escape.escaped("\ud800<b>").encode() == "\ufffd&lt;b&gt;".encode()


HOSTILE = "\ud83d\x1b]8;;http://x\x1b\\[red]a[/red]\x1b[2J\x9b31m\x07 :demo:"


def test_a_terminal_obeys_no_text() -> None:
    escape.guard_rich()
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    table = Table(title=Text(HOSTILE))
    table.add_column(Text(HOSTILE))
    table.add_row(Text(HOSTILE))
    for what in (Text(HOSTILE), table, HOSTILE.replace("[", "\\["), Markdown(f"{HOSTILE}\n```\n{HOSTILE}\n```")):
        console.print(what)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b]8;;http" not in printed
    assert not any(code in printed for code in ("\x1b[2J", "\x9b", "\x07"))
    assert escape.visible("a\x1b[31m\tb\n\x7f") == "a␛[31m\tb\n␡"


def _loose(value: ast.expr) -> bool:
    """Whether what stands in HTML is taken straight from data: an attribute, an item, or a method of either."""
    if isinstance(value, ast.Attribute):
        return value.attr not in OWN
    if isinstance(value, ast.Subscript):
        return True
    if isinstance(value, ast.IfExp):
        return _loose(value.body) or _loose(value.orelse)
    if isinstance(value, ast.BoolOp):
        return any(map(_loose, value.values))
    if isinstance(value, ast.BinOp):
        return _loose(value.left) or _loose(value.right)
    if isinstance(value, ast.GeneratorExp | ast.ListComp):
        return _loose(value.elt)
    if not isinstance(value, ast.Call):
        return False
    if isinstance(value.func, ast.Name):
        return value.func.id in RAW
    if not isinstance(value.func, ast.Attribute) or _is_module(value.func.value):
        return False
    return any(map(_loose, value.args)) if value.func.attr == "join" else value.func.attr not in ("both", "tooltip")


def _is_module(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in ("svg", "cards", "texts", "components", "table", "plots", "form")


def _found(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.JoinedStr):
            continue
        html = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        if "<" not in html and '="' not in html:
            continue
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and part.format_spec is None and _loose(part.value):
                yield f"{path.relative_to(ROOT)}:{part.lineno} {ast.unparse(part.value)}"


def test_html_takes_nothing_straight_from_data() -> None:
    """HTML is written with `escaped`, `both` and functions that return HTML; a name, an id or a value goes through."""
    assert [line for path in SOURCES for line in _found(path)] == []
