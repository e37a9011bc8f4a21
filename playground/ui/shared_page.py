"""A conversation as one HTML file to share: it needs nothing else, and runs nothing."""

from playground.conversations.exports import facts
from playground.conversations.turns import Chat, Turn
from playground.escape import escaped
from playground.page.markdown import markdown

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8884; } * { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 24px 16px 64px; font: 16px/1.65 system-ui, sans-serif; }
body { word-break: keep-all; overflow-wrap: anywhere; }
.ask { margin: 32px 0 12px; padding: 10px 16px; border-radius: 12px; background: #3d6a5b1f; white-space: pre-wrap; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 12px; }
article { border: 1px solid var(--line); border-radius: 12px; padding: 12px 16px; min-width: 0; }
h2 { margin: 0 0 8px; font-size: 15px; } small { color: #888; }
pre, table { overflow-x: auto; display: block; } pre { white-space: pre; }
"""


def written(chat: Chat) -> str:
    """Return the file: what is in view."""
    title = escaped(chat.title)
    return (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head>'
        f"<body><h1>{title}</h1>{''.join(map(_turn, chat.turns))}<footer><small>마당 Madang</small></footer>"
        "</body></html>"
    )


def _turn(turn: Turn) -> str:
    answers = "".join(
        f"<article><h2>{escaped(name)}</h2>{markdown(answer.text)}<small>{_facts(turn, name)}</small></article>"
        for name, answer in turn.answers.items()
    )
    return f'<section><div class="ask">{escaped(turn.question)}</div><div class="answers">{answers}</div></section>'


def _facts(turn: Turn, variant: str) -> str:
    return escaped(" · ".join(f"{name} {value}" for name, value in facts(turn, variant).items()))
