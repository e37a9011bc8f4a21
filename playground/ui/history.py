"""What the list of conversations and the buttons beside turns do. Handlers over plain values: tests call them.

What a browser sends is a wish and no more: names of others' conversations open nothing, and unknown wishes do nothing.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gradio as gr

from playground.conversations import exports
from playground.conversations.shelves import good_key
from playground.conversations.turns import Answer, Chat, fresh_id
from playground.errors import MadangError
from playground.escape import HALVES, escaped
from playground.page.events import Updates, Values
from playground.page.words import both, fault
from playground.system import documents
from playground.ui import chat, history_list, shared_page
from playground.ui.chat import PANES
from playground.ui.desk import Desk
from playground.ui.history_list import FORMATS
from playground.ui.running import Claim

LONGEST_SEARCH = 200
FILES = {
    "markdown": ("md", "text/markdown", exports.markdown),
    "json": ("json", "application/json", exports.as_json),
    "sharegpt": ("sharegpt.json", "application/json", exports.sharegpt),
    "html": ("html", "text/html", shared_page.written),
}
"""A file's ending and kind, and who writes it, by the name of the format."""


class Wish(NamedTuple):
    """A press: what is to be done, with which conversation or turn, and what was typed."""

    action: str
    name: str = ""
    text: str = ""
    key: str = ""

    @classmethod
    def of(cls, event: gr.EventData) -> "Wish":
        """Read what a browser sent; what is no text counts as empty, and halves of signs are replaced."""
        said: dict[str, Any] = event._data if isinstance(event._data, dict) else {}
        found = {name: said.get(name) for name in cls._fields}
        return cls(**{name: text.translate(HALVES) if isinstance(text, str) else "" for name, text in found.items()})


Handler = Callable[[Desk, Values, str, Wish], Iterator[Updates]]


def act(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Do what is wished; what cannot be done is said."""
    handler = HANDLERS.get(wish.action)
    if handler is None:
        return
    try:
        yield from handler(desk, values, session, wish)
    except MadangError as error:
        yield {desk.view.notice: fault("problem.page", error)}


def arrive(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Show a browser that has just come its conversations, and the one that it looked at before a reload."""
    key = good_key(wish.key) if not desk.shelves.lasting else ""
    kept: Updates = {desk.view.history.key: key}
    now = {**values, **kept}
    waits, typed = _left(wish.text)
    kept |= chat.back(desk, values, session, (), typed)
    now |= {desk.view.text: kept.get(desk.view.text, values[desk.view.text])}
    if wish.name and (shown := chat.shelf(desk, now, session).read(wish.name)):
        yield from _opened(desk, now, session, shown, kept, waits)
    else:
        yield kept | chat.listed(desk, now, session, values[desk.view.chat])


def _left(text: str) -> tuple[list[str], str]:
    """Return the names of questions that waited before a reload, and what was typed, as the browser remembers them."""
    try:
        said = documents.parse(text, "JSON") if text else {}
    except ValueError:
        said = {}
    said = said if isinstance(said, dict) else {}
    waits, typed = said.get("waits"), said.get("typed")
    keys = [key for key in waits if isinstance(key, str)] if isinstance(waits, list) else []
    return keys[: chat.MOST_WAITING], typed if isinstance(typed, str) else ""


def open_chat(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Show a conversation, and go on with the answers that are coming in it."""
    shown = chat.shelf(desk, values, session).read(wish.name)
    if shown is None:
        yield chat.listed(desk, values, session, values[desk.view.chat])
    elif shown.id != values[desk.view.chat].id or not desk.running.busy(session):
        yield from _opened(desk, values, session, shown, {})


def _opened(  # noqa: PLR0913 - what is in view, and what else comes with it
    desk: Desk, values: Values, session: str, shown: Chat, more: Updates, waits: Sequence[str] = ()
) -> Iterator[Updates]:
    """Draw a conversation in panes of the variants that were asked last, and look at what is coming.

    `waits`: names of questions that waited behind it before a reload, which are asked then.
    """
    view = desk.view
    waited = chat.let_go(desk, session, left=shown)
    picked = _variants(desk, shown) or list(values[view.picker] or [])[:PANES]
    hearing = chat.shelf(desk, values, session).under_way(shown.leaf)
    claim = hearing or Claim()
    desk.running.begin(session, claim, desk.visitor)
    desk.running.adopt(session, waits)
    drawn = chat.drawn(desk, values, shown, picked) | {view.picker: picked} | more
    drawn |= chat.buttons(view, under_way=hearing is not None) | chat.listed(desk, values, session, shown)
    drawn[view.picker] = gr.update(value=picked, interactive=hearing is None)
    yield drawn | chat.back(desk, values, session, waited)
    try:
        if hearing:
            shown = yield from chat.heard(desk, session, hearing, shown, picked)
        if following := desk.running.following(session, claim):
            begun = shown.ask(following.question, chat.in_panes(desk, following.values))
            yield from chat.ask(desk, session, claim, following, begun, {})
        elif hearing:
            yield chat.buttons(view, under_way=desk.running.busy(session))
    finally:
        if desk.running.is_current(session, claim):
            chat.let_go(desk, session)


def _variants(desk: Desk, shown: Chat) -> list[str]:
    known = desk.playground.catalogue.names
    last = shown.last or next(reversed(shown.tree.values()), None)
    return [name for name in (last.answers if last else ()) if name in known][:PANES]


def begin_new(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Begin a new conversation."""
    yield chat.clear(desk, values, session)


def search(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """List what holds the words that were typed."""
    wanted: Updates = {desk.view.history.wanted: wish.text[:LONGEST_SEARCH]}
    yield wanted | chat.listed(desk, {**values, **wanted}, session, values[desk.view.chat])


def show(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Show more of one row of the list, or all rows alike."""
    act = {"menu": "menu", "ask_rename": "rename", "ask_delete": "delete"}.get(wish.action, "")
    yield _list(desk, values, session, wish.name, act)


def _list(desk: Desk, values: Values, session: str, opened: str = "", act: str = "") -> Updates:
    wanted = values[desk.view.history.wanted] or ""
    found = chat.shelf(desk, values, session).store.search(wanted, history_list.MOST_SHOWN)
    current = values[desk.view.chat].id
    return {desk.view.history.listing: history_list.listing(found, current, bool(wanted), opened, act)}


def rename(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Give a conversation another title."""
    chat.shelf(desk, values, session).store.rename(wish.name, wish.text)
    yield _list(desk, values, session)


def delete(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Remove a conversation; where it is the one in view, an empty one takes its place."""
    here = values[desk.view.chat]
    if here.id == wish.name:
        desk.running.drop(session, left=Chat())
    chat.shelf(desk, values, session).store.delete(wish.name)
    yield chat.clear(desk, values, session) if here.id == wish.name else _list(desk, values, session)


def beside(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Look at another way that the conversation took."""
    if desk.running.busy(session):
        return
    here = _whole(desk, values, session)
    turn = here.tree.get(wish.name)
    step = {"earlier": -1, "later": 1}.get(wish.action)
    if step is None:
        here = here.onward()
    elif turn:
        here = here.beside(turn, step)
    chat.keep(desk, values, session, here)
    yield from _opened(desk, values, session, here, {})


def ask_otherwise(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Ask an edited question in the place of the one before; that one stays beside it."""
    here, text = _whole(desk, values, session), wish.text.strip()
    turn = here.tree.get(wish.name)
    picked = list(values[desk.view.picker] or [])[:PANES]
    if turn and text:
        yield from chat.anew(desk, values, session, here.at(turn.parent).ask(text, picked))


def ask_one(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Ask one variant again; the others' answers to that question stay."""
    here = _whole(desk, values, session)
    turn_id, _, variant = wish.name.partition(" ")
    turn = here.tree.get(turn_id)
    if turn and variant in turn.answers:
        answers = turn.answers | {variant: Answer()}
        yield from chat.anew(desk, values, session, here.grown(turn.again(answers=answers)))


def go_on(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Have a variant go on from an answer as it was edited; the answer before stays beside it."""
    here = _whole(desk, values, session)
    turn_id, _, variant = wish.name.partition(" ")
    turn = here.tree.get(turn_id)
    if turn and variant in turn.answers and wish.text.strip():
        was = turn.answers[variant]
        begun = Answer(text=wish.text, before=wish.text, reasoning=was.reasoning if was.text else "")
        yield from chat.anew(desk, values, session, here.grown(turn.again(answers=turn.answers | {variant: begun})))


def rewrite(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Put a person's words in the place of an answer; that one stays beside it."""
    here = _whole(desk, values, session)
    turn_id, _, variant = wish.name.partition(" ")
    turn = here.tree.get(turn_id)
    if desk.running.busy(session) or not turn or variant not in turn.answers or not wish.text.strip():
        return
    said = turn.answers[variant].model_copy(update={"text": wish.text, "reasoning": "", "edited": True})
    grown = here.grown(turn.again(answers=turn.answers | {variant: said}))
    unkept = chat.keep(desk, values, session, grown, grown.turns[-2:])
    yield chat.drawn(desk, values, grown, values[desk.view.picker]) | unkept


def export(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Hand a conversation to the browser as a file."""
    found = chat.shelf(desk, values, session).read(wish.name)
    form = wish.action.removeprefix("export_")
    if found:
        ending, kind, write = FILES[form]
        name = f"{_file_name(found.title)}.{ending}"
        about = f'data-file="{escaped(name)}" data-kind="{kind}" data-made="{fresh_id()}"'
        file = f"<data {about}>{escaped(write(found))}</data>"
        yield {desk.view.history.outbox: file} | _list(desk, values, session)


def bring_in(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Keep a conversation that was exported as JSON, and show it."""
    found = exports.from_json(wish.text)
    shelf = chat.shelf(desk, values, session)
    shelf.store.keep(found)
    yield from _opened(desk, values, session, shelf.read(found.id) or found, {})


def add_row(desk: Desk, values: Values, session: str, wish: Wish) -> Iterator[Updates]:
    """Make a conversation up to an answer a row to train on; only the owner's disk has a place for it."""
    here: Chat = values[desk.view.chat]
    turn_id, _, variant = wish.name.partition(" ")
    turn = here.tree.get(turn_id)
    if desk.shelves.lasting and turn and variant in turn.answers and turn.answers[variant].text:
        file = exports.add_row(desk.playground.settings.data, here, turn, variant)
        yield {desk.view.notice: f'<p class="verdict" role="status">{both("history.row_added", file=file)}</p>'}


def _file_name(title: str) -> str:
    kept = "".join(sign if sign.isalnum() else "-" for sign in title).strip("-")
    return re.sub("-+", "-", kept)[:60] or "chat"


def _whole(desk: Desk, values: Values, session: str) -> Chat:
    """Return the conversation in view with what other tabs have added to it."""
    here: Chat = values[desk.view.chat]
    try:
        kept = chat.shelf(desk, values, session).read(here.id) if here.id else None
    except MadangError:
        return here
    return here if kept is None or here.leaf not in kept.tree | {"": None} else kept.at(here.leaf)


HANDLERS: dict[str, Handler] = {
    "arrive": arrive,
    "open": open_chat,
    "new": begin_new,
    "search": search,
    **dict.fromkeys(("menu", "ask_rename", "ask_delete", "close"), show),
    "rename": rename,
    "delete": delete,
    **dict.fromkeys(("earlier", "later", "onward"), beside),
    "ask_otherwise": ask_otherwise,
    "ask_one": ask_one,
    "rewrite": rewrite,
    "go_on": go_on,
    **dict.fromkeys((f"export_{form}" for form in FORMATS), export),
    "import": bring_in,
    "add_row": add_row,
}
