"""What Markdown here takes beyond its own rules: bare tags that change how letters look, and bold beside Hangul."""

import re
from types import MethodType

from markdown_it import MarkdownIt
from markdown_it.common.utils import isPunctChar, isWhiteSpace
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.emphasis import tokenize
from markdown_it.rules_inline.state_inline import Scanned
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from playground.escape import escaped

HARMLESS = "b|strong|i|em|u|s|del|ins|sub|sup|mark|kbd|small|q"
TAG = re.compile(rf"<(/?)({HARMLESS}|br)(\s*/)?>", re.IGNORECASE)
WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]")


def plugin(parser: MarkdownIt) -> None:
    """Teach a parser both."""
    parser.inline.ruler.before("autolink", "tag", _tag)
    parser.inline.ruler.at("emphasis", _emphasis)
    parser.core.ruler.after("inline", "tags", _paired)
    parser.add_render_rule("tag", _render)


def _tag(state: StateInline, silent: bool) -> bool:
    """Take a tag without attributes; every other is text."""
    if state.src[state.pos] != "<" or not (found := TAG.match(state.src, state.pos, state.posMax)):
        return False
    closes, name = bool(found[1]), found[2].lower()
    if not silent:
        if name == "br":
            state.push("hardbreak", "br", 0)
        else:
            token = state.push("tag", name, 0)
            token.content, token.info = found[0], "close" if closes else "open"
    state.pos = found.end()
    return True


def _paired(state: StateCore) -> None:
    """Make text of tags that close nothing, and close those that stay open with their line of thought."""
    for token in state.tokens:
        if token.type != "inline" or not token.children:
            continue
        opened: list[str] = []
        for child in token.children:
            if child.type == "tag" and child.info == "open":
                opened.append(child.tag)
            elif child.type == "tag" and opened and opened[-1] == child.tag:
                opened.pop()
            elif child.type == "tag":
                child.type = "text"
        for name in reversed(opened):
            token.children.append(Token("tag", name, 0, info="close"))


def _render(renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    name = escaped(tokens[index].tag)
    return f"</{name}>" if tokens[index].info == "close" else f"<{name}>"


def _emphasis(state: StateInline, silent: bool) -> bool:
    """Take marks of emphasis as CommonMark does, but for those beside a Hangul or Chinese letter.

    There a particle follows without a space: by CommonMark's rule `**마당(Madang)**은` would keep its stars.
    """
    if silent or state.src[state.pos] != "*":
        return tokenize(state, silent)
    state.scanDelims = MethodType(_scanned, state)  # type: ignore[method-assign]
    try:
        return tokenize(state, silent)
    finally:
        del state.scanDelims


def _scanned(state: StateInline, start: int, can_split: bool) -> Scanned:
    scanned = StateInline.scanDelims(state, start, can_split)
    end = start + scanned.length
    before = state.src[start - 1] if start else " "
    after = state.src[end] if end < state.posMax else " "
    if not (WIDE.match(before) or WIDE.match(after)):
        return scanned
    opens = scanned.can_open or (not isWhiteSpace(ord(after)) and isPunctChar(after))
    closes = scanned.can_close or (not isWhiteSpace(ord(before)) and isPunctChar(before))
    return Scanned(opens, closes, scanned.length)
