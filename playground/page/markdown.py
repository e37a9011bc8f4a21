"""An answer's Markdown as HTML: formulas, code, tables, lists of tasks, a few tags. Never trusted, also half there.

HTML is shown as text but for bare tags that only change how letters look; images are not fetched. It is made in parts
that change no more once another part follows: what grows costs what is new, however long an answer is.
"""

import re
from collections.abc import Iterable
from functools import cache, lru_cache

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from playground.page import code, formulas, tags
from playground.page.unfinished import finished

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
INSIDE = re.compile(r"[ \t>]|[-*+](?:\s|$)|\d{1,9}[.)](?:\s|$)")
"""How a line begins that may go on with what stands before a blank line: a list, a quote, code by its indent."""
LONG = 4000
"""Characters of a list after which its next item begins a list of its own: or each new word would draw all of it."""
REFERENCE = re.compile(r" {0,3}\[[^\]\n]+\]:\s*\S")
BEGIN, END = "\x1e", "\x1f"
"""Stand around parts within HTML; no answer can hold them."""
UNSEEN = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), 0xFFFD)
PARTS = re.compile(f"data-parts>{BEGIN}(.*?){END}", re.DOTALL)


def markdown(text: str) -> str:
    """Return an answer's Markdown as HTML."""
    return "".join(parts(text))


def marked(text: str, grows: bool = False) -> str:
    """Return the same for inside of `<div data-parts>`, for what `drawing` draws part by part."""
    return f"{BEGIN}{BEGIN.join(parts(text, grows))}{END}"


def as_part(html: str) -> str:
    """Return HTML that changes by itself as the one part of a `<div data-parts>`."""
    return f"{BEGIN}{html}{END}"


def parts(text: str, grows: bool = False) -> list[str]:
    """Return the HTML of an answer in parts; where it `grows`, the last one is drawn as it is likely to become."""
    pieces, references = _split(text.translate(UNSEEN))
    if grows and pieces:
        *pieces, last = pieces
        return [_part(piece, references) for piece in pieces] + [_open(finished(last), references)]
    return [_part(piece, references) for piece in pieces]


def _split(text: str) -> tuple[list[str], str]:
    """Cut a text where no block goes on, and return what links refer to, which every part needs."""
    pieces: list[list[str]] = [[]]
    references: list[str] = []
    fence, after_blank, holds, size = "", False, False, 0
    for line in text.splitlines(keepends=True):
        begins, inside = FENCE.match(line), bool(INSIDE.match(line))
        item = inside and not line[0].isspace() and line[0] != ">"
        if (
            not fence
            and line.strip()
            and ((after_blank and not (inside and (holds or line[0].isspace()))) or (item and size > LONG))
        ):
            pieces.append([])
            holds, size = False, 0
        pieces[-1].append(line)
        holds, size = holds or inside, size + len(line)
        if fence:
            ends = begins and begins[1].startswith(fence) and not line[begins.end() :].strip()
            fence = "" if ends else fence
        elif begins:
            fence = begins[1]
        elif REFERENCE.match(line):
            references.append(line)
        after_blank = not line.strip()
    return ["".join(lines) for lines in pieces if lines], "".join(references)


def _render(piece: str, references: str, grows: bool = False) -> str:
    env: EnvType = {"grows": grows}
    if references:
        _parser().parse(references, env)
    return str(_parser().render(piece, env))


_part = lru_cache(maxsize=2048)(_render)


def _open(piece: str, references: str) -> str:
    """Return the part that grows without its closing tags, which a browser adds: what comes next is appended then."""
    return re.sub(r"(?:\s*</\w+>)+\s*$", "", _render(piece, references, grows=True))


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").enable("strikethrough")
    parser.disable(["image", "lheading"])  # a line below a text is a rule here, or the text would jump
    parser.use(formulas.plugin).use(tags.plugin)
    parser.core.ruler.push("tasks", _tasks)
    for name, rule in {
        "link_open": _link_open,
        "fence": _fence,
        "code_block": _fence,
        "table_open": _table_open,
    }.items():
        parser.add_render_rule(name, rule)
    parser.add_render_rule("table_close", _table_close)
    return parser


def _link_open(renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    tokens[index].attrSet("target", "_blank")
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    return renderer.renderToken(tokens, index, options, env)


def _fence(renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    return code.block(tokens[index].content, tokens[index].info, grows=bool(env.get("grows")))


def _table_open(renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    return '<div class="wide" tabindex="0"><table>'


def _table_close(renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    return "</table></div>"


def _tasks(state: StateCore) -> None:
    """Put a box before each item of a list that begins with `[ ]` or `[x]`."""
    for item, paragraph, inline in _triples(state.tokens):
        if (item.type, paragraph.type, inline.type) != ("list_item_open", "paragraph_open", "inline"):
            continue
        first = inline.children[0] if inline.children else None
        if first and first.type == "text" and (box := re.match(r"\[([ xX])\](?=\s|$)", first.content)):
            item.attrSet("class", "task")
            done = box[1] != " "
            first.content = ("☑" if done else "☐") + first.content[box.end() :]


def _triples(tokens: list[Token]) -> Iterable[tuple[Token, Token, Token]]:
    return zip(tokens, tokens[1:], tokens[2:], strict=False)
