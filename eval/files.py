"""Files that appear whole or not at all, and what is said when the disk fills up midway."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playground.errors import SetupError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write; when the block ends well it becomes `target`, else it goes."""
    part = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:6]}.part")
    try:
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield part
            _to_disk(part)
            part.replace(target)
    finally:
        with suppress(OSError):  # what stopped the writing may stop this too, and is already on its way
            part.unlink(missing_ok=True)


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Say what to do when `target` cannot be written: a full disk, a folder that is not ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SetupError(
                f"The disk is full: {target.name} could not be written to {target.parent}.",
                "Free some space there, or choose another folder; what was there before is untouched.",
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EPERM, errno.ENOENT):
            raise SetupError(
                f"{target} cannot be written: {error.strerror}.", "Choose a folder that you may write to."
            ) from error
        raise


def _to_disk(part: Path) -> None:
    """A rename may reach the disk before the bytes do: after a power cut, whole would mean empty."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
