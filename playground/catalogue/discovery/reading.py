"""Reads what a look needs and no more: names in folders, small JSON files, and the first fields of a GGUF."""

import json
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from playground.catalogue import gguf_files
from playground.catalogue.discovery.found import Look
from playground.catalogue.gguf_header import ARRAY, MAGIC, SCALARS, TEXT
from playground.catalogue.remarks import Remark
from playground.errors import VariantError
from playground.wording import worded

DEEPEST = 8
MOST_NAMES = 200_000
"""Names that are read below one folder at most: somebody may name the root of a disk."""
LARGEST_JSON = 2**20
BEGINNING = 2**16
"""Bytes of a GGUF that are read: its kind stands before its vocabulary."""


def folders(root: Path, look: Look) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder from `root` down with its files; links are followed, and no folder is read twice.

    Hidden folders are passed over. A folder that is not there is nothing; one that cannot be read is noted.
    """
    seen: set[tuple[int, int]] = set()
    waiting, names = [(root, 0)], 0
    while waiting:
        folder, depth = waiting.pop()
        try:
            entries = _entries(folder, seen)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            look.refused(folder, error)
            continue
        names += len(entries)
        if names > MOST_NAMES:
            look.said.append(Remark("found.too_many", {"path": str(root), "count": f"{MOST_NAMES:,}"}))
            return
        below = [entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]
        if depth < DEEPEST:
            waiting += [(folder / name, depth + 1) for name in sorted(below, reverse=True)]
        yield folder, sorted({entry.name for entry in entries} - set(below))


def _entries(folder: Path, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing where it was read before, by another name."""
    place = folder.stat()
    if (place.st_dev, place.st_ino) in seen:
        return []
    seen.add((place.st_dev, place.st_ino))
    with os.scandir(folder) as entries:
        return list(entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a link in a ring of links
        return entry.is_dir()
    return False


def size(path: Path) -> int:
    """Return the bytes of a file; 0 where it is not there."""
    with suppress(OSError):
        return path.stat().st_size
    return 0


def json_object(path: Path, look: Look) -> dict[str, Any]:
    """Return a small JSON object; an empty one where a file holds none, is too large, or cannot be read (noted)."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_JSON + 1)
        content = json.loads(raw) if len(raw) <= LARGEST_JSON else {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        look.refused(path, error)
        return {}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def gguf_obstacle(path: Path) -> Remark | None:
    """Return why a GGUF file is no model by how it begins; None for a model, whose check comes when it is added."""
    try:
        with path.open("rb") as file:
            raw = file.read(BEGINNING)
    except OSError as error:
        return Remark("found.closed", {"path": str(path), "why": error.strerror or type(error).__name__})
    if raw[:4] != MAGIC:
        return Remark("found.no_gguf")
    kind = _kind(_first_fields(raw))
    return Remark("found.beside", {"what": worded(gguf_files.KINDS[kind][0])}) if kind else None


def _kind(fields: dict[str, str]) -> str:
    """Return what a GGUF is beside a model; empty for a model."""
    said = fields.get("general.type", "")
    return (
        said if said in gguf_files.KINDS else gguf_files.ARCHITECTURES.get(fields.get("general.architecture", ""), "")
    )


def _first_fields(raw: bytes) -> dict[str, str]:
    """Return a GGUF's texts as far as its beginning holds them; lists are passed over."""
    fields: dict[str, str] = {}
    with suppress(struct.error, LookupError):
        at = 24
        for _ in range(struct.unpack_from("<Q", raw, 16)[0]):
            key, at = _text(raw, at)
            kind, at = struct.unpack_from("<I", raw, at)[0], at + 4
            if kind == TEXT:
                fields[key], at = _text(raw, at)
            else:
                at = _after_list(raw, at) if kind == ARRAY else at + struct.calcsize(SCALARS[kind])
    return fields


def _text(raw: bytes, at: int) -> tuple[str, int]:
    """Return the text at a place, and the place after it."""
    length = struct.unpack_from("<Q", raw, at)[0]
    if at + 8 + length > len(raw):
        raise LookupError(length)
    return raw[at + 8 : at + 8 + length].decode(errors="replace"), at + 8 + length


def _after_list(raw: bytes, at: int) -> int:
    """Return the place after a list; a list of lists ends the reading."""
    kind, count = struct.unpack_from("<IQ", raw, at)
    at += 12
    if kind != TEXT:
        return at + int(count) * struct.calcsize(SCALARS[kind])
    for _ in range(count):
        at += 8 + struct.unpack_from("<Q", raw, at)[0]
    return at


def explained(error: VariantError, folder: Path, title: str) -> Remark:
    """Return a fault of a model's files as what stands in its way; the folder by its title, not by its commit."""
    return Remark("found.fault", {"why": error.message.replace(str(folder), title).replace(folder.name, title)})
