"""The page's edge: an error that a person can act on is told in a sentence, whichever handler it comes out of.

Handlers show the errors they expect in their own place. What is left is told here: a full disk, a folder that is not
ours, a limit on open files, at whatever step it came up. Bugs propagate.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import gradio as gr

from playground.errors import MadangError, refused
from playground.escape import escaped
from playground.page.words import read

Handler = Callable[..., Any]
LONGEST = 300
"""Letters that are told of what Gradio cannot read."""


def guard(page: gr.Blocks) -> None:
    """Have every handler of a built page tell its errors."""
    for event in page.fns.values():
        if event.fn is not None and not inspect.iscoroutinefunction(event.fn):
            event.fn = _telling(event.fn)
    page.preprocess_data = _brief(page.preprocess_data)  # type: ignore[method-assign]


def _brief(read: Handler) -> Handler:
    """Return what reads a form: a value that no form holds is told to its sender alone, and cut: no log grows by it."""

    @wraps(read)
    async def once(*values: Any, **named: Any) -> Any:
        try:
            return await read(*values, **named)
        except (gr.Error, ValueError, TypeError) as error:
            raise gr.Error(escaped(str(error)[:LONGEST]), print_exception=False) from None

    return once


def _telling(handler: Handler) -> Handler:
    """Return the handler with the edge around it; Gradio still sees its parameters."""

    @wraps(handler)
    def steps(*values: Any, **named: Any) -> Iterator[Any]:
        with _told():
            yield from handler(*values, **named)

    @wraps(handler)
    def once(*values: Any, **named: Any) -> Any:
        with _told():
            return handler(*values, **named)

    return steps if inspect.isgeneratorfunction(handler) else once


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        told = error if isinstance(error, MadangError) else refused(error)
        if told is None:
            raise
        raise gr.Error(" ".join(filter(None, map(read, (told.message, told.hint)))), print_exception=False) from error
