"""Half-done Markdown, drawn as it is likely to become: what has come keeps its place and shape when the rest comes."""

import re
from collections.abc import Iterable

from playground.page.formulas import DOLLARS

OPENING = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)
SIGNS = re.compile(r"(?:^|\n)[ \t>]*(?:[-*+=_#~`|]+|\d{1,9}[.)]?|[-*+][ \t]+\[[ xX]?\]?|\$\$?|\\[\[(]?)[ \t]*\Z")
"""A last line of which nothing shows yet: a list, a heading, a rule or a fence begins."""
PIECES = re.compile(r"(?P<code>`+)|\\.|(?P<mark>\*{1,3}|~{1,2})|(?P<cut><(?:/?[a-zA-Z]{0,6})?\Z)", re.DOTALL)
DISPLAY = {"$$": "$$", "\\[": "\\]"}
FORMULA = re.compile(r"(?<![\\$])(?:\$(?![\s\d$])[^$\n]{0,200}|\\\((?:(?!\\\)).){0,500})\Z", re.DOTALL)
WHOLE = re.compile(
    r"(?<![`\\])(`+)(?!`).+?(?<!`)\1(?!`)|\$\$.+?\$\$|\\\[.+?\\\]|\\\(.+?\\\)|" + DOLLARS.pattern, re.DOTALL
)
LOOKED_AT = 4000
"""Characters at the end in which something may be open: what is looked for there is not looked for in all that came."""
LINK = re.compile(r"!?\[([^\[\]\n]*)\]\([^()\s]*\Z")
BRACKET = re.compile(r"!?\[[^\[\]\n]{0,80}\]?\Z|!\Z|\\\Z")
ROW = re.compile(r"[ \t]*\|")
RULE = re.compile(r"[ \t]*\|?[\s:|-]*\Z")


def finished(text: str) -> str:
    """Return the last part of an answer as the beginning of something whole."""
    fences = list(OPENING.finditer(text))
    if fences and "\n" not in text[fences[-1].end() :]:  # one begins or ends just now
        return text
    if _in_code(fences):
        return re.sub(r"\n[ \t]*[`~]{1,2}$", "\n", text)
    begin = text.index("\n", fences[-1].end()) + 1 if fences else 0
    rest = SIGNS.sub("", text[begin:])
    formula = _formula(rest)
    return text[:begin] + (_closed(_table(rest)) if formula is None else formula)


def _in_code(fences: Iterable[re.Match[str]]) -> bool:
    fence = ""
    for found in fences:
        if not fence:
            fence = found[1]
        elif found[1].startswith(fence):
            fence = ""
    return bool(fence)


def _formula(text: str) -> str | None:
    """Close a formula that has lines of its own; None where none is open."""
    begin = text.rfind("\n\n") + 2 if "\n\n" in text else 0
    lines, opened = text[begin:].split("\n"), -1
    for at, line in enumerate(lines):
        closing = DISPLAY.get(lines[opened].strip()[:2] if opened >= 0 else line.strip()[:2])
        inside = line if opened >= 0 else line.strip()[2:]
        if closing:
            opened = -1 if inside.rstrip().endswith(closing) else at if opened < 0 else opened
    if opened < 0:
        return None
    sign = lines[opened].strip()[:2]
    formula = "\n".join([lines[opened].strip()[2:], *lines[opened + 1 :]]).rstrip("$\\ \n")
    coming = f"\n{sign}{formula}\n{DISPLAY[sign]}" if formula.strip() else ""
    return text[:begin] + "\n".join(lines[:opened]) + coming


def _table(text: str) -> str:
    """Make a table of its first line already, which without the next one would be a line with bars."""
    lines = text.removesuffix("\n").split("\n")
    last = len(lines)
    while last and ROW.match(lines[last - 1]):
        last -= 1
    rows = lines[last:]
    if not rows or len(rows) > 2 or (len(rows) == 2 and not RULE.fullmatch(rows[1])):
        return text
    head = rows[0].strip().removesuffix("|")
    cells = len(re.findall(r"(?<!\\)\|", head)) or 1
    return "\n".join([*lines[:last], f"{head} |", "|" + " --- |" * cells])


def _closed(text: str) -> str:
    """Close what is open in the last paragraph, and leave out marks that open nothing yet."""
    begin = max(text.rfind("\n\n") + 2 if "\n\n" in text else 0, len(text) - LOOKED_AT)
    whole, tail = text[:begin], LINK.sub(r"\1", text[begin:])
    plain = _plain(tail)
    for coming in (FORMULA, BRACKET):
        tail = tail[: found.start()] if (found := coming.search(plain[: len(tail)])) else tail
    opened, cut = _marks(tail)
    tail = tail[:cut]
    closing = "".join(reversed(opened))
    kept = tail.rstrip() if closing else tail
    return whole + kept + closing


def _plain(text: str) -> str:
    """Return a text of the same length without code and formulas that are whole."""
    return WHOLE.sub(lambda found: "x" * len(found[0]), text)


def _marks(text: str) -> tuple[list[str], int]:
    """Return the marks that are still open, and where the text ends that can be shown."""
    opened: list[str] = []
    at, end = 0, len(text)
    while found := PIECES.search(text, at):
        at, mark = found.end(), found["mark"] or ""
        if found["cut"] is not None:
            end = found.start()
        elif code := found["code"]:
            closing = re.compile(rf"(?<!`){code}(?!`)").search(text, at)
            if closing is None:  # all that follows is code
                begun = len(text.rstrip("` ")) if text[at:].strip("` \n") else found.start()
                return ([*opened, code], begun) if begun > at else (opened, found.start())
            at = closing.end()
        elif mark and at == len(text.rstrip()) and not (opened and opened[-1] == mark):
            end = found.start()  # a mark that opens what has not come, or half of one that closes
        else:
            _mark(opened, mark, before=text[: found.start()][-1:], after=text[at : at + 1])
    return opened, end


def _mark(opened: list[str], mark: str, before: str, after: str) -> None:
    """Take one mark into account as it opens or closes."""
    if not mark:
        return
    if opened and opened[-1] == mark and before.strip():
        opened.pop()
    elif mark == "***" and opened[-2:] in (["**", "*"], ["*", "**"]) and before.strip():
        del opened[-2:]
    elif after.strip() and mark not in opened:
        opened.append(mark)
