"""How the GGUFs of an export are used elsewhere: lines for a terminal to copy, the Modelfile, the folder. As HTML."""

import sys
from pathlib import Path
from shlex import quote
from urllib.parse import quote as in_url

from playground.escape import Markup, escaped
from playground.page.words import tooltip
from training.export.exports import Export
from training.words import both


def html(export: Export) -> str:
    """Return a block for each GGUF that is there, the first one open; nothing where there is none."""
    asked = export.asked()
    built = [export.path(one) for one in asked.wanted if one.kind == "gguf"]
    there = [path for path in built if path.is_file()]
    return "".join(_block(export.folder, path, asked.stem, opened=path is there[0]) for path in there)


def _block(folder: Path, gguf: Path, stem: str, opened: bool) -> str:
    found = modelfile(folder, gguf)
    name = gguf.stem.lower()
    lines = {"ollama": f"ollama create {_quoted(name)} -f {_quoted(str(found))}"} if found else {}
    lines |= {
        "llama": f"llama-server -m {_quoted(str(gguf))} --port 8080",
        "lmstudio": f"lms import --copy {_quoted(str(gguf))}",
        "folder": str(folder),
    }
    rows = "".join(f"<div><dt>{both(f'use.{key}')}</dt><dd>{_copied(line)}</dd></div>" for key, line in lines.items())
    shown = _modelfile(found) if found else ""
    summary = f"<summary>{both('use.heading', file=gguf.name)}</summary>"
    return f'<details class="use"{" open" if opened else ""}>{summary}<dl>{rows}</dl>{shown}</details>'


def modelfile(folder: Path, gguf: Path) -> Path | None:
    """Return the Modelfile of a GGUF of the same folder; None where it was taken away."""
    for file in sorted(folder.glob("Modelfile*")):
        if file.is_file() and f"FROM ./{gguf.name}" in file.read_text(encoding="utf-8").splitlines():
            return file
    return None


def _modelfile(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    address = f"data:text/plain;charset=utf-8,{in_url(text)}"
    link = f'<a class="download" download="{escaped(file.name)}" href="{address}">{both("use.download")}</a>'
    return f"<details><summary>{escaped(file.name)}</summary><pre>{escaped(text)}</pre>{_copy(text)}{link}</details>"


def _copied(line: str) -> Markup:
    return Markup(f"<code>{escaped(line)}</code>{_copy(line)}")


def _copy(text: str) -> str:
    return (
        f'<button class="copy" type="button" data-copy="{escaped(text)}" aria-label="{tooltip("chat.copy")}"></button>'
    )


def _quoted(text: str) -> str:
    """Return a word as this machine's terminal takes it."""
    if sys.platform == "win32":  # no path there holds a quotation mark
        return f'"{text}"' if " " in text else text
    return quote(text)
