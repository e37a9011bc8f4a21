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
    │   └── EndingError      Madang itself is told to end
    ├── ContextError         a prompt does not fit the variant's context even when alone
    └── SetupError           something this machine lacks: disk, port, compiler, a package

Only two edges convert a MadangError into text: the page and the command line. Bugs propagate.
"""

import errno
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from playground.wording import Worded, hint_of, joined, worded

FULL = {errno.ENOSPC, errno.EDQUOT}
FULL_SAID = ("No space left on device", "Disk quota exceeded")
"""Writers in Rust and in other processes bring the system's words without its number."""
TOO_MANY = {errno.EMFILE, errno.ENFILE}
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
UNWRITABLE_SAID = ("Read-only file system", "Permission denied")


class MadangError(Exception):
    """One sentence that names the thing and the value, and a hint that names the remedy.

    A message that was `worded` brings its own hint, unless another one is given.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or hint_of(message)


class ConfigError(MadangError):
    """A configuration file or field is wrong."""


class UnknownNameError(MadangError):
    """A name is not among the known ones; the hint holds the near matches."""

    def __init__(self, what: str, name: str, known: Iterable[str], remedy: str = "") -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        if near:
            hint = worded("names.near", near=joined(near, worded("names.or")))
        else:
            hint = worded("names.known", known=", ".join(known)) if known else worded("names.none_known")
        super().__init__(worded("names.unknown", what=what, name=name), joined([hint, remedy]) if remedy else hint)
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


class EndingError(WorkerError):
    """Madang is told to end, and answers nothing any more."""

    def __init__(self, message: str = "", hint: str = "") -> None:
        super().__init__(message or worded("names.ending"), hint)


class ContextError(MadangError):
    """A prompt does not fit the variant's context, even without its older turns."""


class SetupError(MadangError):
    """This machine lacks something: disk space, a free port, a compiler, a package."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def disk_full(error: BaseException | None) -> bool:
    """Tell whether this error, or one that led to it, says that the disk (or the quota on it) is full."""
    return any(
        (isinstance(cause, OSError) and cause.errno in FULL) or any(words in str(cause) for words in FULL_SAID)
        for cause in causes(error)
    )


def refused(error: BaseException, target: Path | None = None) -> SetupError | None:
    """Return what to tell people where the machine said no: a full disk, a folder that is not ours, a limit on files.

    `target`: what was to be written, where the caller knows. None for every other error, a bug among them.
    """
    said = [cause for cause in causes(error) if isinstance(cause, OSError)]
    file = target or next((Path(str(cause.filename)) for cause in said if cause.filename), None)
    if disk_full(error):
        return SetupError(_of_file("full", file))
    if any(cause.errno in TOO_MANY for cause in said):
        return SetupError(worded("machine.too_many_open"))
    reason = next((cause.strerror for cause in said if cause.errno in UNWRITABLE), None)
    reason = reason or next((word for word in UNWRITABLE_SAID for cause in causes(error) if word in str(cause)), None)
    if reason is None or (file is None and said):  # of a socket, say
        return None
    return SetupError(_of_file("unwritten" if target else "unopened", file, reason=reason))


def _of_file(what: str, file: Path | None, **fields: str) -> Worded:
    """Return what is told of a file, or of one whose name nobody knows."""
    if file is None:
        return worded(f"machine.{what}", **fields)
    return worded(f"machine.{what}_file", name=file.name, folder=file.parent, **fields)


def bug(error: Exception) -> MadangError:
    """Return the error that a pane shows where the machine said no, or for a fault of our own, which is raised too."""
    return refused(error) or WorkerError(worded("machine.bug", kind=type(error).__name__, error=error))
