"""Code within answers: its language, a button that copies it, and colours by Pygments. What colours cost is bounded."""

from functools import lru_cache

from pygments import lex
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Generic, Keyword, Literal, Name, Number, Operator, String, _TokenType
from pygments.util import ClassNotFound

from playground.escape import escaped
from playground.page.words import tooltip

LONGEST = 20_000
"""Characters that are coloured; the rest of a longer block is plain."""
STEP = 8
"""Code that grows is coloured anew whenever an eighth more has come: its last lines are plain until then."""
WHOLE = 1000
NAMES = """
bash c c++ clojure cmake console cpp c# csharp css dart diff docker dockerfile elixir erlang fortran go golang graphql
groovy haskell hs html http ini java javascript js json jsonc json5 jsx julia kotlin kt latex less lua make makefile
markdown matlab md nginx nix objective-c ocaml pascal perl php powershell proto protobuf ps1 py py3 python python3 r rb
rs ruby rust sass scala scss sh shell sql svg swift terraform tex toml ts tsx typescript vim vue xml yaml yml zig zsh
"""
LANGUAGES = frozenset(NAMES.split())
"""Common ones: their lexers are well worn, and a model names nothing else that this program would then load."""
CLASSES: dict[_TokenType, str] = {
    Keyword: "hk", Name.Tag: "hk", Operator.Word: "hk", Name.Function: "hf", Name.Class: "hf", Name.Decorator: "hf",
    Name.Builtin: "hb", Name.Attribute: "hb", Keyword.Type: "hb", Keyword.Constant: "hn", String: "hs", Number: "hn",
    Literal: "hs", Comment: "hc", Generic.Inserted: "hs", Generic.Deleted: "hd", Generic.Heading: "hf",
}  # fmt: skip


def block(text: str, info: str, grows: bool = False) -> str:
    """Return code with its head. `info`: what stands behind the opening fence; `grows`: whether more may come."""
    name = info.split(maxsplit=1)[0].lower() if info.strip() else ""
    label = tooltip("chat.copy")
    button = f'<button class="copy" type="button" data-copy-code title="{label}" aria-label="{label}"></button>'
    head = f'<div class="code-head"><span>{escaped(name[:30])}</span>{button}</div>'
    return f'<div class="code">{head}<pre tabindex="0"><code>{_coloured(text, name, grows)}</code></pre></div>'


def _coloured(text: str, language: str, grows: bool) -> str:
    if language not in LANGUAGES:
        return escaped(text)
    cut = _cut(text[:LONGEST], grows)
    return _spans(text[:cut], language) + escaped(text[cut:])


def _cut(text: str, grows: bool) -> int:
    """Return how much of a text is coloured: where more may come, the lines of a whole number of steps."""
    step = 1 << (len(text) // STEP).bit_length() if grows and len(text) > WHOLE else 1
    return len(text) if step == 1 else text.rfind("\n", 0, len(text) // step * step) + 1


@lru_cache(maxsize=256)
def _spans(text: str, language: str) -> str:
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return escaped(text)
    shown: list[tuple[str, str]] = []
    for kind, piece in lex(text, lexer):
        name = _class(kind)
        if shown and shown[-1][0] == name:
            shown[-1] = (name, shown[-1][1] + piece)
        else:
            shown.append((name, piece))
    return "".join(f'<span class="{name}">{escaped(piece)}</span>' if name else escaped(piece) for name, piece in shown)


def _class(kind: _TokenType | None) -> str:
    while kind is not None and kind not in CLASSES:
        kind = kind.parent
    return CLASSES[kind] if kind is not None else ""
