"""Whose conversations are whose, and which answers are under way in them.

The owner's are in one file of the data folder. A visitor of a Space has a shelf in memory, found by a key that the
visitor's browser alone has, and nothing of it touches the disk.
"""

import secrets
import threading
from collections import OrderedDict
from hashlib import sha256

from playground.conversations.hearing import Answering, Hearing
from playground.conversations.store import Store
from playground.conversations.turns import Chat, Turn
from playground.errors import MadangError
from playground.settings import Settings

FILE = "conversations.db"
MOST_VISITORS = 100
LONGEST_KEY, SHORTEST_KEY = 128, 32


class Shelf:
    """One owner's conversations, and the answers that are coming in them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._under_way: dict[str, Hearing] = {}

    def begin(self, chat: Chat, turn: Turn, answering: Answering) -> Hearing:
        """Hear the answers to the last question, and write all of it down as it comes.

        `turn` is that question with how it was asked; the one before is written again, since it loses its prompts.
        """
        written = [one for one in (chat.tree.get(turn.parent), turn) if one]
        hearing = Hearing(turn, answering, lambda now: self.store.update(chat.id, now))
        try:
            self.store.keep(chat.with_turn(turn), written)
        except MadangError as error:
            hearing.fault = error
        with self._lock:
            self._under_way = {key: one for key, one in self._under_way.items() if not one.over}
            self._under_way[turn.id] = hearing
        return hearing.start()

    def under_way(self, turn: str) -> Hearing | None:
        """Return the answers that are coming to a turn; None where it waits for none."""
        hearing = self._under_way.get(turn)
        return None if hearing is None or hearing.over else hearing

    def read(self, chat: str) -> Chat | None:
        """Return a conversation as it is now: with what is still coming, and answers that broke off marked so."""
        found = self.store.read(chat)
        for turn in list(found.tree.values()) if found else []:
            if found is None or turn.settled:
                continue
            hearing = self._under_way.get(turn.id)
            lost = {
                name: one if one.settled else one.model_copy(update={"lost": True})
                for name, one in turn.answers.items()
            }
            found = found.with_turn(hearing.turn if hearing else turn.model_copy(update={"answers": lost}))
        return found


class Shelves:
    """The owner's shelf, or those of a Space's visitors, of whom the ones that came last are remembered."""

    def __init__(self, settings: Settings) -> None:
        self._visitors: OrderedDict[str, Shelf] | None = OrderedDict() if settings.mode == "space" else None
        self._owner = Shelf(Store(settings.data / FILE))
        self._lock = threading.Lock()

    @property
    def lasting(self) -> bool:
        """Return whether conversations are on the disk, and answers go on when a browser leaves."""
        return self._visitors is None

    def of(self, key: str) -> Shelf:
        """Return the shelf that a browser's key opens; the owner needs none."""
        if self._visitors is None:
            return self._owner
        name = sha256(key.encode("utf-8", "replace")).hexdigest()
        with self._lock:
            shelf = self._visitors.pop(name, None) or Shelf(Store())
            self._visitors[name] = shelf
            while len(self._visitors) > MOST_VISITORS:
                self._visitors.popitem(last=False)[1].store.close()
        return shelf


def good_key(key: object) -> str:
    """Return a key of a browser, if it is one that nobody guesses; else a fresh one."""
    if isinstance(key, str) and SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        return key
    return secrets.token_urlsafe(32)
