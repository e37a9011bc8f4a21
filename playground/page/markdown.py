"""An answer's Markdown as HTML. Answers are never trusted: HTML in them is shown as text, images are not fetched."""

from functools import cache, lru_cache

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").enable("strikethrough")
    parser.disable("image")
    parser.add_render_rule("link_open", _link_open)
    return parser


def _link_open(renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    tokens[index].attrSet("target", "_blank")
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    return renderer.renderToken(tokens, index, options, env)


@lru_cache(maxsize=64)
def html(text: str) -> str:
    """The text as HTML; half-finished Markdown of an answer under way is read as far as it goes."""
    return str(_parser().render(text))
