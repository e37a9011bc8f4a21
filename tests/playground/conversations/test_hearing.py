"""Answers while they come: whoever looks sees them, and nobody's leaving ends them."""

import queue
from collections.abc import Iterator
from pathlib import Path

from playground.conversations import hearing
from playground.conversations.hearing import Hearing
from playground.conversations.shelves import Shelf, Shelves, good_key
from playground.conversations.store import Store
from playground.conversations.turns import Chat, Turn
from playground.errors import SetupError
from playground.events import Delta, Event
from playground.settings import Settings

from .told import finished, told


class Said:
    """A comparison that says what it is told to; its end comes with the last answer, or a cancel."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.cancelled = 0

    def __iter__(self) -> Iterator[Event]:
        while True:
            event = self.events.get(timeout=60)
            yield event
            if not isinstance(event, Delta):
                return

    def cancel(self) -> None:
        self.cancelled += 1
        self.events.put(finished("a", "", "cancelled"))

    def say(self, text: str) -> None:
        self.events.put(Delta(variant="a", text=text))


def asked(store: Store) -> Chat:
    chat = Chat().ask("q", ["a", "b"])
    store.keep(chat, chat.turns)
    return chat


def begun(shelf: Shelf, chat: Chat, said: Said) -> Hearing:
    return shelf.begin(chat, chat.turns[-1], said)


def text(turn: Turn) -> str:
    return turn.answers["a"].text


def look_until(heard: Hearing, wanted: str) -> None:
    for turn, _ in heard.looks(0):
        if wanted in text(turn):
            return
    raise AssertionError(wanted)


def test_each_look_names_who_changed() -> None:
    shelf, said = Shelf(Store()), Said()
    heard = begun(shelf, asked(shelf.store), said)
    looks = heard.looks(0)
    assert next(looks)[1] == {"a", "b"}
    said.say("more")
    assert {"a"} in (next(looks)[1], next(looks)[1])
    said.events.put(finished("a", "more"))
    assert [text(turn) for turn, _ in looks][-1] == "more"


def test_two_who_look_see_the_same_and_one_who_leaves_ends_nothing() -> None:
    shelf, said = Shelf(Store()), Said()
    chat = asked(shelf.store)
    heard = begun(shelf, chat, said)
    mine, yours = heard.looks(0), heard.looks(0)
    next(mine)
    mine.close()  # type: ignore[attr-defined]
    said.say("still here")
    said.events.put(finished("a", "still here"))
    assert [text(turn) for turn, _ in yours][-1] == "still here"
    assert said.cancelled == 0
    found = shelf.read(chat.id)
    assert found is not None
    assert found.turns[-1].answers["a"].text == "still here"


def test_a_reload_in_mid_answer_shows_what_is_not_written_yet() -> None:
    shelf, said = Shelf(Store()), Said()
    chat = asked(shelf.store)
    heard = begun(shelf, chat, said)
    said.say("so far")
    look_until(heard, "so far")
    found = shelf.read(chat.id)
    assert found is not None
    assert text(found.turns[-1]) == "so far"
    assert shelf.under_way(chat.leaf) is heard
    heard.cancel()
    assert [text(turn) for turn, _ in heard.looks(0)][-1] == "so far"
    assert shelf.under_way(chat.leaf) is None


def test_it_is_written_down_while_it_comes() -> None:
    written: queue.SimpleQueue[Turn] = queue.SimpleQueue()
    said = Said()
    heard = Hearing(Chat().ask("q", ["a"]).turns[-1], said, written.put)
    keep_s, hearing.KEEP_S = hearing.KEEP_S, 0.0
    try:
        heard.start()
        said.say("one")
        assert text(written.get(timeout=60)) == "one"
        said.say("two")
        assert text(written.get(timeout=60)) == "onetwo"
        heard.cancel()
        assert list(heard.looks(0))
    finally:
        hearing.KEEP_S = keep_s


def test_what_cannot_be_written_costs_no_answer() -> None:
    def full(_: Turn) -> None:
        raise SetupError("The disk is full.")

    said = Said()
    heard = Hearing(Chat().ask("q", ["a"]).turns[-1], said, full).start()
    said.say("all of it")
    said.events.put(finished("a", "all of it"))
    assert [text(turn) for turn, _ in heard.looks(0)][-1] == "all of it"
    assert heard.fault is not None


def test_what_broke_off_with_its_program_is_marked(tmp_path: Path) -> None:
    store = Store(tmp_path / "c.db")
    chat = asked(store).hear([Delta(variant="a", text="half"), finished("b", "whole")])
    store.update(chat.id, chat.turns[-1])
    found = Shelf(Store(tmp_path / "c.db")).read(chat.id)
    assert found is not None
    last = found.turns[-1].answers
    assert (last["a"].lost, last["a"].text, last["b"].lost) == (True, "half", False)


def test_visitors_of_a_space_have_a_shelf_each_and_nothing_on_the_disk(tmp_path: Path) -> None:
    shelves = Shelves(Settings(data=tmp_path / "none", mode="space"))
    mine, yours = good_key(None), good_key("guessed")
    assert mine != yours
    chat = told(("secret", "x"))
    shelves.of(mine).store.keep(chat, chat.turns)
    assert shelves.of(mine).read(chat.id) == chat
    assert shelves.of(yours).read(chat.id) is None
    assert shelves.of(yours).store.listed() == shelves.of(yours).store.search("secret") == []
    assert not (tmp_path / "none").exists()
    for number in range(300):
        shelves.of(good_key(f"{number:040}"))
    assert shelves.of(mine).read(chat.id) is None  # the longest away makes room


def test_the_owner_has_one_shelf_whatever_the_key(tmp_path: Path) -> None:
    shelves = Shelves(Settings(data=tmp_path))
    assert shelves.of("a") is shelves.of("")
    assert shelves.lasting


def test_who_looks_in_a_silence_is_asked_now_and_then() -> None:
    said = Said()
    heard = Hearing(Chat().ask("q", ["a"]).turns[-1], said, lambda _: None).start()
    looks = heard.looks(0)
    assert next(looks)[1] == {"a"}
    assert next(looks)[1] == set()  # nobody speaks, and the one who looks may leave
    heard.cancel()
    assert [changed for _, changed in looks][-1] == {"a"}


def test_a_flood_becomes_few_looks_and_nothing_is_missed() -> None:
    said = Said()
    heard = Hearing(Chat().ask("q", ["a"]).turns[-1], said, lambda _: None)
    for number in range(500):
        said.say(f"{number} ")
    said.events.put(finished("a", ""))
    heard.start()
    looks = [text(turn) for turn, _ in heard.looks(0.5)]
    assert len(looks) < 100
    assert looks[-1].split() == [str(number) for number in range(500)]
