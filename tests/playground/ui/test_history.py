"""The list of conversations and the ways through one: handlers over real workers with the fake backend."""

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from playground.compare import Playground
from playground.conversations.shelves import FILE
from playground.conversations.turns import Chat
from playground.page.components import Components
from playground.page.words import words
from playground.settings import Settings
from playground.ui import chat, chat_tab, history
from playground.ui.desk import Desk
from playground.ui.history import Wish
from playground.ui.running import Running

from .test_chat import NAMES, answers, run, values

KEY = "k" * 40


def pressed(action: str, name: str = "", text: str = "", key: str = "") -> Wish:
    return Wish.of(gr.EventData(None, {"action": action, "name": name, "text": text, "key": key}))


def wish(
    desk: Desk, action: str, name: str = "", text: str = "", talk: Chat | None = None, **more: Any
) -> dict[Any, Any]:
    """The page after a press, and all that came of it."""
    session, key = more.get("session", "me"), more.get("key", "")
    given = values(desk, talk=talk, picked=more.get("picked")) | {desk.view.history.key: more.get("own", "")}
    page, _ = run(history.act(desk, given, session, pressed(action, name, text, key)))
    return page


def asked(desk: Desk, text: str, talk: Chat | None = None, session: str = "me", own: str = "") -> Chat:
    given = values(desk, text, talk) | {desk.view.history.key: own}
    page, _ = run(chat.send(desk, given, session))
    made: Chat = page[desk.view.chat]
    return made


def listing(page: dict[Any, Any], desk: Desk) -> str:
    return str(page[desk.view.history.listing])


@pytest.fixture
def reopened(playground: Playground, desk: Desk) -> Desk:
    """The desk of the same program after a restart."""
    with gr.Blocks(analytics_enabled=False):
        return chat_tab.render(Components(), playground, Running())


@pytest.fixture
def space(settings: Settings) -> Iterator[Desk]:
    """The desk of a Space."""
    playground = Playground(settings.model_copy(update={"mode": "space"}))
    with gr.Blocks(analytics_enabled=False):
        yield chat_tab.render(Components(), playground, Running())
    playground.close()


def test_a_reload_and_a_restart_show_the_same_conversation(desk: Desk, reopened: Desk) -> None:
    talk = asked(desk, "하늘은 왜 파란가요?")
    for one in (desk, reopened):
        page = wish(one, "arrive", talk.id, session="again")
        assert answers(page[one.view.chat]) == answers(talk)
        assert page[one.view.picker]["value"] == NAMES
        assert "하늘은 왜" in listing(page, one)
        assert "heard: 하늘은" in page[one.view.slots[0].live]


def test_a_new_visit_begins_anew_and_lists_what_was(desk: Desk) -> None:
    asked(desk, "one")
    page = wish(desk, "arrive", session="new")
    assert desk.view.chat not in page
    assert "one" in listing(page, desk)


def test_a_reload_in_mid_answer_goes_on_and_both_tabs_see_the_end(desk: Desk) -> None:
    first = chat.send(desk, values(desk, "!slow a question that takes its time"), "me")
    begun = next(first)[desk.view.chat]
    other = history.act(desk, values(desk), "other", Wish("arrive", begun.id))
    shown = next(other)
    assert shown[desk.view.stop]["visible"]
    assert shown[desk.view.chat].id == begun.id
    first.close()  # type: ignore[attr-defined]
    assert desk.running.busy("other")
    page, _ = run(other)
    assert answers(page[desk.view.chat])[NAMES[0]].startswith("smollm2 heard: !slow a question that takes its time")
    assert not page[desk.view.stop]["visible"]
    assert answers(wish(desk, "open", begun.id, session="third")[desk.view.chat]) == answers(page[desk.view.chat])


def test_an_answer_goes_on_while_another_conversation_is_in_view(desk: Desk) -> None:
    before = asked(desk, "before")
    going = chat.send(desk, values(desk, "!slow in the background"), "me")
    begun = next(going)[desk.view.chat]
    page = wish(desk, "open", before.id, talk=begun)
    assert page[desk.view.chat] == before
    assert list(going) == []
    hearing = desk.shelves.of("").under_way(begun.leaf)
    assert hearing is None or list(hearing.looks(0))
    page = wish(desk, "open", begun.id, talk=before)
    assert all("in the background" in text for text in answers(page[desk.view.chat]).values())


def test_search_rename_and_delete(desk: Desk) -> None:
    sky, egg = asked(desk, "밤하늘은 왜 파란가요?"), asked(desk, "How to boil an egg?")
    found = listing(wish(desk, "search", text="하늘"), desk)
    assert sky.id in found
    assert egg.id not in found
    assert words("ko")["history.none_found"] in listing(wish(desk, "search", text="없는 말"), desk)
    assert 'value="How to boil an egg?"' in listing(wish(desk, "ask_rename", egg.id), desk)
    assert "Eggs &lt;b&gt;" in listing(wish(desk, "rename", egg.id, "Eggs <b>"), desk)
    assert 'data-action="delete"' in listing(wish(desk, "ask_delete", egg.id), desk)
    assert egg.id in listing(wish(desk, "close"), desk)
    assert egg.id not in listing(wish(desk, "delete", egg.id, talk=sky), desk)
    page = wish(desk, "delete", sky.id, talk=sky)
    assert page[desk.view.chat] == Chat()
    assert words("ko")["history.none"] in listing(page, desk)


def test_new_keeps_the_one_before(desk: Desk) -> None:
    talk = asked(desk, "one")
    page = wish(desk, "new", talk=talk)
    assert page[desk.view.chat] == Chat()
    assert talk.id in listing(page, desk)


def test_an_edited_question_stands_beside_the_first(desk: Desk) -> None:
    talk = asked(desk, "two", asked(desk, "one"))
    page = wish(desk, "ask_otherwise", talk.turns[0].id, "uno", talk)
    other = page[desk.view.chat]
    assert [turn.question for turn in other.turns] == ["uno"]
    assert "2/2" in page[desk.view.slots[0].live]
    back = wish(desk, "earlier", other.leaf, talk=other)[desk.view.chat]
    assert [turn.question for turn in back.turns] == ["one", "two"]
    kept = wish(desk, "arrive", talk.id, session="again")[desk.view.chat]
    assert [turn.question for turn in kept.turns] == ["one", "two"]
    assert len(kept.tree) == 3


def test_retry_keeps_the_answers_before(desk: Desk) -> None:
    talk = asked(desk, "one")
    page, _ = run(chat.retry(desk, values(desk, talk=talk), "me"))
    again = page[desk.view.chat]
    assert len(again.tree) == 2
    assert answers(again.at(talk.leaf)) == answers(talk)


def test_one_variant_alone_is_asked_again(desk: Desk) -> None:
    talk = asked(desk, "one")
    turn = talk.turns[0]
    given = values(desk, talk=talk) | {desk.view.controls.seed: 8}
    page, _ = run(history.act(desk, given, "me", Wish("ask_one", f"{turn.id} {NAMES[1]}")))
    again = page[desk.view.chat].turns[0].answers
    assert again[NAMES[1]].started.seed == 8
    assert all(again[name] == turn.answers[name] for name in (NAMES[0], NAMES[2]))


def test_an_edited_answer_is_what_the_next_question_follows(desk: Desk) -> None:
    talk = asked(desk, "one")
    page = wish(desk, "rewrite", f"{talk.leaf} {NAMES[0]}", "My own words.", talk)
    other = page[desk.view.chat]
    assert answers(other)[NAMES[0]] == "My own words."
    assert answers(other)[NAMES[1]] == answers(talk)[NAMES[1]]
    assert words("en")["answer.edited"] in page[desk.view.slots[0].live]
    page, _ = run(chat.send(desk, values(desk, "two", other), "me"))
    assert "assistant: My own words." in page[desk.view.slots[0].prompt]
    assert "My own words." not in page[desk.view.slots[1].prompt]


def test_what_was_taken_back_can_be_shown_again(desk: Desk) -> None:
    talk = asked(desk, "two", asked(desk, "one"))
    undone = chat.undo(desk, values(desk, talk=talk), "me")
    assert 'data-action="onward"' in undone[desk.view.slots[0].live]
    page = wish(desk, "onward", talk=undone[desk.view.chat])
    assert [turn.question for turn in page[desk.view.chat].turns] == ["one", "two"]


@pytest.mark.parametrize("action", sorted(history.HANDLERS))
def test_wishes_for_what_is_not_there_do_no_harm(desk: Desk, action: str) -> None:
    talk = asked(desk, "one")
    for name in ("", "gone", "../x", f"{talk.leaf} gone", "\ud800"):
        wish(desk, action, name, "text", talk)
    kept = desk.shelves.of("").read(talk.id)
    assert kept is not None
    assert answers(kept) == answers(talk)


def test_what_is_no_wish_does_nothing(desk: Desk) -> None:
    assert Wish.of(gr.EventData(None, {"action": 3, "name": None, "more": "x"})) == Wish("")
    assert wish(desk, "drop tables") == {}


def test_visitors_of_a_space_never_see_each_others(space: Desk, settings: Settings) -> None:
    key, own = KEY, space.view.history.key
    arrived = wish(space, "arrive", key=key, session="me")
    talk = asked(space, "my secret", session="me", own=arrived[own])
    for stranger in ("", "guess", "j" * 40):
        page = wish(space, "arrive", talk.id, key=stranger, session="you")
        assert "secret" not in str(page)
        for action in history.HANDLERS:
            page = wish(space, action, talk.id, session="you", own=page.get(own, ""))
            assert "secret" not in str(page), action
    again = wish(space, "arrive", talk.id, key=key, session="back")
    assert answers(again[space.view.chat]) == answers(talk)
    assert not (settings.data / FILE).exists()


def test_a_visitor_who_leaves_ends_what_runs_and_the_owner_does_not(desk: Desk, space: Desk) -> None:
    for one, goes_on in ((desk, True), (space, False)):
        going = chat.send(one, values(one, "!slow some words that take a while"), "me")
        begun = next(going)[one.view.chat]
        hearing = one.shelves.of("" if goes_on else "session me").under_way(begun.leaf)
        assert hearing is not None
        going.close()  # type: ignore[attr-defined]
        assert not one.running.busy("me")
        *_, (turn, _) = hearing.looks(0)
        ends = [answer.end.reason for answer in turn.answers.values() if answer.end and answer.end.variant]  # type: ignore[union-attr]
        assert ends == ["stop" if goes_on else "cancelled"] * 3


def test_what_cannot_be_kept_is_said_and_still_answered(desk: Desk, settings: Settings, tmp_path: Path) -> None:
    (settings.data / FILE).write_bytes(b"no database" * 1000)
    page, _ = run(chat.send(desk, values(desk, "Hello"), "me"))
    assert all("heard: Hello" in text for text in answers(page[desk.view.chat]).values())
    assert FILE in page[desk.view.notice]
    assert words("ko")["problem.unkept"] in page[desk.view.notice]


def test_a_variant_goes_on_from_an_edited_answer_and_the_one_before_stays(desk: Desk) -> None:
    talk = asked(desk, "Hello")
    turn = talk.turns[-1]
    page = wish(desk, "go_on", f"{turn.id} {NAMES[1]}", "Well, ", talk)
    grown = page[desk.view.chat]
    answer = grown.turns[-1].answers[NAMES[1]]
    assert answer.text.startswith(f"Well, {NAMES[1]} heard: Well, ")
    assert (answer.before, answer.edited) == ("Well, ", False)
    assert grown.turns[-1].answers[NAMES[0]] == turn.answers[NAMES[0]].without_prompt() or answers(grown)[NAMES[0]]
    assert len(grown.children("")) == 2
    assert "assistant: Well, " in page[desk.view.slots[1].prompt]
    assert words("en")["answer.went_on"] in page[desk.view.slots[1].live]
    assert words("en")["answer.went_on"] not in page[desk.view.slots[0].live]
    again = asked(desk, "and?", grown)
    assert again.messages(NAMES[1], "")[1].content == answer.text
    assert desk.view.chat not in wish(desk, "go_on", f"{turn.id} {NAMES[1]}", "  ", talk)


def test_a_reload_asks_the_questions_that_waited_in_their_turn(desk: Desk) -> None:
    coming = chat.send(desk, values(desk, "!slow one"), "before")
    first = next(coming)
    run(chat.send(desk, values(desk, "two"), "before"))
    left = json.dumps({"waits": [one.key for one in desk.running.waiting("before")], "typed": "half"})
    assert isinstance(coming, Generator)
    coming.close()
    page = wish(desk, "arrive", first[desk.view.chat].id, left, session="after")
    assert page[desk.view.text] == "half"
    assert [turn.question for turn in page[desk.view.chat].turns] == ["!slow one", "two"]
    assert all(answer.end for turn in page[desk.view.chat].turns for answer in turn.answers.values())
    assert not desk.running.busy("after")
    for strange in ("[not json", "[3]", '{"waits": 3, "typed": {}}'):
        page = wish(desk, "arrive", page[desk.view.chat].id, strange, session="later")
        assert len(page[desk.view.chat].turns) == 2
