"""The program that renders chat templates: Jinja in a process of its own, since a template is a stranger's program.

The sandbox keeps a template from files and from Python; nothing in it stops one that never ends or fills the memory.
The system does: seconds of computing and bytes of memory are limits of this process, which ends where one is passed.

In, a line each: {"do": "render" | "words", "source": …, "given": {…}, "seconds": …}. Out: {"value": …, "seconds": …} or
{"fault": …}. It imports nothing of Madang, and so starts within a tenth of a second.
"""

import json
import sys
import time
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_CHARACTERS = 32_000_000
"""Of what a template writes: more than any prompt or row of training data has."""
MOST_BYTES = 1 << 29
"""Of this process's address space."""


def main() -> None:
    """Answer until stdin closes: the parent is gone then."""
    _limit_memory()
    sys.stdout.write("\n")  # ready
    sys.stdout.flush()
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        begun = time.process_time()
        _limit_time(asked["seconds"])
        try:
            answer = {"value": DO[asked["do"]](asked["source"], asked["given"])}
        except MemoryError:
            answer = {"fault": f"it takes more than {MOST_BYTES >> 20} MiB"}
        except Exception as error:  # noqa: BLE001 - a template may raise anything, and all of it is its own fault
            answer = {"fault": (str(error) or type(error).__name__)[:2000]}
        _limit_time(0)
        sys.stdout.write(json.dumps(answer | {"seconds": time.process_time() - begun}) + "\n")
        sys.stdout.flush()


def _limit_memory() -> None:
    """Have the system refuse more memory, and write no core file; Windows has no such limits."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """Have the system end this process after so many seconds of computing; nought takes that back."""
    if sys.platform != "win32":
        import signal

        signal.setitimer(signal.ITIMER_PROF, seconds)


def render(source: str, given: dict[str, Any]) -> str:
    """Return what a template writes; raises whatever it raises, and TemplateError where it writes too much."""
    parts, size = [], 0
    for part in _compiled(source).generate(given):
        parts.append(part)
        size += len(part)
        if size > MOST_CHARACTERS:
            raise TemplateError(f"it writes more than {MOST_CHARACTERS:,} characters")
    return "".join(parts)


def _words(source: str, given: dict[str, Any]) -> list[str]:
    """Return every name and every text that stands in a template's code."""
    tree = _environment().parse(source)
    names = [node.name for node in tree.find_all(nodes.Name)]
    fields = [node.attr for node in tree.find_all(nodes.Getattr)]
    texts = [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    return list(dict.fromkeys([*names, *fields, *texts]))


class _Generation(Extension):
    """`{% generation %}`, with which templates mark answers for training: here its content alone counts."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """Read the block as transformers does: what is set inside stays inside."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


@lru_cache(maxsize=32)
def _compiled(source: str) -> Template:
    return _environment().from_string(source)


@lru_cache(maxsize=1)
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


DO = {"render": render, "words": _words}

if __name__ == "__main__":
    main()
