"""Read files that people write or copy, as plain data: JSON, TOML and YAML. What the fields mean is the caller's."""

import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from playground.errors import ConfigError, MadangError
from playground.system.paths import refuse_special
from playground.wording import worded

Language = Literal["JSON", "TOML", "YAML"]
CORRECT = "documents.correct_line"
TOO_DEEP = "it is nested too deeply"
DEEPEST, MOST_VALUES = 64, 100_000
"""Levels of any document, and values of a YAML one once its aliases are unfolded."""
OPENED = re.compile(rf"(?:[\[{{]\s*){{{DEEPEST}}}")
DOTTED = re.compile(rf"(?:[\w\"'-]+\s*\.\s*){{{DEEPEST}}}")
"""What the parsers of YAML and TOML take minutes for."""


def read(path: Path, language: Language, kind: type[MadangError] = ConfigError, remedy: str = "") -> Any:
    """Return what a file holds; an error of `kind` names the file, the line and the remedy where it cannot be read."""
    refuse_special(path, kind)
    try:
        return parse(path.read_text(encoding="utf-8"), language)
    except OSError as error:
        raise kind(
            worded("documents.cannot_read", path=path, strerror=error.strerror), worded("documents.cannot_read_hint")
        ) from error
    except ValueError as error:  # every parser's own error is one, and so is text that is not UTF-8
        raise kind(
            worded("documents.not_valid", path=path, language=language, error=error), remedy or worded(CORRECT)
        ) from error


def read_fields(path: Path, what: str, examples: Path) -> dict[str, Any]:
    """Return the fields of a YAML file that people write after the ones in `examples`: a recipe, a suite."""
    row = read(path, "YAML")
    if not isinstance(row, dict):
        raise ConfigError(worded("documents.holds_no", path=path, what=what, examples=examples))
    return row


def parse(text: str, language: Language) -> Any:
    """Return the data of a text; ValueError says what is wrong with it, and where."""
    if (OPENED if language == "YAML" else DOTTED).search(text) and language != "JSON":
        raise ValueError(TOO_DEEP)
    try:
        content = tomllib.loads(text) if language == "TOML" else json.loads(text) if language == "JSON" else _yaml(text)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    _look_through(content, MOST_VALUES if language == "YAML" else None)
    return content


def _look_through(content: Any, most: int | None) -> None:
    """Refuse what those who walk through it would not end with: too deep, too many values, keys that are no text."""
    waiting, seen = [(content, 1)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST:
            raise ValueError(TOO_DEEP)
        if most and seen > most:
            raise ValueError(f"its aliases unfold to more than {most:,} values")
        if isinstance(value, dict):
            if strange := [key for key in value if not isinstance(key, str)]:
                raise ValueError(f"the key {strange[0]!r} is no text: write it in quotes")
            waiting += [(one, depth + 1) for one in value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += [(one, depth + 1) for one in value]


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (LookupError, AttributeError, TypeError) as error:  # PyYAML's own, at a tag whose value is of another kind
        raise ValueError(f"a tag (!!) stands before a value of another kind ({error})") from error


@cache
def _loader() -> Any:
    """Return PyYAML's loader with what YAML 1.2 means: 2e-4 is a number, a date is text, no key stands twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node, names = super().compose_mapping_node(anchor), set[str]()
            for key, _ in node.value:
                if isinstance(key.value, str) and key.value in names and key.value != "<<":
                    raise ValueError(f"{key.value!r} stands twice, in line {key.start_mark.line + 1} again")
                names.add(str(key.value))
            return node

    Loader.yaml_implicit_resolvers = {
        first: [(tag, found) for tag, found in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )
    return Loader
