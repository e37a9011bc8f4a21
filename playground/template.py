"""Chat templates as transformers compiles and renders them, without importing it.

Sandboxed Jinja with trimmed blocks, loop controls, `{% generation %}`, `tojson`, `raise_exception` and `strftime_now`.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

FAULTS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a template raises that refuses what it is given, or is broken."""


def rendered(template: str, turns: Sequence[Mapping[str, Any]], opened: bool, variables: Mapping[str, Any]) -> str:
    """Return the text of some turns; raises one of FAULTS.

    `variables`: special tokens and whatever else the template is given; a name that nobody gives is undefined in it.
    """
    given = {"messages": turns, "tools": None, "documents": None, "add_generation_prompt": opened, **variables}
    return _compiled(template).render(given)


class _Generation(Extension):
    """`{% generation %}`, with which templates mark answers for training: here its content alone counts."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """Read the block as transformers does: what is set inside stays inside."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


@cache
def words(template: str) -> frozenset[str]:
    """Return every name and every text that stands in a template's code: variables, fields, and what they equal."""
    tree = _environment().parse(template)
    names = [node.name for node in tree.find_all(nodes.Name)]
    fields = [node.attr for node in tree.find_all(nodes.Getattr)]
    texts = [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    return frozenset([*names, *fields, *texts])


@cache
def _compiled(template: str) -> Template:
    return _environment().from_string(template)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    return environment


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as transformers does in prompts: no HTML escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
