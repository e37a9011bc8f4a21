"""Conversations in SQLite: nothing is lost, everything is found, two of them do not meet."""

import multiprocessing
import signal
import sqlite3
import threading
import unicodedata
from multiprocessing.synchronize import Event as Signal
from pathlib import Path

import pytest

from playground.conversations.store import Store
from playground.conversations.turns import Chat
from playground.errors import SetupError
from playground.events import Delta

from .told import finished, told


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "conversations.db"


@pytest.fixture
def store(file: Path) -> Store:
    return Store(file)


def kept(store: Store, *turns: tuple[str, str]) -> Chat:
    chat = told(*turns)
    store.keep(chat, chat.tree.values())
    return chat


def test_what_is_kept_is_read_again_by_another_program(store: Store, file: Path) -> None:
    chat = kept(store, ("하늘은 왜 파란가요?", "빛이 흩어져요. 🫠"), ("And <b>?", "Yes.\n\n```\ncode\n```"))
    assert Store(file).read(chat.id) == chat
    assert Store(file).read("of nobody") is None


def test_every_branch_is_kept_and_the_way_in_view(store: Store) -> None:
    chat = kept(store, ("one", "1"), ("two", "2"))
    first = chat.turns[0]
    other = chat.grown(first.again(question="another"))
    store.keep(other, [other.turns[-1]])
    found = store.read(chat.id)
    assert found == other
    assert [turn.question for turn in found.turns] == ["another"]
    assert len(found.tree) == 3


def test_two_tabs_in_one_conversation_take_nothing_from_each_other(store: Store, file: Path) -> None:
    base = kept(store, ("one", "1"))
    for tab, question in ((store, "mine"), (Store(file), "yours")):
        grown = base.ask(question, ["a"])
        tab.keep(grown, [grown.turns[-1]])
    found = store.read(base.id)
    assert found is not None
    assert [turn.question for turn in found.children(base.leaf)] == ["mine", "yours"]


def test_many_threads_and_programs_write_at_once(file: Path) -> None:
    stores = [Store(file) for _ in range(3)]
    chats = [told((f"question {number}", "x")) for number in range(24)]
    threads = [
        threading.Thread(target=stores[number % 3].keep, args=(chat, chat.tree.values()))
        for number, chat in enumerate(chats)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {head.id for head in Store(file).listed()} == {chat.id for chat in chats}


def test_the_one_last_used_comes_first(store: Store) -> None:
    old, new = kept(store, ("old", "1")), kept(store, ("new", "2"))
    assert [head.id for head in store.listed()] == [new.id, old.id]
    grown = old.ask("again", ["a"])
    store.keep(grown, [grown.turns[-1]])
    assert [head.title for head in store.listed()] == ["old", "new"]
    assert len(store.listed(most=1)) == 1


FOUND = [
    "하늘",
    "늘",
    "하",
    "밤하늘은",
    "파란 하늘",
    "c++",
    '"x"',
    "'y'",
    "3.5",
    "école",
    "🫠",
    "100%",
    "a_b",
    "[a]",
    "요",
    "blue it's",
]


@pytest.mark.parametrize("text", FOUND)
def test_parts_of_words_are_found_in_questions_and_answers(store: Store, text: str) -> None:
    chat = kept(store, ("밤하늘은 왜 파란가요? C++ \"x\" 'y' 3.5 ÉCOLE 🫠 100%", "하늘 It's Blue [a] a_b \x01"))
    kept(store, ("else", "nothing"))
    assert [head.id for head in store.search(text)] == [chat.id]
    assert [head.id for head in store.search(unicodedata.normalize("NFD", text.upper()))] == [chat.id]


@pytest.mark.parametrize("text", ["하늘이", "늘하", "파란하늘", "eulb", "%", "a?b", "\x01"])
def test_what_stands_nowhere_is_not_found(store: Store, text: str) -> None:
    kept(store, ("밤하늘은 파란 하늘", "Blue a_b ab bc"))
    assert store.search(text) == [] or not text.strip("\x01")


def test_pairs_that_stand_apart_make_no_word(store: Store) -> None:
    kept(store, ("abc bcd", "x"))
    assert store.search("abcd") == []


def test_an_answer_is_found_as_it_grows(store: Store) -> None:
    chat = kept(store, ("q", "x")).ask("two", ["a"])
    store.keep(chat, [chat.turns[-1]])
    for said in ("half an", " answer"):
        chat = chat.hear([Delta(variant="a", text=said)])
        store.update(chat.id, chat.turns[-1])
    assert store.search("half an answer")
    assert store.search("swer")
    assert not store.search("answered")


def test_rename_and_delete(store: Store, file: Path) -> None:
    chat, other = kept(store, ("one", "1")), kept(store, ("two", "2"))
    store.rename(chat.id, "  새\n이름 ")
    store.rename(chat.id, "  ")
    assert {head.title for head in store.listed()} == {"새 이름", "two"}
    assert [head.id for head in store.search("새 이")] == [chat.id]
    store.delete(chat.id)
    assert [head.id for head in store.listed()] == [other.id]
    assert store.search("이름") == []
    assert store.read(chat.id) is None
    store.update(chat.id, chat.turns[-1])  # an answer that still came
    with sqlite3.connect(file) as db:
        assert [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("turns", "words")] == [1, 2]


def test_a_tab_that_still_shows_a_deleted_one_brings_it_back_whole(store: Store) -> None:
    chat = kept(store, ("one", "1"), ("two", "2"))
    store.delete(chat.id)
    grown = chat.ask("three", ["a"])
    store.keep(grown, [grown.turns[-1]])
    assert store.read(chat.id) == grown


def _writes(file: Path, chat: Chat, ready: Signal) -> None:
    store = Store(file)
    store.keep(chat, chat.tree.values())
    turn = chat.turns[-1]
    for number in range(1_000_000):
        turn = turn.hear([Delta(variant="a", text=f"{number} ")])
        store.update(chat.id, turn)
        if number == 20:
            ready.set()


def test_a_program_that_is_killed_leaves_all_that_it_wrote(file: Path) -> None:
    chat = told(("one", "1")).ask("two", ["a"])
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=_writes, args=(file, chat, ready))
    writer.start()
    assert ready.wait(120)
    writer.kill()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    found = Store(file).read(chat.id)
    assert found is not None
    numbers = found.turns[-1].answers["a"].text.split()
    assert len(numbers) > 20
    assert numbers == [str(number) for number in range(len(numbers))]
    assert Store(file).search("19 20")


def test_a_file_that_is_none_or_newer_is_said(store: Store, file: Path, tmp_path: Path) -> None:
    kept(store, ("one", "1"))
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(SetupError, match="newer"):
        Store(file).listed()
    (tmp_path / "odd.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(SetupError, match=r"odd\.db"):
        Store(tmp_path / "odd.db").listed()
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(SetupError):
        Store(tmp_path / "taken" / "conversations.db").listed()


def test_a_row_that_cannot_be_read_costs_its_turn_alone(store: Store, file: Path) -> None:
    chat = kept(store, ("one", "1"), ("two", "2"))
    with sqlite3.connect(file) as db:
        db.execute("UPDATE turns SET body = '{' WHERE id = ?", (chat.turns[0].id,))
    found = store.read(chat.id)
    assert found is not None
    assert [turn.question for turn in found.turns] == ["two"]


def test_memory_is_bounded_and_holds_no_file() -> None:
    store = Store()

    def fill() -> None:
        for number in range(200):
            kept(store, (f"question {number}", "a long answer " * 20_000))

    with pytest.raises(SetupError, match="memory"):
        fill()
    assert store.listed()  # what was kept before stays


def test_only_the_last_turns_prompt_is_kept(store: Store) -> None:
    chat = told(("one", "1"), ("two", "2"))
    prompts = [turn.answers["a"].started.prompt for turn in chat.turns if turn.answers["a"].started]
    assert prompts == ["", "<|user|>"]


def test_ends_of_answers_are_told_apart(store: Store) -> None:
    chat = told(("one", "1")).hear([finished("b", "cut", "length")])
    store.keep(chat)
    found = store.read(chat.id)
    assert found is not None
    assert found.turns[-1].answers["b"].end == finished("b", "cut", "length")
