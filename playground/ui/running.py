"""What each session has under way, and which questions wait behind it: stop or a closed tab can end it at once."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from playground.conversations.turns import Chat, fresh_id
from playground.page.events import Values

MOST_PARKED = 50


class Cancellable(Protocol):
    """What this needs of a comparison."""

    def cancel(self) -> None:
        """End it soon; callable from any thread."""
        ...


class Claim:
    """Holds a session's place until its comparison begins."""

    def cancel(self) -> None:
        """Do nothing: nothing runs yet."""


@dataclass(frozen=True)
class Waiting:
    """A question, and the form as it stood when it was sent. `key` names it among those that wait."""

    question: str
    values: Values
    key: str = ""


class Running:
    """One comparison a session at most. An object of the page, never a global: pages and tests do not meet."""

    def __init__(self) -> None:
        self.admitting = threading.Lock()
        """Held from the question whether one more may begin until it has begun."""
        self._lock = threading.Lock()
        self._by_session: dict[str, Cancellable] = {}
        self._visitors: dict[str, str] = {}
        self._waiting: dict[str, list[Waiting]] = {}
        self._newest: dict[str, str] = {}
        self._left: dict[str, Chat] = {}
        self._parked: OrderedDict[str, Waiting] = OrderedDict()

    def claim(self, session: str, asked: Waiting) -> Claim | None:
        """Return a hold on the session's place; None where answers run: then the question waits its turn.

        The question that was sent last, sent once more, is a double click and does not wait a second time.
        """
        with self._lock:
            is_again = self._newest.get(session) == asked.question
            self._newest[session] = asked.question
            if session not in self._by_session:
                claim = self._by_session[session] = Claim()
                return claim
            if not is_again:
                line = self._waiting.setdefault(session, [])
                line.append(Waiting(asked.question, asked.values, fresh_id()))
            return None

    def held(self, but: str) -> Counter[str]:
        """Return how many comparisons are under way for each visitor; `but`: the session that asks, and has one."""
        with self._lock:
            return Counter(visitor for session, visitor in self._visitors.items() if session != but)

    def begin(self, session: str, comparison: Cancellable, visitor: str = "") -> None:
        """Make this the session's comparison, and count it with those of its visitor; an older one is cancelled."""
        with self._lock:
            older = self._by_session.get(session)
            self._by_session[session] = comparison
            self._visitors[session] = visitor
            self._left.pop(session, None)
        if older is not None:
            older.cancel()

    def is_current(self, session: str, comparison: Cancellable) -> bool:
        """Return whether the session still waits for this comparison."""
        return self._by_session.get(session) is comparison

    def busy(self, session: str) -> bool:
        """Return whether the session has a comparison under way."""
        return session in self._by_session

    def waiting(self, session: str) -> list[Waiting]:
        """Return the questions that wait their turn, the next one first."""
        return list(self._waiting.get(session, ()))

    def following(self, session: str, comparison: Cancellable) -> Waiting | None:
        """Return the question whose turn it is after this comparison; where none waits, the session is free."""
        with self._lock:
            if self._by_session.get(session) is not comparison:
                return None
            if line := self._waiting.get(session):
                return line.pop(0)
            self._forget(session)
            return None

    def take_back(self, session: str, key: str) -> Waiting | None:
        """Take one question out of those that wait; None where its turn has come."""
        with self._lock:
            line = self._waiting.get(session, [])
            found = next((one for one in line if one.key == key), None)
            if found:
                line.remove(found)
                self._newest.pop(session, None)
            return found

    def park(self, waited: Sequence[Waiting]) -> None:
        """Keep questions that waited when their browser left: a reload is a session of its own, and asks for them."""
        with self._lock:
            self._parked |= {one.key: one for one in waited}
            while len(self._parked) > MOST_PARKED:
                self._parked.popitem(last=False)

    def adopt(self, session: str, keys: Sequence[str]) -> None:
        """Have questions wait in this session that waited in one before, by the keys that its browser alone knows."""
        with self._lock:
            for key in keys:
                found = self._parked.pop(key, None)
                for line in self._waiting.values():
                    for one in [one for one in line if one.key == key]:
                        line.remove(one)
                        found = one
                if found:
                    self._waiting.setdefault(session, []).append(found)

    def stop(self, session: str) -> list[Waiting]:
        """Cancel; the session still hears how every answer ended. Return what waited, which is asked no more."""
        with self._lock:
            comparison = self._by_session.get(session)
            waited = self._waiting.pop(session, [])
            self._newest.pop(session, None)
        if comparison is not None:
            comparison.cancel()
        return waited

    def drop(self, session: str, left: Chat | None = None, cancel: bool = True) -> list[Waiting]:
        """Forget what is under way, and cancel it unless others may look at it. Return what waited behind it.

        `left`: the conversation as it stands now, which `settled` shows once the last of the answers has been drawn.
        """
        with self._lock:
            comparison = self._by_session.get(session)
            waited = self._forget(session)
            if left is not None:
                self._left[session] = left
        if comparison is not None and cancel:
            comparison.cancel()
        return waited

    def left(self, session: str) -> Chat | None:
        """Return, once, what was left of a conversation whose answers were dropped."""
        with self._lock:
            return self._left.pop(session, None) if session not in self._by_session else None

    def _forget(self, session: str) -> list[Waiting]:
        self._by_session.pop(session, None)
        self._newest.pop(session, None)
        self._visitors.pop(session, None)
        self._left.pop(session, None)
        return self._waiting.pop(session, [])
