"""A Markdown file as the tests of the docs read it: headings, links, code."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.S)
HTML_LINK = re.compile(r'(?:src|href)="([^"]+)"')
JOINS = {"&&", "||", "|", ";", "&"}
"""What stands between two commands of one line."""


@dataclass
class Doc:
    """What a Markdown file names; `blocks` are the code spans, one list for each paragraph, heading or table cell."""

    path: Path
    text: str
    headings: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    blocks: list[list[str]] = field(default_factory=list)
    fences: list[tuple[str, str]] = field(default_factory=list)

    def code(self, language: str) -> list[str]:
        """The fenced blocks in this language."""
        return [text for info, text in self.fences if info == language]

    def spans(self) -> list[str]:
        """Every code span."""
        return [span for block in self.blocks for span in block]

    def anchors(self) -> set[str]:
        """The anchors that GitHub gives to the headings."""
        found: list[str] = []
        for heading in self.headings:
            anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
        return set(found)

    def commands(self) -> list[list[str]]:
        """The commands of the shell blocks, word by word, without comments and assignments before them."""
        return [command for text in self.code("sh") for command in _commands(text)]

    def mentions(self) -> list[list[str]]:
        """Code spans of several words, read as commands; most of them are something else."""
        return [command for span in self.spans() for command in _commands(span) if len(command) > 1]


@cache
def parsed(path: Path) -> Doc:
    """The file, read once."""
    text = path.read_text(encoding="utf-8")
    doc = Doc(path, text)
    tokens = MarkdownIt("commonmark").enable("table").parse(FRONT_MATTER.sub("", text))
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "fence":
            doc.fences.append((token.info.strip(), token.content))
        elif token.type == "html_block":
            doc.links += HTML_LINK.findall(token.content)
        elif token.type == "inline":
            _read_inline(doc, token)
            if before is not None and before.type == "heading_open":
                doc.headings.append("".join(child.content for child in token.children or []))
    return doc


def _read_inline(doc: Doc, token: Token) -> None:
    children = token.children or []
    doc.blocks.append([child.content for child in children if child.type == "code_inline"])
    doc.links += [str(child.attrs["href"]) for child in children if child.type == "link_open"]
    doc.links += [str(child.attrs["src"]) for child in children if child.type == "image"]
    doc.links += HTML_LINK.findall("".join(child.content for child in children if child.type == "html_inline"))


def _commands(text: str) -> Iterator[list[str]]:
    """Each command of a shell script; a line that no shell would read is none. Windows' paths become ours."""
    for line in text.replace("\\\n", " ").replace("\\", "/").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        command: list[str] = []
        for word in [*words, ";"]:
            if word not in JOINS:
                if command or not re.fullmatch(r"\w+=.*", word):
                    command.append(word)
            elif command:
                yield command
                command = []
