"""What Chat does: ask, wait, stop, retry, undo, clear, choose. Handlers over plain values: tests call them.

A handler gets the desk (playground, what runs, the components), the values of its inputs by component, and the
session's key; it gives updates by component.
"""

from collections.abc import Generator, Iterator, Sequence

import gradio as gr

from playground.catalogue.templates import can_think
from playground.catalogue.variants import Catalogue
from playground.compare import Playground, Question
from playground.conversations.hearing import Hearing
from playground.conversations.shelves import Shelf
from playground.conversations.turns import Asked, Chat, Turn
from playground.errors import MadangError
from playground.page.events import Updates, Values
from playground.page.words import both, card, examples, fault
from playground.ui import controls as sampler
from playground.ui import history_list, own, panes, picking
from playground.ui.desk import Desk, Slot, View
from playground.ui.running import Cancellable, Claim, Waiting

PANES = 4
FIRST_PANES = 3
"""As many as there are built-in variants: base, adapter and GGUF."""
FRAME_S = 0.1
"""Seconds between two updates of the browser: the models need the cores more than it needs frames."""
MOST_WAITING = 5


def send(desk: Desk, values: Values, session: str) -> Iterator[Updates]:
    """Ask what stands in the text box; while answers are under way it waits its turn."""
    return _put(desk, values, session, values[desk.view.text] or "", {desk.view.text: ""})


def example(desk: Desk, values: Values, session: str, number: int) -> Iterator[Updates]:
    """Ask one of the examples."""
    return _put(desk, values, session, examples()[number], {})


def _put(desk: Desk, values: Values, session: str, question: str, taken: Updates) -> Iterator[Updates]:
    """Ask, or let the question wait behind those under way. `taken`: what else changes once it is."""
    asked = Waiting(question.strip(), values)
    refusal = _refusal(desk, values, values[desk.view.picker] or [], asked.question)
    if len(desk.running.waiting(session)) >= MOST_WAITING:
        refusal = refusal or _say("many_wait", count=MOST_WAITING)
    if refusal:
        yield {desk.view.notice: refusal}
    elif claim := desk.running.claim(session, asked):
        begun = values[desk.view.chat].ask(asked.question, in_panes(desk, values))
        yield from ask(desk, session, claim, asked, begun, taken)
    else:
        yield {desk.view.notice: ""} | _line(desk, session) | taken


def retry(desk: Desk, values: Values, session: str) -> Iterator[Updates]:
    """Ask the last question again, in every pane that is open now."""
    chat, question = values[desk.view.chat].undo()
    if question:
        yield from anew(desk, values, session, chat.ask(question, in_panes(desk, values)))


def anew(desk: Desk, values: Values, session: str, begun: Chat) -> Iterator[Updates]:
    """Ask what is last in a conversation, in the place of whatever is under way."""
    claim = Claim()
    desk.running.begin(session, claim, desk.visitor)
    yield from ask(desk, session, claim, Waiting(begun.tree[begun.leaf].question, values), begun, {})


def stop(desk: Desk, values: Values, session: str) -> Updates:
    """End the answers under way; what was said stays, and questions that waited come back into the text box."""
    return back(desk, values, session, desk.running.stop(session))


def take_back(desk: Desk, values: Values, session: str, key: str) -> Updates:
    """Take a question that waits back into the text box."""
    found = desk.running.take_back(session, key)
    return back(desk, values, session, [found] if found else [])


def back(desk: Desk, values: Values, session: str, waited: Sequence[Waiting], question: str = "") -> Updates:
    """Return a question and those that waited to the text box, above what is typed there."""
    texts = [question, *(one.question for one in waited)]
    typed = values[desk.view.text] or ""
    box = {desk.view.text: "\n".join(filter(None, [*texts, typed]))} if any(texts) else {}
    return _line(desk, session) | box


def _line(desk: Desk, session: str) -> Updates:
    return {desk.view.waiting: panes.waiting(desk.running.waiting(session))}


def shelf(desk: Desk, values: Values, session: str) -> Shelf:
    """Return where this session's conversations are: the owner's, or by the key that a visitor's browser brought."""
    return desk.shelves.of(values[desk.view.history.key] or f"session {session}")


def let_go(desk: Desk, session: str, left: Chat | None = None) -> list[Waiting]:
    """Look away from what is under way: the owner's answers go on, a visitor's end. Return what waited behind them."""
    waited = desk.running.drop(session, left, cancel=not desk.shelves.lasting)
    if left is None:  # the browser has gone, and may be back in a moment
        desk.running.park(waited)
    return waited


def keep(desk: Desk, values: Values, session: str, chat: Chat, turns: Sequence[Turn] = ()) -> Updates:
    """Write down what is in view, and these turns; return what hinders it as a notice."""
    try:
        if chat.id:
            shelf(desk, values, session).store.keep(chat, turns)
    except MadangError as error:
        return {desk.view.notice: fault("problem.unkept", error)}
    return {}


def listed(desk: Desk, values: Values, session: str, chat: Chat) -> Updates:
    """Return the list of conversations as it is now."""
    view, wanted = desk.view.history, values[desk.view.history.wanted] or ""
    try:
        found = shelf(desk, values, session).store.search(wanted, history_list.MOST_SHOWN)
    except MadangError as error:
        return {view.listing: fault("problem.kept", error)}
    return {view.listing: history_list.listing(found, chat.id, is_found=bool(wanted))}


def undo(desk: Desk, values: Values, session: str) -> Updates:
    """Take the last turn, and what waits behind it, back into the text box."""
    chat, question = values[desk.view.chat].undo()
    waited = desk.running.drop(session, left=chat)
    text = back(desk, values, session, waited, question)
    keep(desk, values, session, chat)
    return drawn(desk, values, chat, values[desk.view.picker]) | buttons(desk.view, under_way=False) | text


def clear(desk: Desk, values: Values, session: str) -> Updates:
    """Begin a new conversation; the one before stays in the list."""
    let_go(desk, session, left=Chat())
    shown = drawn(desk, values, Chat(), values[desk.view.picker]) | listed(desk, values, session, Chat())
    return shown | buttons(desk.view, under_way=False) | _line(desk, session)


def choose(desk: Desk, values: Values) -> Updates:
    """Show a pane for each chosen variant, four at most."""
    picked = list(values[desk.view.picker] or [])
    updates = drawn(desk, values, values[desk.view.chat], picked[:PANES])
    if len(picked) > PANES:
        updates[desk.view.picker] = picked[:PANES]
        updates[desk.view.notice] = _say("too_many")
    return updates


def changed(desk: Desk, values: Values, session: str) -> Updates:
    """Show a pane for each chosen variant after a change that is no input to Gradio: all cleared, or one by a key.

    What `choose` has said of more than four stays said.
    """
    if desk.running.busy(session):  # the panes are being written to
        return {desk.view.notice: gr.skip()}
    updates = choose(desk, values)
    return updates if not values[desk.view.picker] else updates | {desk.view.notice: gr.skip()}


def refresh(desk: Desk, values: Values, session: str) -> Updates:
    """Read the catalogue again: offer what can be chosen, and keep the chosen ones that are still there."""
    view = desk.view
    try:
        names = desk.playground.catalogue.names
        offered = {view.facts: picking.facts(desk.playground)}
        choices = picking.ordered(desk.playground.catalogue)
    except MadangError as error:
        return {view.notice: fault("problem.page", error)}
    if desk.running.busy(session):  # the panes are being written to
        return offered | {view.picker: gr.update(choices=choices)}
    picked = [name for name in values[view.picker] or [] if name in names] or names[:FIRST_PANES]
    return (
        drawn(desk, values, values[view.chat], picked)
        | offered
        | {view.picker: gr.update(choices=choices, value=picked)}
    )


def offered(desk: Desk, values: Values, session: str) -> Updates:
    """Say of each variant how it stands now, where the list of them is opened."""
    return {desk.view.facts: picking.facts(desk.playground)}


def pick(desk: Desk, values: Values, session: str, name: str) -> Updates:
    """Choose one more variant, which another tab has just made; of four the last makes room."""
    view, begun = desk.view, refresh(desk, values, session)
    update = begun.get(view.picker, {})
    if "value" not in update or name not in desk.playground.catalogue.names:
        return begun  # answers are under way, the catalogue is broken, or the variant has gone
    picked = [*[other for other in update["value"] if other != name][: PANES - 1], name]
    return begun | drawn(desk, values, values[view.chat], picked) | {view.picker: update | {"value": picked}}


def seed_again(desk: Desk, values: Values) -> Updates:
    """Return the seed of the last answers, to get them once more."""
    seeds = [a.started.seed for turn in values[desk.view.chat].turns for a in turn.answers.values() if a.started]
    return {desk.view.controls.seed: seeds[-1] if seeds else gr.skip()}


def ask(desk: Desk, session: str, held: Cancellable, asked: Waiting, begun: Chat, taken: Updates) -> Iterator[Updates]:
    """Put the last question of a conversation, and show the answers as they come; then those that waited, in turn.

    `held` has the session's place until the first answers take it over.
    """
    view = desk.view
    following: Waiting | None = asked
    try:
        while following:
            picked = in_panes(desk, following.values)
            hearing = _begun(desk, following.values, session, begun)
            if isinstance(hearing, str):
                chat = begun.unasked()
                yield {view.notice: hearing, view.chat: chat} | _line(desk, session)
            else:
                held = hearing
                shown = (
                    drawn(desk, following.values, begun, picked)
                    | buttons(view, under_way=True)
                    | _line(desk, session)
                    | taken
                )
                yield shown | listed(desk, following.values, session, begun)
                chat = yield from heard(desk, session, hearing, begun, picked)
            if not desk.running.is_current(session, held):
                return  # taken back, cleared or asked anew
            following, taken = desk.running.following(session, held), {}
            if following:
                begun = chat.ask(following.question, in_panes(desk, following.values))
        yield buttons(view, under_way=desk.running.busy(session))
    finally:
        if desk.running.is_current(session, held):  # the browser went away, or a bug: nobody looks now
            let_go(desk, session)


def in_panes(desk: Desk, values: Values) -> list[str]:
    """Return the variants that are asked: as many of the chosen ones as there are panes."""
    return list(values[desk.view.picker] or [])[:PANES]


def _begun(desk: Desk, values: Values, session: str, begun: Chat) -> Hearing | str:
    """Return the answers that are coming to the last question, which is written down; as HTML, why none do."""
    turn = begun.tree[begun.leaf]
    names = [name for name, answer in turn.answers.items() if not answer.settled]
    if refusal := _refusal(desk, values, names, turn.question):
        return refusal
    try:
        turn = turn.model_copy(update=_asked(desk.view, values, turn, names))
        questions = _questions(begun, turn, names, desk.visitor)
        with desk.running.admitting:
            if refused := desk.visitors.refused(desk.visitor, desk.running.held(but=session)):
                limit, count = refused
                return _say(limit, count=count)
            comparison = desk.playground.ask(questions)
            hearing = shelf(desk, values, session).begin(begun, turn, comparison)
            desk.running.begin(session, hearing, desk.visitor)
    except MadangError as error:
        return fault("problem.page", error)
    return hearing


def heard(
    desk: Desk, session: str, hearing: Hearing, chat: Chat, picked: Sequence[str]
) -> Generator[Updates, None, Chat]:
    """Yield the panes that changed, frame by frame; silent once the session waits for something else.

    Returns the conversation with the answers.
    """
    catalogue, started = desk.playground.catalogue, set[str]()
    lives: Updates = {}  # all of them each time: Gradio sends what differs from the time before
    for turn, changed in hearing.looks(FRAME_S):
        if not desk.running.is_current(session, hearing):
            return chat
        chat = chat.with_turn(turn)
        updates: Updates = {}
        for name in changed.intersection(picked):
            slot = desk.view.slots[picked.index(name)]
            updates[slot.live] = lives[slot.live] = panes.live(chat, catalogue.get(name))
            if turn.answers[name].started and name not in started:
                started.add(name)
                updates[slot.head] = panes.head(catalogue.get(name), _dtype(desk.playground, chat, catalogue, name))
                updates[slot.prompt] = panes.prompt(chat, name)
                if _thinks(chat, catalogue, name):
                    updates[desk.view.controls.thinking.row] = gr.update(visible=True)
        if hearing.over:
            updates[desk.view.chat] = chat
            if hearing.fault:
                updates[desk.view.notice] = fault("problem.unkept", hearing.fault)
        if updates:
            yield lives | updates
    return chat


def _asked(view: View, values: Values, turn: Turn, names: Sequence[str]) -> dict[str, object]:
    """Return what answers come from beside the conversation: of all, and of those variants that have their own."""
    knobs = view.controls
    sampling, thinking = sampler.chosen(knobs, values), sampler.thought(knobs, values)
    shared = Asked(system=values[knobs.system] or "", sampling=sampling, thinking=thinking)
    own_of = {} if values[view.lock] else dict(zip(values[view.picker] or [], view.slots, strict=False))
    apart = {name: own.asked(own_of[name].own, values, shared) for name in names if name in own_of}
    stays = {name: turn.asked_of(name) for name in turn.answers if name not in names}  # answers that were there already
    return {"asked": shared, "own": {name: one for name, one in (stays | apart).items() if one != shared}}


def _questions(chat: Chat, turn: Turn, names: Sequence[str], visitor: str) -> list[Question]:
    return [
        Question(
            variant=name,
            messages=chat.messages(name, turn.asked_of(name).system),
            sampling=turn.asked_of(name).sampling,
            thinking=turn.asked_of(name).thinking,
            continues=bool(turn.answers[name].before),
            group=visitor,
        )
        for name in names
    ]


def _refusal(desk: Desk, values: Values, picked: Sequence[str], question: str) -> str:
    """Return why this cannot be asked, as HTML; empty where it can."""
    if not picked:
        return _say("no_variant")
    if not question:
        return _say("no_text")
    controls = desk.view.controls
    owns = [] if values[desk.view.lock] else [values[slot.own.system] or "" for slot in desk.view.slots]
    around = [values[controls.system] or "", *owns, *(values[controls.stop] or [])]
    limit = desk.visitors.letters
    for problem, count in {"too_long": len(question), "too_long_around": sum(map(len, around))}.items():
        if count > limit:
            return _say(problem, count=f"{count:,}", limit=f"{limit:,}")
    return ""


def _say(problem: str, **values: object) -> str:
    return card("problem.page", both(f"problem.{problem}", **values), both(f"problem.{problem}_hint"))


def drawn(desk: Desk, values: Values, chat: Chat, picked: Sequence[str] | None) -> Updates:
    """Return everything that a conversation and a choice of variants look like."""
    view = desk.view
    try:
        catalogue = desk.playground.catalogue
    except MadangError as error:
        return {view.chat: chat, view.notice: fault("problem.page", error)}
    present = [name for name in picked or [] if name in catalogue.names]
    updates: Updates = {view.chat: chat, view.notice: "" if present else _say("no_variant")}
    updates |= own.moved([slot.own for slot in view.slots], values, values[view.shown], present)
    updates[view.shown] = present
    for number, slot in enumerate(view.slots):
        updates |= _pane(desk, slot, chat, catalogue, present[number] if number < len(present) else None)
    can_think = any(_thinks(chat, catalogue, name) for name in present)
    updates[view.controls.thinking.row] = gr.update(visible=can_think)
    updates[view.examples] = gr.update(visible=not chat.turns)
    updates[view.actions] = gr.update(visible=bool(chat.turns))
    return updates


def _pane(desk: Desk, slot: Slot, chat: Chat, catalogue: Catalogue, name: str | None) -> Updates:
    if name is None:
        return {slot.column: gr.update(visible=False)}
    variant = catalogue.get(name)
    return {
        slot.column: gr.update(visible=True),
        slot.head: panes.head(variant, _dtype(desk.playground, chat, catalogue, name)),
        slot.log: panes.log(chat, name),
        slot.live: panes.live(chat, variant),
        slot.prompt: panes.prompt(chat, name),
    }


def _dtype(playground: Playground, chat: Chat, catalogue: Catalogue, name: str) -> str:
    """Return the number format that the variant answered in; before that, the one it is loaded or listed with."""
    started = [turn.answers[name].started for turn in chat.heard_by(name)]
    if started and started[-1]:
        return started[-1].dtype
    return picking.dtype(catalogue.get(name), catalogue, playground.pool.loaded())


def _thinks(chat: Chat, catalogue: Catalogue, name: str) -> bool:
    """Return whether a variant's thinking can be switched: it has said so, or its files do."""
    started = [turn.answers[name].started for turn in chat.heard_by(name)]
    return any(one.thinks for one in started if one) or can_think(catalogue.get(name), catalogue)


def buttons(view: View, under_way: bool) -> Updates:
    """Send or stop, and a choice of variants that is locked while answers are under way."""
    return {
        view.send: gr.update(visible=not under_way),
        view.stop: gr.update(visible=under_way),
        view.picker: gr.update(interactive=not under_way),
    }


def settled(desk: Desk, values: Values, session: str) -> Updates:
    """Set the buttons as they must be after an event of any outcome, even one that broke.

    What was dropped in mid-answer is drawn once more: its last words may have come after the picture without them.
    """
    left = desk.running.left(session)
    shown = {} if left is None else drawn(desk, values, left, values[desk.view.picker])
    return shown | buttons(desk.view, under_way=desk.running.busy(session)) | _line(desk, session)
