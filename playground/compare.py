"""One conversation per variant, N variants, one stream of events: the heart of Madang.

Base and adapters on one set of weights go to their worker together and decode in one batch; other variants run in
their own workers at the same time. A variant that fails says why, and the others go on.
"""

import queue
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from playground.catalogue.hub import Hub, HuggingFaceHub
from playground.catalogue.variants import Catalogue
from playground.errors import ConfigError, MadangError, WorkerError, bug
from playground.events import Event, Failed, Finished, Progress, Step
from playground.messages import Message
from playground.presets import MAX_SEED, Sampling
from playground.protocol import ModelSpec, RowRequest
from playground.settings import Settings
from playground.thinking.asked import Thinking
from playground.values import Value
from playground.wording import worded
from playground.workers.loadable import Loadable, Loader
from playground.workers.pool import WorkerPool
from playground.workers.tickets import Rows, Ticket

MAX_VARIANTS = 8


class Question(Value):
    """What one variant is asked: its own history, ending with the user's turn; how to think about it and to sample.

    With `continues` it ends with the beginning of an answer, from which the model goes on.
    """

    variant: str
    messages: tuple[Message, ...]
    sampling: Sampling
    thinking: Thinking = Thinking()
    template_options: dict[str, Any] = Field(default_factory=dict)
    continues: bool = False
    parse_special: bool = False
    """Whether control tokens that a message types are read as such; else they are text."""
    group: str = ""
    """Whose question it is, where several people share a model: those with fewer answers under way go first."""


class Playground:
    """The catalogue and the workers of this process. `ask` starts a comparison; `close` stops every worker."""

    def __init__(self, settings: Settings, hub: Hub | None = None, pool: WorkerPool | None = None) -> None:
        self.settings = settings
        self.hub: Hub = hub or HuggingFaceHub()
        self.pool = pool or WorkerPool(settings)

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue as its files are now."""
        return Catalogue.load(self.settings)

    def ask(self, questions: Sequence[Question]) -> "Comparison":
        """Start answering; iterate over the result for its events, and `cancel` it from any thread.

        Raises ConfigError or UnknownNameError before anything starts; later faults are Failed events.
        """
        names = [question.variant for question in questions]
        if not names or len(names) > MAX_VARIANTS or len(set(names)) < len(names):
            raise ConfigError(worded("compare.asked_different_variants", names=names, max_variants=MAX_VARIANTS))
        last = {True: "assistant", False: "user"}
        silent = [q.variant for q in questions if not q.messages or q.messages[-1].role != last[q.continues]]
        if silent and any(question.continues for question in questions):
            raise ConfigError(worded("compare.got_no_answer", silent=", ".join(silent)))
        if silent:
            raise ConfigError(worded("compare.got_no_question", silent=", ".join(silent)))
        loader = Loader(self.settings, self.catalogue, self.hub)
        for name in names:
            loader.catalogue.get(name)
        seed = random.randrange(MAX_SEED)  # the same for every variant that brings none, so that they compare
        comparison = Comparison(self.pool, loader, [_seeded(question, seed) for question in questions])
        comparison.start()
        return comparison

    def close(self) -> None:
        """Stop every worker."""
        self.pool.close()


def _seeded(question: Question, seed: int) -> Question:
    if question.sampling.seed is not None:
        return question
    return question.model_copy(update={"sampling": question.sampling.model_copy(update={"seed": seed})})


@dataclass(eq=False)
class Comparison:
    """The answers being made to one question. Iterating yields events until every variant has ended."""

    pool: WorkerPool
    loader: Loader
    questions: list[Question]
    _events: "queue.SimpleQueue[Event]" = field(default_factory=queue.SimpleQueue)
    _tickets: dict[str, Ticket] = field(init=False)

    def __post_init__(self) -> None:
        self._tickets = {question.variant: Ticket(question.variant, self._events.put) for question in self.questions}

    def start(self) -> None:
        """Start one thread per base model: what waits for one download or load never holds up another model."""
        groups: dict[str, list[Question]] = {}
        for question in self.questions:
            variant = self.loader.catalogue.get(question.variant)
            own = variant.name if variant.kind != "adapter" else variant.base
            groups.setdefault(own, []).append(question)
        for name, group in groups.items():
            threading.Thread(target=self._run, args=(group,), name=f"ask {name}", daemon=True).start()

    def __iter__(self) -> Iterator[Event]:
        unfinished = len(self._tickets)
        while unfinished:
            event = self._events.get()
            unfinished -= isinstance(event, Finished | Failed)
            yield event

    def cancel(self, variants: Sequence[str] | None = None) -> None:
        """Stop some or all variants; each still ends with Finished, its reason `cancelled`."""
        for name in variants if variants is not None else self._tickets:
            self._tickets[name].cancel()

    def _run(self, group: list[Question]) -> None:
        """Make the group's variants loadable, then ask each worker for all of its rows at once."""
        by_spec: dict[ModelSpec, list[tuple[Ticket, RowRequest]]] = {}
        with _failing([self._tickets[question.variant] for question in group]):
            for question in group:
                ticket = self._tickets[question.variant]
                with _failing([ticket]):
                    loadable = self._loadable(ticket)
                    by_spec.setdefault(loadable.spec, []).append((ticket, self._row(question, loadable)))
        for item in by_spec.items():
            threading.Thread(target=self._submit, args=item, daemon=True).start()

    def _loadable(self, ticket: Ticket) -> Loadable:
        """Fetch what the variant still lacks here, unless its ticket is cancelled meanwhile."""

        def progress(done: float, what: str) -> None:
            if ticket.cancelled:
                raise WorkerError(worded("compare.cancelled_while_being", variant=ticket.variant))
            ticket.deliver(Progress(variant=ticket.variant, step="downloading", fraction=done, detail=what))

        return self.loader.loadable(self.loader.catalogue.get(ticket.variant), progress)

    def _submit(self, spec: ModelSpec, rows: Rows) -> None:
        tickets = [ticket for ticket, _ in rows]

        def notify(step: Step, detail: str) -> None:
            for ticket in tickets:
                ticket.deliver(Progress(variant=ticket.variant, step=step, detail=detail))

        with _failing(tickets):
            self.pool.submit(spec, rows, notify)

    def _row(self, question: Question, loadable: Loadable) -> RowRequest:
        return RowRequest(
            variant=question.variant,
            messages=question.messages,
            sampling=question.sampling,
            thinking=question.thinking,
            template_options=question.template_options,
            continues=question.continues,
            parse_special=question.parse_special,
            group=question.group,
            prompt_format=loadable.prompt_format,
            adapter=loadable.adapter,
        )


@contextmanager
def _failing(tickets: Sequence[Ticket]) -> Iterator[None]:
    """End these tickets with whatever goes wrong, so that nobody waits for them; a bug is still raised."""

    def fail(error: MadangError) -> None:
        for ticket in tickets:
            ticket.fail(error)

    try:
        yield
    except MadangError as error:
        fail(error)
    except Exception as error:
        told = bug(error)
        fail(told)
        if isinstance(told, WorkerError):
            raise
