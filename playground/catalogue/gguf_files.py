"""GGUF files as models: which files make one, which of a folder's or a repository's can be chosen, and what is none.

llama.cpp is handed the first file of a model in shards and finds the others by their names, so the names decide.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from playground.catalogue import gguf_header, gguf_promises
from playground.catalogue.gguf_header import AGAIN, MAGIC, Header
from playground.errors import VariantError
from playground.wording import worded

NAME = re.compile(r"(?i)(?!.*(^|/)\.)(?P<stem>.+?)(-(?P<number>\d{5})-of-(?P<count>\d{5}))?\.gguf")
"""A GGUF's name, of a model in shards with its number among them. Hidden files are none: macOS writes `._x.gguf`."""
SHARD, SHARD_NAME = re.compile(r"-\d{5}-of-\d{5}\.gguf$"), "…-{:05}-of-{:05}.gguf"
"""The end of a shard's name as llama.cpp writes and reads it: in small letters alone."""
PROJECTOR = re.compile(r"(?i)(.*[/._-])?mmproj([._-].*)?\.gguf")
IMATRIX = re.compile(r"(?i)(.*[/._-])?imatrix(_\w+)?\.(gguf|dat)")
KINDS = {
    "mmproj": (
        "gguf_files.mmproj",
        "gguf_files.mmproj_hint",
    ),
    "adapter": (
        "gguf_files.adapter",
        "gguf_files.adapter_hint",
    ),
    "imatrix": (
        "gguf_files.imatrix",
        "gguf_files.imatrix_hint",
    ),
    "controlvector": ("gguf_files.controlvector", "gguf_files.controlvector_hint"),
    "vocabulary": ("gguf_files.vocabulary", "gguf_files.vocabulary_hint"),
}
"""What a GGUF can be beside a model, and what to do instead."""
ARCHITECTURES = {"clip": "mmproj", "controlvector": "controlvector"}
WRITES_NO_TEXT = {
    **dict.fromkeys(
        ("flux", "sd1", "sdxl", "sd3", "aura", "hidream", "cosmos", "hyvid", "wan", "ltxv", "lumina2", "qwen_image"),
        "gguf_files.paints",
    ),
    "t5": "gguf_files.t5",
    "t5encoder": "gguf_files.t5encoder",
    "wavtokenizer-dec": "gguf_files.sound",
    **dict.fromkeys(
        ("eagle3", "dflash", "gemma4-assistant"),
        "gguf_files.draft",
    ),
    "gemma-embedding": "gguf_files.embeds_gemma",
    "dream": "gguf_files.diffusion",
    "llada": "gguf_files.diffusion",
    "llada-moe": "gguf_files.diffusion",
    "rnd1": "gguf_files.diffusion",
}
"""Architectures that do not write one token after another: the first row llama.cpp refuses, the others it loads
(llama-cpp-python 0.3.36)."""


def parts(name: str) -> list[str]:
    """Return the names of all files of a model, from that of any one of them."""
    found = NAME.fullmatch(name)
    if found is None or not int(found["count"] or 0):
        return [name]
    count, end = found["count"], name[found.end("count") :]
    return [f"{found['stem']}-{number:05}-of-{count}{end}" for number in range(1, int(count) + 1)]


def stem(name: str) -> str:
    """Return what a model is called by its file, without the number of a shard; of any other name, the name itself."""
    found = NAME.fullmatch(name)
    return found["stem"] if found else name


def choices(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the models among file names: that of the first file of each, with those of all its files.

    A file may be missing: that is told when the model is chosen. Projectors and importance matrices are no choices.
    """
    models = [name for name in names if NAME.fullmatch(name) and not beside(name)]
    return {files[0]: files for files in map(parts, sorted(models))}


def beside(name: str) -> str:
    """Return the kind of what lies beside models, as its name tells it; empty for a model."""
    return "mmproj" if PROJECTOR.fullmatch(name) else "imatrix" if IMATRIX.fullmatch(name) else ""


def shards(path: Path) -> list[Path]:
    """Return all files of the model that a path names one of, as far as they are there."""
    return [file for file in (path.with_name(name) for name in parts(path.name)) if file.exists()]


def inside(folder: Path) -> list[Path]:
    """Return the GGUF files right inside a folder, else those one folder below, as on the Hub; no hidden ones."""
    for pattern in ("*", "*/*"):
        if found := sorted(path for path in folder.glob(pattern) if NAME.fullmatch(_within(folder, path))):
            return found
    return []


def _within(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def is_gguf(path: Path) -> bool:
    """Return whether a path stands for a GGUF: a file that begins so, or a folder that holds some as its model."""
    if path.is_file():
        with suppress(OSError), path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC or bool(IMATRIX.fullmatch(path.name))
    found = inside(path)
    if not any(path.glob("*.safetensors")):
        return bool(found)
    return bool(choices(one.name for one in found if one.parent == path))  # a base may come with projectors and builds


def chosen(path: Path, file: str | None) -> Path:
    """Return the file that llama.cpp is handed, of a file, or of a folder and a file's name in it."""
    if file or not path.is_dir():
        return path / file if file else path
    found = inside(path)
    models = choices(_within(path, one) for one in found)
    if len(models) > 1:
        models = {name: files for name, files in models.items() if not _is_beside(path / name)}
    if len(models) == 1:
        return path / next(iter(models))
    if len(found) == 1:
        return found[0]  # what it is will be told where it is checked
    names = ", ".join(listed(models).values()) or ", ".join(_within(path, one) for one in found) or "none"
    raise VariantError(worded("gguf_files.folder_these_gguf", path=path, names=names))


def listed(models: dict[str, list[str]]) -> dict[str, str]:
    """Return models for people to choose from, by name: with the number of shards where there are several."""
    return {
        name: worded("gguf_files.in_shards", name=name, files_count=len(files)) if len(files) > 1 else name
        for name, files in models.items()
    }


def _is_beside(path: Path) -> bool:
    """Return whether a file is no model by what its header says; what cannot be read may be one."""
    try:
        return bool(kind(gguf_header.read(path)))
    except VariantError:
        return False


def kind(header: Header) -> str:
    """Return what a GGUF is beside a model; empty for a model."""
    found = header.text("general.type")
    if found in KINDS:
        return found
    if header.text("general.architecture") in ARCHITECTURES:
        return ARCHITECTURES[header.text("general.architecture")]
    empty = not header.tensors and not header.number("split.tensors.count")
    return "vocabulary" if empty else ""


def check(path: Path) -> None:
    """Refuse what llama.cpp could not load or would not answer with, by what it is.

    Reads headers, and weights at a hundred places: the file may have any size.
    """
    if IMATRIX.fullmatch(path.name) and path.suffix.lower() == ".dat" and path.is_file():
        raise VariantError(
            worded("gguf_files.told", path=path, what=worded(KINDS["imatrix"][0])), worded(KINDS["imatrix"][1])
        )
    if not path.exists() and shards(path):
        raise _missing(path, parts(path.name))
    header = gguf_header.read(path)
    _check_whole(path, header)
    shapes = _check_parts(path, header)
    if found := kind(header):
        raise VariantError(worded("gguf_files.told", path=path, what=worded(KINDS[found][0])), worded(KINDS[found][1]))
    architecture = header.text("general.architecture")
    if not architecture:
        raise VariantError(worded("gguf_files.names_no_architecture", path=path), worded(AGAIN))
    named = WRITES_NO_TEXT.get(architecture)
    what: str = worded(named) if named else ""
    if header.fields.get(f"{architecture}.attention.causal") is False:
        what = what or worded("gguf_files.embeds", architecture=architecture)
    if what:
        raise VariantError(worded("gguf_files.told3", path=path, what=what))
    if header.text("tokenizer.ggml.model") in ("", "none", "no_vocab"):
        raise VariantError(worded("gguf_files.no_vocabulary_tokenizer", path=path), worded(AGAIN))
    gguf_promises.check(path, header, shapes)


def _check_whole(path: Path, header: Header) -> None:
    """Refuse a file that is shorter than its header says, or that has nothing where weights should be."""
    size = path.stat().st_size
    if size < header.size:
        raise VariantError(
            worded("gguf_files.bytes_long_should", path=path, size=size, size2=header.size),
        )
    gguf_promises.check_weights(path, header)


def _check_parts(path: Path, header: Header) -> dict[str, tuple[int, ...]]:
    """Return the tensors of all shards; refuse a shard that is not the first or was renamed, and a missing one."""
    count, number = header.number("split.count"), header.number("split.no") + 1
    names = parts(path.name)
    if count <= 1:
        return dict(header.shapes)
    if len(names) != count or path.name not in names[number - 1 : number]:
        raise VariantError(
            worded(
                "gguf_files.shard_header_name",
                path=path,
                number=number,
                count=count,
                number2=SHARD_NAME.format(number, count),
            ),
        )
    if not SHARD.search(path.name):
        raise VariantError(
            worded("gguf_files.shard_llama_cpp", path=path, count=count, number=SHARD_NAME.format(number, count)),
        )
    if len(shards(path)) < count:
        raise _missing(path, names)
    if number > 1:
        raise VariantError(
            worded("gguf_files.shard_model_named", path=path, number=number, count=count, names=names[0]),
        )
    tensors, shapes = header.tensors, dict(header.shapes)
    for place, name in enumerate(names[1:], start=1):
        shard = path.with_name(name)
        found = gguf_header.read(shard)
        _check_whole(shard, found)
        tensors += found.tensors
        shapes.update(found.shapes)
        if (found.number("split.no"), found.number("split.count")) != (place, count):
            raise VariantError(
                worded("gguf_files.no_shard_header", shard=shard, place=place + 1, count=count), worded(AGAIN)
            )
    if tensors != header.number("split.tensors.count") or len(shapes) != tensors:
        said = worded("gguf_files.tensors_differ", tensors=tensors, value=header.number("split.tensors.count"))
        raise VariantError(worded("gguf_files.shards_not_one", path=path.name, said=said), worded(AGAIN))
    return shapes


def _missing(path: Path, names: list[str]) -> VariantError:
    """Return what to raise of a model in shards that are not all there."""
    missing = [name for name in names if not path.with_name(name).exists()]
    shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    return VariantError(
        worded(
            "gguf_files.lacks_shards_one",
            parent=path.parent,
            missing_count=len(missing),
            names_count=len(names),
            shown=shown,
        ),
    )
