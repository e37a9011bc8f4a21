"""Pieces of HTML: buttons, tables and bars. Knows no language."""

from collections.abc import Iterable

from playground.escape import escaped


def button(action: str, name: str, text: str, kind: str = "") -> str:
    """Return a button whose press events.PRESSES reports as `action` and `name`; `text` is HTML, `kind` its class."""
    where = f'data-action="{action}" data-name="{escaped(name)}"'
    return f'<button type="button" class="{kind or action}" {where}>{text}</button>'


def tab_button(tab: str, text: str, kind: str = "go", ask: str = "") -> str:
    """Return a button that opens a tab, with the variant that it asks for chosen."""
    asked = f' data-ask="{escaped(ask)}"' if ask else ""
    return f'<button type="button" class="{kind}" data-tab="{tab}"{asked}>{text}</button>'


def chat_button(variant: str, text: str) -> str:
    """Return a button that opens Chat with this variant chosen."""
    return tab_button("chat", text, ask=variant)


def table(rows: Iterable[Iterable[str]], head: Iterable[str] = ()) -> str:
    """Return a table of cells of HTML, with a head where there are names for its columns."""
    names = "".join(f"<th>{name}</th>" for name in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{f'<thead><tr>{names}</tr></thead>' if names else ''}<tbody>{lines}</tbody></table>"


def bar(share: float | None) -> str:
    """Return a bar that is filled by a share of 1, or an endlessly moving one where no share is known."""
    if share is None:
        return '<div class="bar endless"><i></i></div>'
    return f'<div class="bar"><i style="width: {100 * share:.1f}%"></i></div>'
