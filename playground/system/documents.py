"""Read files that people write or copy, as plain data: JSON, TOML and YAML. What the fields mean is the caller's."""

import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from playground.errors import ConfigError, MadangError

Language = Literal["JSON", "TOML", "YAML"]
CORRECT = "Correct the line that it names."


def read(path: Path, language: Language, kind: type[MadangError] = ConfigError, remedy: str = CORRECT) -> Any:
    """Return what a file holds; an error of `kind` names the file, the line and the remedy where it cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"), language)
    except OSError as error:
        raise kind(f"{path} cannot be read: {error.strerror}.", "It must be a file you may read.") from error
    except (ValueError, RecursionError) as error:  # every parser's own error is a ValueError, and so is text not UTF-8
        raise kind(f"{path} is not valid {language}: {error}.", remedy) from error


def read_fields(path: Path, what: str, examples: Path) -> dict[str, Any]:
    """Return the fields of a YAML file that people write after the ones in `examples`: a recipe, a suite."""
    row = read(path, "YAML")
    if not isinstance(row, dict):
        raise ConfigError(f"{path} holds no {what}.", f"Copy one from {examples} and change it.")
    return row


def parse(text: str, language: Language) -> Any:
    """Return the data of a text; ValueError says what is wrong with it, and where."""
    if language == "TOML":
        return tomllib.loads(text)
    return json.loads(text) if language == "JSON" else _yaml(text)


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


@cache
def _loader() -> Any:
    """Return PyYAML's loader with YAML 1.2's numbers: 2e-4 is one, where PyYAML wants 2.0e-4 and reads a string."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )
    return Loader
