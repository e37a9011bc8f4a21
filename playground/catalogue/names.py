"""Kinds of text that rows of the catalogue and recipes share: what a name may be, which prompt formats there are."""

import re
from typing import Annotated

from pydantic import AfterValidator

from playground.prompts import format_names

NAME = re.compile(r"\w[\w.:+/-]*")


def readable(name: str) -> str:
    """Return the name; raise ValueError for one that no command line takes as a word."""
    if not NAME.fullmatch(name):
        raise ValueError("a name begins with a letter or digit and holds letters, digits and . _ - + : / alone")
    return name


def known_format(name: str) -> str:
    """Return the name of a prompt format; raise ValueError where there is none of that name."""
    if name not in format_names():
        raise ValueError(f"known prompt formats: {', '.join(format_names())}")
    return name


Name = Annotated[str, AfterValidator(readable)]
PromptFormat = Annotated[str, AfterValidator(known_format)] | None
"""A named prompt format; None for models with a template of their own."""
