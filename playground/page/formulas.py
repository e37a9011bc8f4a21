"""Formulas within Markdown: `$x$`, `$$x$$`, `\\(x\\)`, `\\[x\\]`, for the browser, which sets them with KaTeX."""

import re

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from playground.escape import escaped

LONGEST = 5000
SIGNS = (("$$", "$$", "display"), ("\\[", "\\]", "display"), ("\\(", "\\)", ""))
DOLLARS = re.compile(r"\$(?![\s$])((?:\\[^\n]|[^$\\\n])+?)(?<![\s\\])\$(?![\d$])")
"""A price is no formula: nothing is, between dollars, that begins or ends with a space or that a digit follows."""
BLOCKS = {"$$": "$$", "\\[": "\\]"}


def plugin(parser: MarkdownIt) -> None:
    """Teach a parser formulas."""
    parser.inline.ruler.before("escape", "formula", _inline)
    parser.block.ruler.before("fence", "formula_block", _block, {"alt": ["paragraph", "list", "blockquote"]})
    parser.add_render_rule("formula", _render)


def _inline(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] not in "$\\":
        return False
    begin = state.pos
    for opening, closing, kind in SIGNS:
        if state.src.startswith(opening, begin):
            end = state.src.find(closing, begin + 3, min(state.posMax, begin + LONGEST))
            return end > 0 and _take(state, silent, state.src[begin + 2 : end], end + 2, kind)
    found = DOLLARS.match(state.src, begin, state.posMax)
    return _take(state, silent, found[1], found.end(), "") if found else False


def _take(state: StateInline, silent: bool, tex: str, end: int, kind: str) -> bool:
    if not tex.strip():
        return False
    if not silent:
        _push(state.push("formula", "span", 0), tex, kind)
    state.pos = end
    return True


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Take a formula that begins a line, up to the line that ends with its closing sign; a blank line ends none."""
    line = _line(state, start)
    closing = BLOCKS.get(line[:2], "")
    if not closing or state.is_code_block(start):
        return False
    lines, last = [line[2:]], start
    while not lines[-1].rstrip().endswith(closing):
        last += 1
        if last >= end or state.sCount[last] < state.blkIndent or not (text := _line(state, last)).strip():
            return False
        lines.append(text)
    body = "\n".join(lines).rstrip().removesuffix(closing)
    if closing in body or not body.strip():
        return False
    if not silent:
        _push(state.push("formula", "div", 0), body, "display")
        state.line = last + 1
    return True


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _push(token: Token, tex: str, kind: str) -> None:
    token.content, token.info, token.block = tex.strip(), kind, token.tag == "div"


def _render(renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    token = tokens[index]
    if env.get("grows") and token.block and index == len(tokens) - 1:
        token.info += " coming"  # set once it is whole
    tag, kind = escaped(token.tag), escaped(f"math {token.info}".strip())
    return f'<{tag} class="{kind}">{escaped(token.content)}</{tag}>'
