"""One conversation a variant, N variants, one stream of events: the heart of Madang.

Base and adapters on one set of weights go to their worker together and decode in one batch; other variants run in
their own workers at the same time. A variant that fails says why, and the others go on.
"""

import itertools
import queue
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from playground.catalogue.hub import Hub, HuggingFaceHub
from playground.catalogue.variants import Catalogue
from playground.errors import BUG_HINT, ConfigError, MadangError, WorkerError
from playground.events import Event, Failed, Finished, Progress, Stats
from playground.messages import Message
from playground.presets import MAX_SEED, Sampling
from playground.protocol import ModelSpec, RowRequest
from playground.settings import Settings
from playground.workers.loadable import Loadable, Loader
from playground.workers.pool import AnyWorker, WorkerPool

MAX_VARIANTS = 8


class Question(BaseModel):
    """What one variant is asked: its own history, ending with the user's turn, and how to sample."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    messages: tuple[Message, ...]
    sampling: Sampling


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
            raise ConfigError(f"Asked {names}: 1 to {MAX_VARIANTS} different variants.", "Choose each variant once.")
        silent = [q.variant for q in questions if not q.messages or q.messages[-1].role != "user"]
        if silent:
            raise ConfigError(f"{', '.join(silent)} got no question.", "The last message must be the user's.")
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


_row_numbers = itertools.count(1)


@dataclass(eq=False)
class Comparison:
    """The answers being made for one question. Iterating yields events until every variant has ended."""

    pool: WorkerPool
    loader: Loader
    questions: list[Question]
    _events: "queue.SimpleQueue[Event]" = field(default_factory=queue.SimpleQueue)
    _ids: dict[str, str] = field(default_factory=dict)
    _asked: dict[str, AnyWorker] = field(default_factory=dict)
    _cancelled: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Begin, a thread a base model: what waits for one download or load never holds up another model."""
        self._ids = {question.variant: f"row-{next(_row_numbers)}" for question in self.questions}
        groups: dict[str, list[Question]] = {}
        for question in self.questions:
            variant = self.loader.catalogue.get(question.variant)
            own = variant.name if variant.kind != "adapter" else variant.base
            groups.setdefault(own, []).append(question)
        for name, group in groups.items():
            threading.Thread(target=self._run, args=(group,), name=f"ask {name}", daemon=True).start()

    def __iter__(self) -> Iterator[Event]:
        open_variants = {question.variant for question in self.questions}
        while open_variants:
            event = self._events.get()
            if event.variant not in open_variants:
                continue  # a late word of a row that has ended
            if isinstance(event, Finished | Failed):
                open_variants.discard(event.variant)
            yield event

    def cancel(self, variants: Sequence[str] | None = None) -> None:
        """Stop some or all variants; each still ends with Finished, its reason `cancelled`."""
        for name in variants if variants is not None else list(self._ids):
            with self._lock:
                self._cancelled.add(name)
                worker = self._asked.get(name)
            if worker is not None:
                worker.cancel([self._ids[name]])
            else:
                self._events.put(_never_began(name))

    def _run(self, group: list[Question]) -> None:
        """Make the group's variants loadable, then ask each worker for all of its rows at once."""
        by_spec: dict[ModelSpec, list[tuple[Question, Loadable]]] = {}
        with self._failing([question.variant for question in group]):
            for question in group:
                with self._failing([question.variant]):
                    loadable = self._loadable(question.variant)
                    by_spec.setdefault(loadable.spec, []).append((question, loadable))
        for item in by_spec.items():
            threading.Thread(target=self._ask, args=item, daemon=True).start()

    def _loadable(self, name: str) -> Loadable:
        def progress(done: float, what: str) -> None:
            if name in self._cancelled:
                raise WorkerError(f"{name} was cancelled while it was being downloaded.")
            self._events.put(Progress(variant=name, step="downloading", fraction=done, detail=what))

        return self.loader.loadable(self.loader.catalogue.get(name), progress)

    def _ask(self, spec: ModelSpec, items: list[tuple[Question, Loadable]]) -> None:
        names = [question.variant for question, _ in items]
        rows = [self._row(question, loadable) for question, loadable in items]
        with self._failing(names):
            worker = self.pool.ask(spec, rows, self._events.put, _Wait(self, names))
            with self._lock:
                self._asked |= dict.fromkeys(names, worker)
                late = [self._ids[name] for name in names if name in self._cancelled]
            if late:
                worker.cancel(late)

    @contextmanager
    def _failing(self, names: list[str]) -> Iterator[None]:
        """Whatever goes wrong ends these variants, so that nobody waits for them; a bug is still raised."""
        try:
            yield
        except MadangError as error:
            self._fail(names, error)
        except Exception as error:
            self._fail(names, WorkerError(f"A fault inside Madang: {type(error).__name__}: {error}.", BUG_HINT))
            raise

    def _row(self, question: Question, loadable: Loadable) -> RowRequest:
        variant = self.loader.catalogue.get(question.variant)
        return RowRequest(
            id=self._ids[question.variant],
            variant=question.variant,
            messages=question.messages,
            sampling=question.sampling,
            prompt_format=self.loader.catalogue.prompt_format(variant),
            adapter=loadable.adapter,
        )

    def _fail(self, names: list[str], error: MadangError) -> None:
        for name in names:
            self._events.put(Failed(variant=name, message=error.message, hint=error.hint, error=type(error).__name__))


@dataclass(frozen=True)
class _Wait:
    """Tells a comparison's variants what their model is waiting for."""

    comparison: Comparison
    names: list[str]

    def queued(self, behind: str) -> None:
        self._tell("queued", behind)

    def loading(self) -> None:
        self._tell("loading", "")

    def given_up(self) -> bool:
        return self.comparison._cancelled.issuperset(self.names)

    def _tell(self, step: str, detail: str) -> None:
        for name in self.names:
            self.comparison._events.put(Progress.model_validate({"variant": name, "step": step, "detail": detail}))


def _never_began(name: str) -> Finished:
    stats = Stats(prompt_tokens=0, tokens=0, first_token_s=None, tokens_per_s=None, memory_bytes=0, dtype="")
    return Finished(variant=name, reason="cancelled", text="", stats=stats)
