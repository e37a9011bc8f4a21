"""Runs engines from their plans to their end: starts processes, adds rows to the catalogue, watches, ends them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress

import httpx
from rich.console import Console
from rich.text import Text

from playground.engines import registry
from playground.engines.keeper import GRACE_S
from playground.engines.plan import Plan, Wish
from playground.errors import SetupError, WorkerError
from playground.settings import Settings
from playground.system.interrupts import interruptible
from playground.system.locks import locked
from playground.system.logs import error_line, last_line, new_log
from playground.system.ports import check_port
from playground.system.processes import ending, group, kill, wait_or_kill
from playground.wording import worded

KEEPER = (sys.executable, "-m", "playground.engines.keeper")
POLL_S = 0.5
ANSWER_S = 5.0
"""How long one look at its health may take; a server that is loading may be slow to answer."""
Waiting = Callable[[float, str], None]
"""Called with the seconds waited and what the process said last."""


class Engine:
    """A running plan. Its keeper ends it when this process ends, even by a kill."""

    def __init__(self, plan: Plan, settings: Settings, key: str | None) -> None:
        self.plan, self._key = plan, key
        self.log = new_log(settings.logs_dir, f"{plan.title}-{plan.rows[0].model}")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*KEEPER, *plan.command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=plan.full_environment(key) | {"PYTHONUNBUFFERED": "1"},
                start_new_session=os.name == "posix",
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The keeper's process id, for tests and for people who look at it."""
        return self._process.pid

    def wait_ready(self, limit_s: float, waiting: Waiting = lambda seconds, said: None) -> None:
        """Block until `/health` answers 200.

        Raises WorkerError where the process ends first or takes too long, or where another server answers in its
        place, and the plan's own error where the log says that answers would be wrong.
        """
        began = time.monotonic()
        while (passed := time.monotonic() - began) < limit_s:
            if not self.alive:
                raise self.epitaph(worded("engine_process.before_ready"))
            healthy = self._healthy()
            self._check_log()
            if healthy and self._has_its_models():
                return
            waiting(passed, last_line(self.log))
            time.sleep(POLL_S)
        raise WorkerError(
            worded("engine_process.not_ready_within", title=self.plan.title, limit_s=limit_s, log=self.log),
        )

    def epitaph(self, when: str = "") -> WorkerError:
        """Return why the process ended, from its exit code and the end of its log."""
        how, said = ending(self._process.wait()), error_line(self.log)
        kill(group(self.pid))  # a keeper that was killed itself has ended nothing
        return WorkerError(
            worded(
                "engine_process.ended_log",
                title=self.plan.title,
                when=when,
                how=how,
                said=f": {said}" if said else ".",
                log=self.log,
            ),
        )

    def stop(self) -> None:
        """End the process and all that it started, and wait for that."""
        assert self._process.stdin is not None
        with suppress(OSError):  # the keeper is gone already
            self._process.stdin.close()
        wait_or_kill(self._process, GRACE_S + 5)
        kill(group(self.pid))

    def _check_log(self) -> None:
        said = self.log.read_text(errors="replace") if self.plan.wrong else ""
        for words, error in self.plan.wrong.items():
            if words in said:
                raise error

    def _has_its_models(self) -> bool:
        """Tell whether it lists the plan's models; False while it lists nothing.

        Raises WorkerError where it lists others: another server may hold the port that ours still waits for.
        """
        try:
            listed = self._get("/v1/models").json()["data"]
            found = {str(name) for row in listed for name in (row["id"], *(row.get("aliases") or ()))}
        except httpx.HTTPError:
            return False
        except (ValueError, KeyError, TypeError, AttributeError):
            found = set()
        if missing := [row.model for row in self.plan.rows if row.model not in found]:
            raise WorkerError(
                worded(
                    "engine_process.answers_not_serve",
                    address=self.plan.address,
                    missing=", ".join(map(str, missing)),
                    found=worded("engine_process.others_found", found=", ".join(sorted(found))) if found else "",
                    log=self.log,
                ),
            )
        return True

    def _get(self, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        return httpx.get(f"{self.plan.address}{path}", headers=headers, timeout=ANSWER_S, trust_env=False)

    def _healthy(self) -> bool:
        try:
            answer = self._get("/health")
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and self.alive


def run(plans: list[Plan], wish: Wish, limit_s: float, keep: bool) -> None:
    """Start the engines one after another, put them into the catalogue, and stay until Ctrl-C or until one ends."""
    with ExitStack() as ports:
        for plan in plans:
            ports.enter_context(_claimed(plan, wish.settings))
        _run(plans, wish, limit_s, keep)


def _run(plans: list[Plan], wish: Wish, limit_s: float, keep: bool) -> None:
    console = Console(stderr=True)
    _check(plans, wish.settings)
    registration = registry.Registration(wish.settings)
    engines: list[Engine] = []
    try:
        with interruptible():
            for plan in plans:
                engines.append(Engine(plan, wish.settings, wish.key))
                _until_ready(engines[-1], console, limit_s)
                registration.add(plan.rows)
                _announce(console, engines[-1])
            if keep:
                registration.keep()
            _until_one_ends(engines)
    except KeyboardInterrupt:
        console.print("Stopped.")
    finally:
        for fault in registration.remove():
            console.print(Text(fault, "yellow"), soft_wrap=True)
        for engine in engines:
            engine.stop()


def _check(plans: list[Plan], settings: Settings) -> None:
    """Refuse what would fail only after a long wait."""
    for plan in plans:
        if plan.missing:
            raise SetupError(
                worded("engine_process.not_here", title=plan.title, missing=plan.missing, shown=plan.shown)
            )
        check_port(plan.host, plan.port)
    registry.check_names(settings, [row for plan in plans for row in plan.rows])


def _claimed(plan: Plan, settings: Settings) -> AbstractContextManager[None]:
    """Hold a port against other engines of ours, by a lock file.

    vLLM binds its port minutes before it listens, and lets others bind it too: no look at the port tells.
    """
    refusal = SetupError(
        worded("engine_process.port_held_another", port=plan.port, port2=plan.port + 1),
    )
    return locked(settings.data / "engines" / f"port-{plan.port}.lock", refusal)


def _until_ready(engine: Engine, console: Console, limit_s: float) -> None:
    title = f"Starting {engine.plan.title} on port {engine.plan.port}"
    console.print(Text(f"{title}. Its log: {engine.log}"), soft_wrap=True)
    with console.status(Text(title)) as status:
        engine.wait_ready(limit_s, lambda seconds, said: status.update(Text(f"{title}, {seconds:.0f} s: {said[:100]}")))


def _announce(console: Console, engine: Engine) -> None:
    names = [row.name for row in engine.plan.rows]
    console.print(Text(f"Ready at {engine.plan.address}/v1, in the catalogue as {', '.join(names)}."), soft_wrap=True)
    console.print(Text(f"Try it: madang chat -v {names[-1]}    Ctrl-C ends it."), soft_wrap=True)


def _until_one_ends(engines: Sequence[Engine]) -> None:
    """Wait until the first engine ends, and raise WorkerError with its last words."""
    while True:
        for engine in engines:
            if not engine.alive:
                raise engine.epitaph()
        time.sleep(POLL_S)
