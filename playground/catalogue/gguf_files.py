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

NAME = re.compile(r"(?i)(?!.*(^|/)\.)(?P<stem>.+?)(-(?P<number>\d{5})-of-(?P<count>\d{5}))?\.gguf")
"""A GGUF's name, of a model in shards with its number among them. Hidden files are none: macOS writes `._x.gguf`."""
SHARD, SHARD_NAME = re.compile(r"-\d{5}-of-\d{5}\.gguf$"), "…-{:05}-of-{:05}.gguf"
"""The end of a shard's name as llama.cpp writes and reads it: in small letters alone."""
PROJECTOR = re.compile(r"(?i)(.*[/._-])?mmproj([._-].*)?\.gguf")
IMATRIX = re.compile(r"(?i)(.*[/._-])?imatrix(_\w+)?\.(gguf|dat)")
KINDS = {
    "mmproj": (
        "a projector (mmproj), the part of a model that reads pictures or sound, and no language model",
        "Add the model's own GGUF, which lies beside it; Madang uses it for text, without the projector.",
    ),
    "adapter": (
        "a LoRA adapter as GGUF, and no model",
        "Add the adapter as PEFT saved it (the folder with adapter_config.json) and its base, or merge it with "
        "llama.cpp's llama-export-lora and add what that writes.",
    ),
    "imatrix": (
        "an importance matrix (imatrix), which guides a quantization, and no model",
        "Add the model's own GGUF. `madang export --imatrix TEXT` measures a matrix of its own.",
    ),
    "controlvector": ("a control vector, and no model", "Add the model's own GGUF: Madang steers no answers with one."),
    "vocabulary": ("a vocabulary without any weights, and no model", "Add the GGUF that holds the weights, too."),
}
"""What a GGUF can be beside a model, and what to do instead."""
ARCHITECTURES = {"clip": "mmproj", "controlvector": "controlvector"}
WRITES_NO_TEXT = {
    **dict.fromkeys(
        ("flux", "sd1", "sdxl", "sd3", "aura", "hidream", "cosmos", "hyvid", "wan", "ltxv", "lumina2", "qwen_image"),
        "a model that paints pictures or films",
    ),
    "t5": "an encoder with a decoder of its own (T5)",
    "t5encoder": "an encoder (T5's)",
    "wavtokenizer-dec": "a decoder of sound",
    **dict.fromkeys(
        ("eagle3", "dflash", "gemma4-assistant"),
        "a draft model, which guesses ahead for another and writes nothing alone",
    ),
    "gemma-embedding": "a model for embeddings (gemma-embedding), which writes no text",
    "dream": "a diffusion model, which writes all words at once",
    "llada": "a diffusion model, which writes all words at once",
    "llada-moe": "a diffusion model, which writes all words at once",
    "rnd1": "a diffusion model, which writes all words at once",
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
    raise VariantError(f"{path} is a folder with these GGUF files: {names}.", "Name one of them as `file`.")


def listed(models: dict[str, list[str]]) -> dict[str, str]:
    """Return models for people to choose from, by name: with the number of shards where there are several."""
    return {name: f"{name} in {len(files)} shards" if len(files) > 1 else name for name, files in models.items()}


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
        raise VariantError(f"{path} is {KINDS['imatrix'][0]}.", KINDS["imatrix"][1])
    if not path.exists() and shards(path):
        raise _missing(path, parts(path.name))
    header = gguf_header.read(path)
    _check_whole(path, header)
    shapes = _check_parts(path, header)
    if found := kind(header):
        raise VariantError(f"{path} is {KINDS[found][0]}.", KINDS[found][1])
    architecture = header.text("general.architecture")
    if not architecture:
        raise VariantError(f"{path} names no architecture.", AGAIN)
    what = WRITES_NO_TEXT.get(architecture)
    if header.fields.get(f"{architecture}.attention.causal") is False:
        what = what or f"a model for embeddings ({architecture}), which writes no text"
    if what:
        raise VariantError(f"{path} is {what}.", "Add a language model that writes one token after another.")
    if header.text("tokenizer.ggml.model") in ("", "none", "no_vocab"):
        raise VariantError(f"{path} has no vocabulary (tokenizer.ggml.model), so it reads no text.", AGAIN)
    gguf_promises.check(path, header, shapes)


def _check_whole(path: Path, header: Header) -> None:
    """Refuse a file that is shorter than its header says, or that has nothing where weights should be."""
    size = path.stat().st_size
    if size < header.size:
        raise VariantError(
            f"{path} is {size:,} bytes long and should be {header.size:,}: it is cut short.",
            "Download or copy the file again. Where it came in pieces (part1of2, split-a), join them first.",
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
            f"{path} is shard {number} of {count} by its header, and its name does not say so.",
            f"llama.cpp finds the others by their names: call it {SHARD_NAME.format(number, count)} again.",
        )
    if not SHARD.search(path.name):
        raise VariantError(
            f"{path} is a shard, and llama.cpp reads no shard whose name ends in other letters than these: .gguf.",
            f"Rename all {count} of them: {SHARD_NAME.format(number, count)}, in small letters.",
        )
    if len(shards(path)) < count:
        raise _missing(path, names)
    if number > 1:
        raise VariantError(
            f"{path} is shard {number} of {count}, and a model is named by its first.",
            f"Name {names[0]}, or the folder.",
        )
    tensors, shapes = header.tensors, dict(header.shapes)
    for place, name in enumerate(names[1:], start=1):
        shard = path.with_name(name)
        found = gguf_header.read(shard)
        _check_whole(shard, found)
        tensors += found.tensors
        shapes.update(found.shapes)
        if (found.number("split.no"), found.number("split.count")) != (place, count):
            raise VariantError(f"{shard} is no shard {place + 1} of {count} by its header.", AGAIN)
    if tensors != header.number("split.tensors.count") or len(shapes) != tensors:
        said = f"{tensors:,} tensors, and the first says {header.number('split.tensors.count'):,}"
        raise VariantError(f"The shards of {path.name} are not of one model: together they hold {said}.", AGAIN)
    return shapes


def _missing(path: Path, names: list[str]) -> VariantError:
    """Return what to raise of a model in shards that are not all there."""
    missing = [name for name in names if not path.with_name(name).exists()]
    shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    return VariantError(
        f"{path.parent} lacks {len(missing)} of the {len(names)} shards of one model: {shown}.",
        "Download or copy what is missing beside the others.",
    )
