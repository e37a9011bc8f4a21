"""Conversations in SQLite: one file of the owner, or memory alone for a visitor of a Space. Values in, values out.

Every write is a short transaction in WAL mode: several tabs and programs may use one file. A turn is a row that is
written again while its answers come; nothing but `delete` ever removes one.
"""

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from playground.conversations import words
from playground.conversations.turns import Chat, Turn, title_of
from playground.errors import SetupError
from playground.escape import HALVES
from playground.wording import worded

VERSION = 1
WAIT_S = 10.0
"""How long a write waits for that of another program."""
MOST_FOUND = 200
MEMORY = 8 << 20
SCHEMA = f"""
CREATE TABLE chats (id TEXT PRIMARY KEY, title TEXT NOT NULL, leaf TEXT NOT NULL, used REAL NOT NULL);
CREATE INDEX newest ON chats (used DESC, id);
CREATE TABLE turns (id TEXT PRIMARY KEY, chat TEXT NOT NULL REFERENCES chats ON DELETE CASCADE, body TEXT NOT NULL);
CREATE INDEX turns_of ON turns (chat);
CREATE TABLE words (number INTEGER PRIMARY KEY, of TEXT NOT NULL UNIQUE, chat TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX words_of ON words (chat);
{words.INDEX};
PRAGMA user_version = {VERSION};
"""


class Head(NamedTuple):
    """A conversation as a list names it; `used` is when something was last asked in it."""

    id: str
    title: str
    used: float


class Store:
    """The conversations of one owner; any thread may call it. Without a `file` they are in memory, 8 MB at most."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None

    def keep(self, chat: Chat, turns: Iterable[Turn] = ()) -> None:
        """Write down what is in view and these turns; all turns, where the conversation is not here (any more)."""
        with self._writing() as db:
            is_here = db.execute("UPDATE chats SET leaf = ? WHERE id = ?", (chat.leaf, chat.id)).rowcount
            if not is_here:
                row = (chat.id, chat.title.translate(HALVES), chat.leaf, time.time())
                db.execute("INSERT INTO chats VALUES (?, ?, ?, ?)", row)
                _index(db, chat.id, chat.id, chat.title)
                turns = [*chat.tree.values(), *turns]
            for turn in turns:
                _write(db, chat.id, turn)
                db.execute("UPDATE chats SET used = max(used, ?) WHERE id = ?", (turn.at, chat.id))

    def update(self, chat: str, turn: Turn) -> None:
        """Write down a turn as it is now, unless its conversation was deleted meanwhile."""
        with self._writing() as db:
            if db.execute("SELECT 1 FROM chats WHERE id = ?", (chat,)).fetchone():
                _write(db, chat, turn)

    def read(self, chat: str) -> Chat | None:
        """Return a conversation; None where there is none of that name."""
        with self._reading() as db:
            row = db.execute("SELECT id, title, leaf FROM chats WHERE id = ?", (chat,)).fetchone()
            bodies = db.execute("SELECT body FROM turns WHERE chat = ? ORDER BY rowid", (chat,)).fetchall()
        if row is None:
            return None
        turns = [turn for turn in map(self._turn, bodies) if turn is not None]
        return Chat(id=row[0], title=row[1], leaf=row[2], tree={turn.id: turn for turn in turns})

    def listed(self, most: int | None = None) -> list[Head]:
        """Return the conversations, the one that was last used first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, title, used FROM chats ORDER BY used DESC, id LIMIT ?", (most or -1,)
            ).fetchall()
        return [Head(*row) for row in rows]

    def search(self, text: str, most: int = MOST_FOUND) -> list[Head]:
        """Return conversations whose title, or one turn of which, holds every word; the one last used first.

        Parts of words are found, too, however long: Korean has particles behind them, and no spaces where it likes.
        """
        wanted = words.folded(text).split()
        if not wanted:
            return self.listed(most)
        holds = " AND ".join(["instr(words.text, ?)"] * len(wanted))
        query = (  # from the newest turn on, and no further than needed: a common word stands everywhere
            "SELECT id, title, used FROM chats WHERE id IN (SELECT DISTINCT chat FROM pairs JOIN words"
            f" ON number = pairs.rowid WHERE pairs MATCH ? AND {holds} ORDER BY pairs.rowid DESC LIMIT ?)"
            " ORDER BY used DESC, id"
        )
        with self._reading() as db:
            return [Head(*row) for row in db.execute(query, (words.query(wanted), *wanted, most))]

    def rename(self, chat: str, title: str) -> None:
        """Give a conversation another title; an empty one changes nothing."""
        if not (title := title_of(title.translate(HALVES))):
            return
        with self._writing() as db:
            if db.execute("UPDATE chats SET title = ? WHERE id = ?", (title, chat)).rowcount:
                _index(db, chat, chat, title)

    def delete(self, chat: str) -> None:
        """Remove a conversation with all its turns."""
        with self._writing() as db:
            for row in db.execute("SELECT number, text FROM words WHERE chat = ?", (chat,)).fetchall():
                _forget(db, *row)
            db.execute("DELETE FROM words WHERE chat = ?", (chat,))
            db.execute("DELETE FROM chats WHERE id = ?", (chat,))

    def close(self) -> None:
        """Let go of the file; the next call opens it again. What is in memory alone is gone."""
        with self._lock:
            self._let_go()

    def _turn(self, row: tuple[str]) -> Turn | None:
        """Return a turn; None where its row is no turn of this version, so that the others are still read."""
        try:
            return Turn.model_validate_json(row[0])
        except ValidationError:
            return None

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            yield self._connected()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained(), (db := self._connected()):
            db.execute("BEGIN IMMEDIATE")
            yield db

    def _connected(self) -> sqlite3.Connection:
        if self._open is None:
            if self.file is not None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.file or ":memory:", timeout=WAIT_S, check_same_thread=False, isolation_level=None)
            try:
                self._prepare(db)
            except BaseException:
                db.close()
                raise
            self._open = db
        return self._open

    def _prepare(self, db: sqlite3.Connection) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            db.execute(f"PRAGMA {pragma}")
        if self.file is None:
            db.execute(f"PRAGMA max_page_count = {MEMORY // _number(db, 'page_size')}")
        if _number(db, "user_version") == 0:
            db.execute("BEGIN IMMEDIATE")
            if _number(db, "user_version") == 0:  # else another program has just made them
                for statement in filter(str.strip, SCHEMA.split(";\n")):
                    db.execute(statement)
            db.execute("COMMIT")
        if _number(db, "user_version") > VERSION:
            raise SetupError(
                worded("store.newer_madang_form", file=self.file, db=_number(db, "user_version"), version=VERSION),
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what to do where the file cannot be used: a full disk, a folder of others, a broken file."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if self.file is not None:  # the next call tries anew
                self._let_go()
            raise SetupError(
                worded("store.conversations_cannot_kept", file=self.file or worded("store.memory"), error=error),
            ) from error

    def _let_go(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])


def _write(db: sqlite3.Connection, chat: str, turn: Turn) -> None:
    body = turn.model_dump_json(exclude_defaults=True)
    db.execute(
        "INSERT INTO turns VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body", (turn.id, chat, body)
    )
    _index(db, chat, turn.id, "\n".join([turn.question, *(answer.text for answer in turn.answers.values())]))


def _index(db: sqlite3.Connection, chat: str, of: str, text: str) -> None:
    """Make a title or a turn findable by its words as they are now; a turn of another conversation stays there."""
    folded = words.folded(text)
    row = db.execute("SELECT number, text FROM words WHERE of = ?", (of,)).fetchone()
    if row is not None and row[1] == folded:
        return
    if row is not None:
        _forget(db, *row)
        db.execute("UPDATE words SET text = ? WHERE number = ?", (folded, row[0]))
        number = row[0]
    else:
        number = db.execute("INSERT INTO words (of, chat, text) VALUES (?, ?, ?)", (of, chat, folded)).lastrowid
    db.execute("INSERT INTO pairs (rowid, text) VALUES (?, ?)", (number, words.pairs(folded)))


def _forget(db: sqlite3.Connection, number: int, text: str) -> None:
    db.execute("INSERT INTO pairs (pairs, rowid, text) VALUES ('delete', ?, ?)", (number, words.pairs(text)))
