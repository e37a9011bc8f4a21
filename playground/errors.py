"""Errors a person can act on.

The tree::

    MadangError              message + hint; shown as is by the page and the command line
    ├── ConfigError          a setting, catalogue, preset or recipe is wrong (all faults at once)
    ├── UnknownNameError     a name that is not known, with its near matches
    ├── VariantError         a variant's files are missing, broken, unsafe or do not belong together
    │   └── ThinkingError    it was told to think, and cannot be
    ├── HubError             the Hub refused, is out of reach, or lacks what was asked for
    ├── MemoryBudgetError    a model does not fit beside the ones in use
    ├── WorkerError          a worker process crashed, was killed or never came up
    ├── ContextError         a prompt does not fit the variant's context even when alone
    └── SetupError           something this machine lacks: disk, port, compiler, a package

Only two edges convert a MadangError into text: the page and the command line. Bugs propagate.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

BUG_HINT = "Please report it with the lines that stand in the terminal where Madang runs."


class MadangError(Exception):
    """One sentence that names the thing and the value, and a hint that names the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(MadangError):
    """A configuration file or field is wrong."""


class UnknownNameError(MadangError):
    """A name is not among the known ones; the hint holds the near matches."""

    def __init__(self, what: str, name: str, known: Iterable[str], remedy: str = "") -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        if near:
            hint = f"Did you mean {' or '.join(near)}?"
        else:
            hint = f"Known: {', '.join(known)}." if known else "None are known yet."
        super().__init__(f"There is no {what} named {name!r}.", f"{hint} {remedy}".strip())
        self.name = name
        self.near = near


class VariantError(MadangError):
    """A variant's files are missing, broken, unsafe or do not belong together."""


class ThinkingError(VariantError):
    """A variant was told to think, and its chat template knows no way to."""


class HubError(MadangError):
    """The Hub refused, is out of reach, or lacks what was asked for."""


class MemoryBudgetError(MadangError):
    """A model does not fit into the memory budget beside the models in use."""


class WorkerError(MadangError):
    """A worker process crashed, was killed or never came up."""


class ContextError(MadangError):
    """A prompt does not fit the variant's context, even without its older turns."""


class SetupError(MadangError):
    """This machine lacks something: disk space, a free port, a compiler, a package."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def bug(error: Exception) -> WorkerError:
    """Return the error that a pane shows for a fault of our own, which is raised as well."""
    return WorkerError(f"A fault inside Madang: {type(error).__name__}: {error}.", BUG_HINT)
