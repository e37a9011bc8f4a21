"""The list of conversations as HTML, and the script that makes it one: a row a conversation, newest first."""

from collections.abc import Sequence
from datetime import date, datetime

from playground.conversations.store import Head
from playground.escape import escaped
from playground.page.words import both, tooltip, words
from playground.wording import LANGUAGES

MOST_SHOWN = 100
FORMATS = ("markdown", "json", "sharegpt", "html")
SCRIPT = "madang.history(element, trigger)"
SENDS = "madang.outbox(element)"


def opener() -> str:
    """Return the button that shows and hides the list."""
    said = tooltip("history.label")
    return (
        f'<button type="button" id="history-toggle" aria-controls="history" title="{said}" aria-label="{said}">'
        "<i></i></button>"
    )


def tools() -> str:
    """Return what stands above the list: a new conversation, the search, and a file to bring in."""
    return (
        f'<div class="history-top"><button type="button" class="new" data-action="new">{both("history.new")}</button>'
        f'<button type="button" class="import" data-import title="{tooltip("history.import_info")}">'
        f"{both('history.import')}</button>"
        f'<input type="file" accept=".json,application/json" hidden></div>'
        f'<input type="search" class="search" aria-label="{tooltip("history.search")}"'
        f"{_placeholders('history.search')}>"
        f'<template id="edit-form"><form class="edit"><textarea></textarea><div>'
        f'<button type="button" data-cancel>{both("history.cancel")}</button>'
        f'<button type="button" data-go-on>{both("chat.go_on")}</button>'
        f'<button type="submit">{both("history.save")}</button></div></form></template>'
    )


def _placeholders(key: str) -> str:
    """Return a placeholder in each language; the page's script shows the one that is spoken."""
    return "".join(f' data-say-{language}="{escaped(words(language)[key])}"' for language in LANGUAGES)


def listing(heads: Sequence[Head], current: str, is_found: bool = False, opened: str = "", act: str = "") -> str:
    """Return the list. `opened` is the conversation of which more is shown: `act` menu, rename or delete."""
    rows = "".join(_row(head, current, act if head.id == opened else "") for head in heads[:MOST_SHOWN])
    empty = both("history.none_found" if is_found else "history.none")
    more = f'<p class="todo">{both("history.more", count=MOST_SHOWN)}</p>' if len(heads) >= MOST_SHOWN else ""
    body = f'<ul aria-label="{tooltip("history.label")}">{rows}</ul>{more}' if rows else f'<p class="todo">{empty}</p>'
    return f'<div data-current="{escaped(current)}">{body}</div>'


def _row(head: Head, current: str, act: str) -> str:
    here = ' aria-current="true"' if head.id == current else ""
    shown = {"rename": _rename, "delete": _delete, "menu": _menu}
    if act in ("rename", "delete"):
        return f'<li data-row="{escaped(head.id)}"{here}>{shown[act](head)}</li>'
    more = _menu(head) if act == "menu" else ""
    title = f"<span>{escaped(head.title)}</span><small>{_when(head.used)}</small>"
    return (
        f'<li data-row="{escaped(head.id)}"{here}><div class="row-line">'
        f"{_button('open', head, title, 'open', label=head.title)}"
        f"{_button('close' if act else 'menu', head, '⋯', 'more', tooltip('history.menu'), expanded=bool(act))}"
        f"</div>{more}</li>"
    )


def _menu(head: Head) -> str:
    acts = [_button("ask_rename", head, both("history.rename"), focus=True)]
    acts += [_button(f"export_{name}", head, both(f"history.{name}")) for name in FORMATS]
    acts += [_button("ask_delete", head, both("history.delete"), "delete")]
    return f'<div class="row-menu">{"".join(acts)}</div>'


def _rename(head: Head) -> str:
    label = tooltip("history.title")
    box = f'<input type="text" value="{escaped(head.title)}" aria-label="{label}" maxlength="80" data-focus>'
    acts = _button("close", head, both("history.cancel")) + _button("rename", head, both("history.save"), "go")
    return f'<div class="row-ask">{box}<div>{acts}</div></div>'


def _delete(head: Head) -> str:
    acts = _button("close", head, both("history.cancel"), focus=True)
    acts += _button("delete", head, both("history.delete"), "delete")
    asked = both("history.ask_delete", title=head.title)
    return f'<div class="row-ask" role="alertdialog"><p>{asked}</p><div>{acts}</div></div>'


def _button(  # noqa: PLR0913 - an attribute each
    action: str,
    head: Head,
    text: str,
    kind: str = "",
    label: str = "",
    expanded: bool | None = None,
    focus: bool = False,
) -> str:
    named = f' title="{escaped(label)}"' if label else ""
    named += f' aria-label="{escaped(label)}"' if kind == "more" else ""
    named += "" if expanded is None else f' aria-expanded="{escaped(str(expanded).lower())}"'
    named += " data-focus" if focus else ""
    return (
        f'<button type="button" class="{kind}" data-action="{action}" data-name="{escaped(head.id)}"{named}>'
        f"{text}</button>"
    )


def _when(used: float) -> str:
    then = datetime.fromtimestamp(used)
    if then.date() == date.today():
        return then.strftime("%H:%M")
    return then.strftime("%m-%d" if then.year == date.today().year else "%Y-%m-%d")
