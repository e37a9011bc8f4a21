"""Gradio's sessions, held to what they are worth: none keeps a copy of the page, and those who left are let go.

Gradio copies every component's configuration into each session (500 kB, 30 ms), for links into a state that this page
does not offer, and keeps the session of whoever has ever sent its name. Here a session is small, and open pages keep
theirs; of those without one the last used stay for a while, as a laptop may have slept.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, unquote

import gradio as gr
from gradio.queueing import Queue
from gradio.state_holder import SessionState, StateHolder
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from playground.server.guards.stack import route_path

CAPACITY = 1000
"""Sessions in all; beyond it the one that was used longest ago goes, open or not."""
RESTING, ASKED = 64, 256
"""Sessions without an open page that are kept: those in which nothing happened, and those with a conversation, say."""
NIGHT_S = 86_400
"""A laptop sleeps so long: Gradio's page opens no new heartbeat when it wakes."""
UNREAD = 1000
"""Messages that wait for a session; with more, nobody reads them."""
LONGEST_NAME = 64
HEARTBEAT, EVENTS = "/gradio_api/heartbeat/", "/gradio_api/queue/data"


class Session(SessionState):
    """A session's values, and of the components that changed in it those whose choices an answer is held to."""

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__(cast(gr.Blocks, SimpleNamespace(default_config=blocks.default_config, blocks={})))
        self.STATE_TTL_WHEN_CLOSED = NIGHT_S
        self._passing: tuple[int, Any] | None = None

    @property
    def is_used(self) -> bool:
        """Return whether it holds what the page did not begin with."""
        blocks = self.blocks_config.blocks
        return any(value != getattr(blocks[key], "value", None) for key, value in list(self.state_data.items()))

    def __getitem__(self, key: int) -> Any:
        """Return a value or a component; one that was just made once, as Gradio reads off it what it sends."""
        passing, self._passing = self._passing, None
        return passing[1] if passing and passing[0] == key else super().__getitem__(key)

    def __setitem__(self, key: int, value: Any) -> None:
        block = self.blocks_config.blocks.get(key)
        if isinstance(block, gr.State) or hasattr(block, "choices"):  # others take the same values whatever they show
            super().__setitem__(key, value)
            self.config_values.clear()
        else:
            self._passing = (key, value)

    def _update_config(self, key: int) -> None:
        """Keep nothing: the copy is for links into a state."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Keep nothing, likewise."""


class Sessions(StateHolder):
    """Sessions by their name; those with an open page stay, of the others the last used ones."""

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._open: Counter[str] = Counter()
        blocks.state_session_capacity = CAPACITY
        self.set_blocks(blocks)

    def __getitem__(self, session_id: str) -> SessionState:
        """Return a session, a new one for a new name. Raises HTTPException for a name that no page makes."""
        if len(session_id) > LONGEST_NAME:
            raise HTTPException(400, "A session's name is shorter.")
        if self._is_unread(session_id):
            self.drop(session_id)
        if session_id not in self.session_data:
            self._make_room()
            self.session_data[session_id] = Session(self.blocks)
        return super().__getitem__(session_id)

    @contextmanager
    def opened(self, name: str) -> Iterator[None]:
        """Keep a session while somebody reads a stream of it, also one that had been left and comes back."""
        self._open[name] += 1
        if name in self.session_data:
            self.session_data[name].is_closed = False
        try:
            yield
        finally:
            self._open[name] -= 1
            self._open += Counter()  # forgets those at nought

    def drop(self, name: str) -> None:
        """Let a session go, with what waits for it in the queue."""
        self.session_data.pop(name, None)
        self.time_last_used.pop(name, None)
        for event in self._queue.event_ids_to_events.values():
            if event.session_hash == name:
                event.alive = False
        self._queue.pending_messages_per_session.pop(name, None)
        self._queue.pending_event_ids_session.pop(name, None)

    def _make_room(self) -> None:
        resting = {name: cast(Session, kept) for name, kept in self.session_data.items() if not self._open[name]}
        if len(resting) < RESTING:
            return
        used = [name for name, state in resting.items() if state.is_used]
        unused = [name for name, state in resting.items() if not state.is_used]
        for name in used[: max(0, len(used) - ASKED)] + unused[: max(0, len(unused) + 1 - RESTING)]:
            self.drop(name)

    def _is_unread(self, name: str) -> bool:
        waiting = self._queue.pending_messages_per_session.get(name)
        return waiting is not None and waiting.qsize() > UNREAD

    @property
    def _queue(self) -> Queue:
        return self.blocks._queue


class Streams:
    """Tells the sessions which of them have an open page: those whose heartbeat or events are being read."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self.app = app
        self.sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and hold the session meanwhile."""
        name = _session(scope) if scope["type"] == "http" else ""
        if not name:
            await self.app(scope, receive, send)
        elif len(name) > LONGEST_NAME:
            await PlainTextResponse("A session's name is shorter.", 400)(scope, receive, send)
        else:
            with self.sessions.opened(name):
                await self.app(scope, receive, send)


def _session(scope: Scope) -> str:
    """Return the name of the session whose stream a request asks for; empty where it asks for none."""
    path = route_path(scope)
    if path.startswith(HEARTBEAT):
        return unquote(path.removeprefix(HEARTBEAT))
    if path.rstrip("/") == EVENTS:
        return "".join(parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [])[:1])
    return ""
