"""Chat templates as transformers renders them, within bounds. Everything that renders one anywhere comes through here.

They come with models and adapters, and are programs of strangers. They run in a process of their own
(playground/template_child.py), which the system ends when one computes too long or takes too much memory; rows by the
thousand, in a process that does nothing else, are rendered in that process once the first ones have gone well.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

from playground.allowance import LOOK_S, Allowance, current
from playground.settings import child_environment

PROGRAM = Path(__file__).with_name("template_child.py")
MOST_SOURCE = 1_000_000
"""Characters of a template: the longest known have 40,000."""
PROBE_S = 2.0
"""Seconds of computing for all that is found out about a template by rendering turns of ours with it."""
KEPT = 4
"""Processes that wait for the next template; more are started where more are rendered at once."""
FIRST = 32
"""Texts that a template has to write in a process of its own before it writes in bulk."""
LARGEST = 100_000
"""Letters of the turns that are rendered in bulk; larger ones go to a process of their own, too."""

WAITS = os.name == "posix"
"""Whether the system counts a process's seconds of computing, and pipes can be waited for."""


class TemplateFault(Exception):  # noqa: N818 - the template's, not ours
    """What a template raised that refuses what it is given, is broken, or passed a bound."""


FAULTS = (TemplateFault,)


def rendered(template: str, turns: Sequence[Mapping[str, Any]], opened: bool, variables: Mapping[str, Any]) -> str:
    """Return the text of some turns; raises one of FAULTS, and Cancelled where the allowance in force is given up.

    `variables`: special tokens and whatever else the template is given; a name that nobody gives is undefined in it.
    """
    given = {"messages": turns, "tools": None, "documents": None, "add_generation_prompt": opened, **variables}
    written = _bulk.get()
    if written is None or sum(len(turn.get("content") or "") for turn in turns) > LARGEST:
        return str(_answer("render", template, given))
    if written[template] >= FIRST:
        return _rendered_here(template, given)
    said = str(_answer("render", template, given))
    written[template] += 1
    return said


@contextmanager
def in_bulk() -> Iterator[None]:
    """Render in this process what a block renders, but for each template's first texts and whatever is large.

    For rows by the thousand, each of which would take longer on its way to another process than in it. A template
    still has its seconds a text, though one that waits for a later row to compute a single giant (`10 ** 10 ** 9`) is
    ended after it; its memory is this process's own. Elsewhere than on a POSIX main thread, whose clock can end it,
    nothing changes.
    """
    can_end_it = WAITS and threading.current_thread() is threading.main_thread()
    token = _bulk.set(Counter() if can_end_it else None)
    try:
        yield
    finally:
        _bulk.reset(token)


def _rendered_here(template: str, given: Mapping[str, Any]) -> str:
    from playground.template_child import render

    seconds = current().left(LARGEST)

    def end(*_: object) -> None:
        raise TemplateFault(f"it computes for more than {seconds:.1f} s")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return render(template, dict(given))
    except TemplateFault:
        raise
    except Exception as error:
        raise TemplateFault((str(error) or type(error).__name__)[:2000]) from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@lru_cache(maxsize=64)
def words(template: str) -> frozenset[str]:
    """Return every name and every text that stands in a template's code: variables, fields, and what they equal."""
    return frozenset(_answer("words", template, {}))


def _answer(do: str, source: str, given: Mapping[str, Any]) -> Any:
    if len(source) > MOST_SOURCE:
        raise TemplateFault(f"it has {len(source):,} characters, {MOST_SOURCE:,} are the most")
    allowance = current()
    try:
        data = json.dumps({"source": source, "given": given}, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise TemplateFault(f"it cannot be given {error}") from error
    seconds = allowance.left(len(data), len(given.get("messages", ())))
    if seconds <= 0:
        raise TemplateFault("it takes too long")
    line = f'{{"do": "{do}", "seconds": {seconds}, {data[1:]}'
    found = _asked(line, seconds, allowance) or _asked(line, seconds, allowance)  # somebody killed it: once more
    if found is None:
        raise TemplateFault("the process that renders it is killed each time")
    allowance.take(found["seconds"])
    if "fault" in found:
        raise TemplateFault(found["fault"])
    return found["value"]


def _asked(line: str, seconds: float, allowance: Allowance) -> dict[str, Any] | None:
    """Return what a child answers; None where somebody else killed it. Raises TemplateFault where it ended over it."""
    child = _take()
    try:
        found = child.ask(line, seconds, allowance)
    except BaseException:
        child.end()
        raise
    if found is not None:
        _give_back(child)
        return found
    child.end()
    if child.was_killed:
        return None
    allowance.take(seconds)
    raise TemplateFault(child.why(seconds))


def _plain(value: object) -> object:
    """Return what JSON can write of a variable: a mapping as an object, all else as a template would print it."""
    return dict(value) if isinstance(value, Mapping) else str(value)


class _Child:
    """One process that renders, and the pipes to it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment({}),
            start_new_session=os.name == "posix",
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._into, self._from = self._process.stdin, self._process.stdout
        self._from.readline()

    @property
    def was_killed(self) -> bool:
        """Whether somebody else ended it: it may be asked again."""
        return self._process.returncode in (-signal.SIGTERM, -9)

    def ask(self, line: str, seconds: float, allowance: Allowance) -> dict[str, Any] | None:
        """Return the answer to a line; None where the process ended over it."""
        with suppress(OSError), self._watched(seconds):
            self._into.write(line.encode() + b"\n")
            self._into.flush()
            while WAITS and not select.select([self._from], [], [], LOOK_S)[0]:
                allowance.look()
            if (said := self._from.readline()).endswith(b"\n"):
                found: dict[str, Any] = json.loads(said)
                return found
        self._process.wait()
        return None

    @contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """End it after so many seconds on the clock where the system counts none of computing: on Windows."""
        if WAITS:
            yield
            return
        late = threading.Timer(seconds, self._process.kill)
        late.start()
        try:
            yield
        finally:
            late.cancel()

    def why(self, seconds: float) -> str:
        """Return why it ended over a template."""
        late = not WAITS or self._process.returncode == -signal.SIGPROF
        return f"it computes for more than {seconds:.1f} s" if late else "it ended the process that renders it"

    def end(self) -> None:
        """End it, and wait for that."""
        self._process.kill()
        for pipe in (self._into, self._from):
            with suppress(OSError):  # what was still to be written is for nobody
                pipe.close()
        self._process.wait()


_bulk: ContextVar[Counter[str] | None] = ContextVar("bulk", default=None)
"""How many texts each template has written since a block in bulk began; None outside of one."""
_idle: list[_Child] = []


def _take() -> _Child:
    try:
        return _idle.pop()
    except IndexError:
        return _Child()


def _give_back(child: _Child) -> None:
    if len(_idle) < KEPT:
        _idle.append(child)
    else:
        child.end()


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


if WAITS:  # a forked process has no part in its parent's conversation
    os.register_at_fork(after_in_child=_idle.clear)
