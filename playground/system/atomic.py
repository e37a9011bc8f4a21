"""Files and folders that appear whole or not at all, and disks that fill up. Locks are the caller's business.

`replacing` survives a power cut; `write_beside` only spares readers half a file, for what is soon written again.
"""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from playground.errors import SetupError, disk_full, refused
from playground.system.processes import ProcessId
from playground.wording import worded

SUFFIX = ".part"
FULL_BELOW = 16 << 20  # with less than this free, whatever a native writer failed at, it failed for want of room


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a free path beside `target` to build a file or folder at; when the block ends well it becomes `target`.

    When the block raises, what it built goes. What a killed process left goes when `target` is next built.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, target.name)
    part = _part(target)
    try:
        yield part
        to_disk(part)
        _take_place(part, target)
    finally:
        with suppress(OSError):  # what stopped the building may stop this too, and is already on its way
            remove(part)


def write_beside(path: Path, text: str) -> None:
    """Replace a small file at once: a reader finds the old or the new one. Waits for no disk and makes no folder."""
    part = _part(path)
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        with suppress(OSError):
            remove(part)


def sweep(folder: Path, name: str = "") -> None:
    """Remove what processes that are gone left half built in `folder`; with `name`, only what was to become that."""
    for part in folder.glob(f".{name or '*'}.*{SUFFIX}"):
        if not _owner_lives(part):
            remove(part)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until the bytes of a file or folder are on the disk.

    A rename may get there before them: after a power cut the file would be in its place, and empty.
    """
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            descriptor = os.open(file, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def sizes(folder: Path) -> dict[str, int]:
    """Return the length of every file below a folder by its path from there, for `has_sizes` to look at later."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def has_sizes(folder: Path, expected: Mapping[str, int]) -> bool:
    """Return whether every file is there with its length; OSError where one is missing."""
    return all((folder / name).stat().st_size == size for name, size in expected.items())


def no_room(error: Exception, folder: Path) -> bool:
    """Tell whether an error came of a full disk: by its words, or (native writers say anything) by what is free."""
    return disk_full(error) or shutil.disk_usage(folder).free < FULL_BELOW


@contextmanager
def room_for(need: int, folder: Path, what: str, how: str = "") -> Iterator[None]:
    """Refuse to begin without `need` bytes free at `folder`, and say so if they run out before the block ends.

    `how` ends the hint: by what means another folder is chosen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < need:
        raise _no_room(need, folder, what, how)
    try:
        yield
    except Exception as error:
        if no_room(error, folder):
            raise _no_room(need, folder, what, how) from error
        raise


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Say what to do when `target` cannot be written: a full disk, a folder that is not ours."""
    try:
        yield
    except OSError as error:
        if told := refused(error, target):
            raise told from error
        raise


def check_writable(folder: Path) -> None:
    """Raise SetupError where nothing can be written into a folder; a quota shows in no figure, so bytes are written."""
    probe = _part(folder / "probe")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(bytes(4096))
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


def _no_room(need: int, folder: Path, what: str, how: str) -> SetupError:
    free = shutil.disk_usage(folder).free
    return SetupError(
        worded(
            "atomic.needs_gb_gb",
            what=what,
            need=need / 1000000000.0,
            folder=folder,
            free=free / 1000000000.0,
            need2=max(need - free, FULL_BELOW) / 1000000000.0,
            how=how,
        ),
    )


def _part(target: Path) -> Path:
    pid, born = ProcessId.of()
    return target.with_name(f".{target.name}.{pid}-{int(born)}-{uuid.uuid4().hex[:6]}{SUFFIX}")


def _owner_lives(part: Path) -> bool:
    """Tell whether the process still runs that builds at this path; its name says which one that is."""
    with suppress(ValueError):
        pid, born, _ = part.name.removesuffix(SUFFIX).rpartition(".")[2].split("-")
        return ProcessId(int(pid), float(born)).alive
    return False


def _take_place(part: Path, target: Path) -> None:
    if not target.is_dir():
        part.replace(target)
        return
    # A folder with something in it cannot be replaced in one step. Killed in between, `target` is missing, not broken.
    old = _part(target)
    target.replace(old)
    part.replace(target)
    remove(old)
