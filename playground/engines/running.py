"""Runs engines from their plans to their end: checks, starts, adds to the catalogue, watches, takes out. Prints it."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack

from rich.console import Console
from rich.markup import escape

from playground.engines import registry
from playground.engines.plan import Plan, Wish
from playground.engines.process import POLL_S, Engine
from playground.errors import SetupError
from playground.settings import Settings
from playground.system.interrupts import interruptible
from playground.system.locks import locked
from playground.system.ports import check_port


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
            console.print(escape(fault), style="yellow", soft_wrap=True)
        for engine in engines:
            engine.stop()


def _check(plans: list[Plan], settings: Settings) -> None:
    """Refuse what would fail only after a long wait."""
    for plan in plans:
        if plan.missing:
            raise SetupError(f"{plan.title} is not here.", f"{plan.missing} Or run it where it is: {plan.shown}")
        check_port(plan.host, plan.port)
    registry.check_names(settings, [row for plan in plans for row in plan.rows])


def _claimed(plan: Plan, settings: Settings) -> AbstractContextManager[None]:
    """Hold a port against other engines of ours, by a lock file.

    vLLM binds its port minutes before it listens, and lets others bind it too: no look at the port tells.
    """
    refusal = SetupError(
        f"Port {plan.port} is held by another `madang serve --engine`.",
        f"Stop it, or choose another port: --port {plan.port + 1}",
    )
    return locked(settings.data / "engines" / f"port-{plan.port}.lock", refusal)


def _until_ready(engine: Engine, console: Console, limit_s: float) -> None:
    title = f"Starting {engine.plan.title} on port {engine.plan.port}"
    console.print(f"{title}. Its log: {engine.log}", soft_wrap=True, highlight=False)
    with console.status(title) as status:
        engine.wait_ready(
            limit_s, lambda seconds, said: status.update(escape(f"{title}, {seconds:.0f} s: {said[:100]}"))
        )


def _announce(console: Console, engine: Engine) -> None:
    names = [row.name for row in engine.plan.rows]
    console.print(f"Ready at {engine.plan.address}/v1, in the catalogue as {', '.join(names)}.", soft_wrap=True)
    console.print(f"Try it: madang chat -v {names[-1]}    Ctrl-C ends it.", soft_wrap=True)


def _until_one_ends(engines: Sequence[Engine]) -> None:
    """Wait until the first engine ends, and raise WorkerError with its last words."""
    while True:
        for engine in engines:
            if not engine.alive:
                raise engine.epitaph()
        time.sleep(POLL_S)
